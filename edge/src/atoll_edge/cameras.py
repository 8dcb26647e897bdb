"""The cameras of a device: those of the settings, else those of frc.json, with their names, ports and streams."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atoll_contract.document import replace
from atoll_edge.config import CameraConfig, EdgeConfig
from atoll_edge.frc import FrcCamera, FrcConfig
from atoll_edge.robot.seed_topics import Compatibility

# The field opens the ports 1180 to 1190: two for each camera.
MAX_CAMERAS = 5
PORTS_OF_A_CAMERA = 2
DEFAULT_NAME = "camera"


@dataclass(frozen=True)
class CameraSetup:
    """One camera as the agent runs it. `name`, which `config` has too, is its part of `/Atoll/<camera>`, and the name
    of its raw stream."""

    name: str
    config: CameraConfig
    raw_port: int
    annotated_port: int
    annotated_name: str
    compatibility: Compatibility


def camera_setups(config: EdgeConfig) -> tuple[CameraSetup, ...]:
    """Returns all cameras of `config`, in their order."""
    named = [(camera.name or default_name(index), camera) for index, (_, camera) in enumerate(listed_cameras(config))]
    with_table = config.detection.compatibility_camera or named[0][0]
    return tuple(
        CameraSetup(
            name=name,
            config=replace(camera, name=name),
            raw_port=camera.raw_port or config.streams.raw_port + PORTS_OF_A_CAMERA * index,
            annotated_port=camera.annotated_port or config.streams.annotated_port + PORTS_OF_A_CAMERA * index,
            annotated_name=config.streams.name if index == 0 else f"{config.streams.name}-{name}",
            compatibility=config.detection.compatibility if name == with_table else Compatibility.NONE,
        )
        for index, (name, camera) in enumerate(named)
    )


def listed_cameras(config: EdgeConfig) -> Iterator[tuple[str, CameraConfig]]:
    """Yields each camera with its place in the settings."""
    if not config.cameras:
        yield "camera", config.camera
    for index, camera in enumerate(config.cameras):
        yield f"cameras[{index}]", camera


def default_name(index: int) -> str:
    return DEFAULT_NAME if index == 0 else f"{DEFAULT_NAME}{index + 1}"


def cameras_problem(config: EdgeConfig) -> str | None:
    """Describes what is wrong with the cameras as such, before frc.json fills what they leave open; None if nothing."""
    if config.cameras and config.camera != CameraConfig():
        return "there are camera and cameras; move the settings of camera into the list cameras"
    if len(config.cameras) > MAX_CAMERAS:
        return f"cameras has {len(config.cameras)} entries; a device runs up to {MAX_CAMERAS}"
    setups = camera_setups(config)
    for (where, _), setup in zip(listed_cameras(config), setups, strict=True):
        if config.cameras and ("/" in setup.name or not setup.name.isprintable()):
            return f"{where}.name is {setup.name[:80]!r}; it must be printable characters without /"
    names = Counter(name for setup in setups for name in (setup.name, setup.annotated_name))
    if (repeated := _repeated(names)) is not None:
        return f"two cameras or streams are called {repeated[:80]!r}; give each camera a name of its own"
    return _ports_problem(config, setups) if config.streams.enabled else None


def _ports_problem(config: EdgeConfig, setups: tuple[CameraSetup, ...]) -> str | None:
    streams = config.streams
    if len(setups) == 1 and streams.raw_port == streams.annotated_port and setups[0].raw_port == streams.raw_port:
        return f"streams.rawPort and streams.annotatedPort are both {streams.raw_port}"
    taken = Counter(port for setup in setups for port in (setup.raw_port, setup.annotated_port))
    repeated = _repeated(taken)
    if repeated is not None:
        return f"two streams have the port {repeated}; set rawPort and annotatedPort of the cameras"
    if config.http.port in taken:
        return f"the status page and a stream both have the port {config.http.port}"
    return None


def _repeated(counts: "Counter[Any]") -> Any:
    return next((value for value, count in counts.items() if count > 1), None)


def with_frc(config: EdgeConfig, frc: FrcConfig | None) -> EdgeConfig:
    """Fills what `config` leaves open from frc.json: team, mode, and what a camera of the same name has there. Where
    the settings name no camera, all cameras of frc.json count, up to MAX_CAMERAS."""
    if frc is None:
        return config
    config = replace(config, team=config.team or frc.team, nt_mode=config.nt_mode or frc.nt_mode)
    if config.cameras:
        return replace(config, cameras=tuple(_filled(camera, _entry_of(camera, frc)) for camera in config.cameras))
    if config.camera.name is None and config.camera.path is None and len(frc.cameras) > 1:
        entries = frc.cameras[:MAX_CAMERAS]
        cameras = tuple(_filled(config.camera, _renamed(entry, config.streams.name)) for entry in entries)
        return replace(config, camera=CameraConfig(), cameras=cameras)
    first = frc.cameras[0] if frc.cameras and config.camera.name is None else _entry_of(config.camera, frc)
    return replace(config, camera=_filled(config.camera, first))


def frc_settings(config: EdgeConfig, frc: FrcConfig | None) -> dict[str, Mapping[str, Any]]:
    """Returns cscore's own settings of frc.json by the name of the camera. They count only for the camera whose path is
    that of frc.json, too, not for one that the settings or a flag put in its place."""
    entries = {entry.path: entry.settings for entry in (frc.cameras if frc is not None else ())}
    setups = camera_setups(config)
    return {setup.name: entries[setup.config.path] for setup in setups if setup.config.path in entries}


def missing_camera(config: EdgeConfig) -> str | None:
    """Describes what `config` still lacks once frc.json has filled it; None if nothing."""
    for where, camera in listed_cameras(config):
        if config.cameras and camera.path is None:
            return f"{where} ({camera.name or 'without a name'}) has no path, and frc.json has no camera of that name"
    names = [setup.name for setup in camera_setups(config)]
    wanted = config.detection.compatibility_camera
    if wanted is not None and wanted not in names:
        return f"detection.compatibilityCamera is {wanted[:80]!r}; the cameras are {', '.join(names)}"
    return None


def unserved(config: EdgeConfig, frc: FrcConfig | None) -> list[str]:
    """Returns a warning for each part of frc.json that this device does not serve."""
    if frc is None:
        return []
    paths = {camera.path for _, camera in listed_cameras(config)}
    others = [camera.name or camera.path for camera in frc.cameras if camera.path not in paths]
    warnings = []
    if others:
        names = ", ".join(setup.name for setup in camera_setups(config))
        warnings.append(
            f"frc.json has {len(frc.cameras)} cameras; this device runs {names}, and not {', '.join(others)} "
            "(choose by camera.name or cameras)"
        )
    if frc.switched:
        warnings.append(f"switched cameras of frc.json are not served: {', '.join(frc.switched)}")
    return warnings


def _entry_of(camera: CameraConfig, frc: FrcConfig) -> FrcCamera | None:
    return next((entry for entry in frc.cameras if camera.name == entry.name), None)


def _renamed(entry: FrcCamera, stream: str) -> FrcCamera:
    """Gives a camera of WPILibPi a name that can be part of a topic, and is not that of the annotated stream."""
    name = entry.name.replace("/", "-")
    return dataclasses.replace(entry, name=f"{name}-camera" if name == stream else name)


def _filled(camera: CameraConfig, entry: FrcCamera | None) -> CameraConfig:
    if entry is None:
        return camera
    return replace(
        camera,
        name=camera.name or entry.name or None,
        path=camera.path or entry.path,
        width=camera.width or entry.width,
        height=camera.height or entry.height,
        fps=camera.fps or entry.fps,
    )
