"""The settings of an edge device: from flags, else `config.yaml`, else `frc.json`, else defaults."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.document import DecodeError, Document, from_dict, replace
from atoll_contract.harvest import DEVICE
from atoll_contract.stage import StoreSpec
from atoll_edge.frc import MAX_FPS, MAX_FRAME_SIDE, MAX_TEAM, FrcCamera, FrcConfig, NtMode
from atoll_edge.robot.seed_topics import Compatibility

if TYPE_CHECKING:
    import yaml

MAX_PORT = 65535
MAX_SECONDS = 86400
MAX_MEBIBYTES = 2**20
_HOST_AND_PORT = re.compile(r"[^\s:/]+(:[1-9][0-9]{0,4})?")

_Bound = tuple[str, float | None, float, float]


class ConfigError(ValueError):
    """A setting cannot be used; the text names the file and the field."""


class Verify(StrEnum):
    """How a release is verified. `digest-only` trusts everyone who can write to the bucket."""

    REQUIRED = "required"
    DIGEST_ONLY = "digest-only"


class WantedBackend(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    EDGETPU = "edgetpu"


class CameraConfig(Document, frozen=True):
    """`path`: a device (`/dev/video0`, better a stable `/dev/v4l/by-path/…`), a URL, a file or folder, or
    `synthetic`. Field of view in degrees."""

    name: str | None = None
    path: str | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    horizontal_field_of_view: float = 60.0
    vertical_field_of_view: float = 47.0


class DetectionConfig(Document, frozen=True):
    backend: WantedBackend = WantedBackend.AUTO
    # 0: all cores but one.
    threads: int = 0
    # Overrides the thresholds of the manifest.
    min_score: float | None = None
    compatibility: Compatibility = Compatibility.AXON


class StreamConfig(Document, frozen=True):
    """`name` is the name of the annotated stream for dashboards: `Axon` (2021) or `MLOut` (2019, 2020). `fps`,
    `compression`, `width` and `height` are the most that a viewer gets; `max_viewers` is for each stream, and
    `megabits_per_second` for all streams of the device."""

    enabled: bool = True
    raw_port: int = 1181
    annotated_port: int = 1182
    name: str = "Axon"
    fps: int = 15
    compression: int = 30
    width: int = 320
    height: int = 240
    max_viewers: int = 3
    megabits_per_second: float = 7.0


class HttpConfig(Document, frozen=True):
    """Without `token_file` the page has no buttons."""

    port: int = 5808
    token_file: str | None = None


class ModelConfig(Document, frozen=True):
    """Where the model comes from. `public_key_files` are PEM files of Ed25519 keys; any of them may have signed."""

    namespace: str
    name: str
    store: StoreSpec
    channel: str = "stable"
    verify: Verify = Verify.REQUIRED
    public_key_files: tuple[str, ...] = ()
    poll_seconds: float = 30.0
    match_lock: bool = True
    report_seconds: float = 60.0


class HarvestConfig(Document, frozen=True):
    """Keeps frames of which the model is uncertain; needs `model`, for its bucket. `min_doubt` is in boxes (see
    `harvest.uncertainty`). `while_enabled` also harvests while the robot is enabled off the field, at practice."""

    enabled: bool = False
    interval_seconds: float = 10.0
    min_doubt: float = 0.5
    max_mebibytes: int = 200
    min_free_mebibytes: int = 512
    while_enabled: bool = False


class EdgeConfig(Document, frozen=True):
    """The whole configuration of one device with one camera."""

    device: str | None = None
    team: int | None = None
    # None: that of frc.json, else a client.
    nt_mode: NtMode | None = None
    # `host` or `host:port` instead of the team's addresses.
    nt_server: str | None = None
    nt_port: int = 5810
    state_dir: str = "/var/lib/atoll-edge"
    # A bundle in the image, for use until a release was verified.
    factory_bundle: str | None = None
    camera: CameraConfig = CameraConfig()
    detection: DetectionConfig = DetectionConfig()
    streams: StreamConfig = StreamConfig()
    http: HttpConfig = HttpConfig()
    model: ModelConfig | None = None
    harvest: HarvestConfig = HarvestConfig()

    @property
    def device_name(self) -> str:
        """The name in keys and topics: that of the settings, else the host's, without what a key cannot have."""
        host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
        return self.device or host or "device"


def read_config(path: Path) -> EdgeConfig:
    """Reads the configuration from a YAML file.

    Raises:
        ConfigError: it cannot be read, or has an unknown field, a wrong type, a number out of range, or settings that
            exclude each other.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        config = from_dict(EdgeConfig, {} if document is None else document)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_yaml_problem(error)}") from None
    except DecodeError as error:
        # The name of the class says nothing to who writes the file.
        text = str(error).removeprefix(f"{EdgeConfig.__name__}.")
        raise ConfigError(f"{path}: {text.replace(EdgeConfig.__name__, 'the file', 1)}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    return checked(config, f"{path}: ")


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """The line, and what to mend in it."""
    mark, problem = error.problem_mark or error.context_mark, str(error.problem or error.context)
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces; indent with spaces"
    elif "expected <block end>" in problem:
        problem = "the line is not indented as its neighbours are; give all fields of a group the same indentation"
    elif "could not find expected ':'" in problem:
        # The scanner notices it on the next line.
        mark, problem = error.context_mark or mark, 'there is no ":" after the name; write "name: value"'
    elif "mapping values are not allowed" in problem:
        problem = 'a second ":" in one value; check the indentation and the line before, or quote the text'
    return f"{mark.line + 1 if mark else 1}: {problem}"


def checked(config: EdgeConfig, where: str) -> EdgeConfig:
    """Returns `config` if all of it can be used. Raises ConfigError, whose text begins with `where`."""
    wrong = problem(config)
    if wrong:
        raise ConfigError(f"{where}{wrong}")
    return config


def with_frc(config: EdgeConfig, frc: FrcConfig | None) -> EdgeConfig:
    """Fills what `config` leaves open from frc.json: team, mode, and the camera of the same name, or the first."""
    if frc is None:
        return config
    entry = frc_camera(config, frc)
    camera = config.camera
    if entry is not None:
        camera = replace(
            camera,
            name=camera.name or entry.name,
            path=camera.path or entry.path,
            width=camera.width or entry.width,
            height=camera.height or entry.height,
            fps=camera.fps or entry.fps,
        )
    return replace(config, team=config.team or frc.team, nt_mode=config.nt_mode or frc.nt_mode, camera=camera)


def frc_camera(config: EdgeConfig, frc: FrcConfig) -> FrcCamera | None:
    """Returns the entry of frc.json with the name of the configured camera; without a name the first."""
    return next((entry for entry in frc.cameras if config.camera.name in (None, entry.name)), None)


def problem(config: EdgeConfig) -> str | None:
    """Describes the first setting that cannot be used: its name in the file, and what is allowed; None if all can."""
    for name, value, low, high in _bounds(config):
        # Written so that NaN is out of every range.
        if value is not None and not low <= value <= high:
            return f"{name} is {value:g}; it must be {low:g} to {high:g}"
    server = config.nt_server
    if server is not None and (_HOST_AND_PORT.fullmatch(server) is None or _port_of(server) > MAX_PORT):
        return f"ntServer is {server[:80]!r}; it must be host or host:port"
    streams = config.streams
    if streams.enabled and streams.raw_port == streams.annotated_port:
        return f"streams.rawPort and streams.annotatedPort are both {streams.raw_port}"
    if config.harvest.enabled and config.model is None:
        return "harvest.enabled needs model: the frames go to its store"
    if config.device is not None and DEVICE.fullmatch(config.device) is None:
        return (
            f"device is {config.device[:80]!r}; it must be 1 to 252 letters, digits and . _ -, the first of them a "
            "letter or digit: it is part of keys in the bucket"
        )
    return None


def _bounds(config: EdgeConfig) -> Iterator[_Bound]:
    """Yields the name, value, minimum and maximum of each number."""
    camera, detection, streams, harvest = config.camera, config.detection, config.streams, config.harvest
    yield "team", config.team, 1, MAX_TEAM
    yield "ntPort", config.nt_port, 1, MAX_PORT
    # 0 takes a free port.
    yield "http.port", config.http.port, 0, MAX_PORT
    yield "camera.width", camera.width, 1, MAX_FRAME_SIDE
    yield "camera.height", camera.height, 1, MAX_FRAME_SIDE
    yield "camera.fps", camera.fps, 1, MAX_FPS
    yield "camera.horizontalFieldOfView", camera.horizontal_field_of_view, 1, 179
    yield "camera.verticalFieldOfView", camera.vertical_field_of_view, 1, 179
    yield "detection.threads", detection.threads, 0, 64
    yield "detection.minScore", detection.min_score, 0, 1
    yield "streams.rawPort", streams.raw_port, 1, MAX_PORT
    yield "streams.annotatedPort", streams.annotated_port, 1, MAX_PORT
    yield "streams.fps", streams.fps, 1, MAX_FPS
    yield "streams.compression", streams.compression, 0, 100
    yield "streams.width", streams.width, 1, MAX_FRAME_SIDE
    yield "streams.height", streams.height, 1, MAX_FRAME_SIDE
    yield "streams.maxViewers", streams.max_viewers, 1, 16
    yield "streams.megabitsPerSecond", streams.megabits_per_second, 0.1, 1000
    if config.model is not None:
        yield "model.pollSeconds", config.model.poll_seconds, 1, MAX_SECONDS
        yield "model.reportSeconds", config.model.report_seconds, 1, MAX_SECONDS
    # No camera has a new frame sooner.
    yield "harvest.intervalSeconds", harvest.interval_seconds, 0.1, MAX_SECONDS
    yield "harvest.minDoubt", harvest.min_doubt, 0, 1e6
    yield "harvest.maxMebibytes", harvest.max_mebibytes, 0, MAX_MEBIBYTES
    yield "harvest.minFreeMebibytes", harvest.min_free_mebibytes, 0, MAX_MEBIBYTES


def _port_of(server: str) -> int:
    return int(server.partition(":")[2] or 0)
