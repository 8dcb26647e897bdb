"""The commands of `atoll-edge` that change or show the device's models; the running agent sees the change at once."""

import argparse
import json
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from atoll_contract.document import replace, to_json
from atoll_contract.errors import AtollError
from atoll_edge.camera.files import SourceError
from atoll_edge.config import (
    CameraConfig,
    ConfigError,
    EdgeConfig,
    WantedBackend,
    checked,
    frc_camera,
    read_config,
    with_frc,
)
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import BackendChoice, ServedModel
from atoll_edge.frc import FrcConfig, FrcError, read_frc
from atoll_edge.models import release_state as device_state
from atoll_edge.models.bundle import BundleError, served_bundle, served_file, unpack
from atoll_edge.models.manager import FixedModel, ModelManager
from atoll_edge.models.release_manager import StoreManager
from atoll_edge.models.release_state import DeviceState, Refusal, StateError
from atoll_edge.models.release_store import DeviceStore, StoreBusy
from atoll_edge.models.sideload import import_bundle
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.match import MatchMonitor
from atoll_edge.selftest import SelfTest, run_selftest
from atoll_edge.system import coral_present, is_32_bit

STATUS_SECONDS = 3
Configuration = Callable[[argparse.Namespace], EdgeConfig]


def add_commands(commands: Any, configuration: Configuration) -> None:
    """`import`, `pin`, `unpin`, `rollback` and `status`."""
    bring = commands.add_parser("import", help="bring a bundle (model.tar.gz) from a file; it stays until `unpin`")
    bring.add_argument("bundle", type=Path)
    bring.set_defaults(command=lambda options: import_command(options, configuration(options)))
    changes = {
        "pin": (device_state.pinned, "stay with the model that serves now"),
        "unpin": (device_state.unpinned, "follow the channel again"),
        "rollback": (device_state.rolled_back, "serve the model before, and stay with it"),
    }
    for name, (change, text) in changes.items():
        command = commands.add_parser(name, help=text)
        command.set_defaults(command=lambda options, change=change: change_command(change, configuration(options)))
    status = commands.add_parser("status", help="what the running agent says of itself, as JSON")
    status.set_defaults(command=lambda options: status_command(configuration(options)))
    for command in commands.choices.values():
        command.add_argument("--config", type=Path, help="settings (default /etc/atoll-edge/config.yaml)")
        command.add_argument("--state-dir", help="the device's store (default /var/lib/atoll-edge)")


def import_command(options: argparse.Namespace, config: EdgeConfig) -> int:
    device = DeviceStore(Path(config.state_dir))
    try:
        release, name = import_bundle(options.bundle, device)
    except Refusal as refusal:
        print(f"atoll-edge: refused: {refusal.message}", file=sys.stderr)
        return 2
    print(f"{name} ({release[:12]}) passed its self-test and serves next, pinned; `atoll-edge unpin` ends that")
    return 0


def change_command(change: Callable[[DeviceState], DeviceState], config: EdgeConfig) -> int:
    try:
        state = DeviceStore(Path(config.state_dir)).change(change)
    except StateError as error:
        print(f"atoll-edge: {error}", file=sys.stderr)
        return 2
    print(f"current {(state.current or 'none')[:12]}, pinned {(state.pinned or 'no')[:12]}")
    return 0


def status_command(config: EdgeConfig) -> int:
    import urllib.request  # for this command alone, and slow to load

    url = f"http://127.0.0.1:{config.http.port}/status"
    try:
        with urllib.request.urlopen(url, timeout=STATUS_SECONDS) as answer:
            print(json.dumps(json.load(answer), indent=2))
    except (OSError, ValueError) as error:
        print(f"atoll-edge: no agent answers on {url}: {error}", file=sys.stderr)
        return 1
    return 0


def add_selftest_command(commands: Any, configuration: Callable[[argparse.Namespace], EdgeConfig]) -> None:
    command = commands.add_parser("selftest", help="try this device: packages, disk, camera, Coral, inference")
    command.add_argument("--json", action="store_true", help="the whole result as one JSON document")
    command.add_argument("--bundle", type=Path, help="model.tar.gz to run (default: the model that serves)")
    command.add_argument("--inferences", type=int, help="how many (default 200 on the CPU, 500 on the Edge TPU)")
    command.set_defaults(command=lambda options: selftest_command(options, configuration(options)))


def selftest_command(options: argparse.Namespace, config: EdgeConfig) -> int:
    """Exit status 0 where no step failed."""
    state_dir = Path(config.state_dir)
    with tempfile.TemporaryDirectory(prefix="atoll-selftest-") as folder:
        model = _model(options.bundle, state_dir, Path(folder))
        result = run_selftest(model, state_dir, inferences=options.inferences)
    print(to_json(result).decode() if options.json else as_text(result))
    return 0 if result.passed else 1


def _model(bundle: Path | None, state_dir: Path, folder: Path) -> ServedModel | None:
    if bundle is not None:
        return served_bundle(bundle.name, unpack(bundle, folder / "bundle"))
    device = DeviceStore(state_dir)
    current = device.read().current
    return None if current is None else device.served(current, device.check(current))


def as_text(result: SelfTest) -> str:
    """One line for a step."""
    lines = []
    for step in result.steps:
        figures = ", ".join(f"{name} {value}" for name, value in step.figures.items())
        lines.append(f"{step.outcome:8} {step.name}: {step.message or figures}")
    return "\n".join([*lines, "passed" if result.passed else "FAILED"])


logger = logging.getLogger(__name__)

CONFIG = Path("/etc/atoll-edge/config.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; the exit status is 0, 2 where the input cannot be used, or 1 where it failed."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if is_32_bit():
        print("atoll-edge: this is a 32-bit system; install the 64-bit Raspberry Pi OS", file=sys.stderr)
        return 2
    try:
        result: int = options.command(options)
    except (ConfigError, FrcError, BundleError, SourceError, StoreBusy, AtollError) as error:
        print(f"atoll-edge: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"atoll-edge: {error}; run it with sudo, or name another --state-dir", file=sys.stderr)
        return 2
    return result


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(prog="atoll-edge", description=__doc__)
    commands = program.add_subparsers(required=True)
    run = commands.add_parser("run", help="detect, publish, serve; needs no store where a model is given")
    run.add_argument("--model", type=Path, help="serve this .tflite file and nothing else")
    run.add_argument("--labels", type=Path, help="label map of the model (map.pbtxt)")
    run.add_argument("--video", help="a video file, a folder of pictures, a URL, or `synthetic`, instead of the camera")
    run.add_argument("--team", type=int, help="team number: where the robot's NetworkTables server is")
    run.add_argument("--nt-server", help="host[:port] of a NetworkTables server instead of the team's")
    run.add_argument("--backend", type=WantedBackend, choices=list(WantedBackend), help="what runs the model")
    run.add_argument("--http-port", type=int, help="port of the status page (default 5808)")
    run.set_defaults(command=run_command)
    add_selftest_command(commands, file_settings)
    add_commands(commands, file_settings)
    return program


def run_command(options: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C."""
    config, frc, warnings = configuration(options)
    manager = model_manager(options, config)
    entry = frc_camera(config, frc) if frc is not None else None
    # They are of that camera, and of no other that the settings or a flag name.
    settings = entry.settings if entry is not None and entry.path == config.camera.path else None
    # The detector's process imports its packages while this one imports its own, which takes as long.
    first_child = DetectorClient(BackendChoice(config.detection.backend, coral_present).first)
    from atoll_edge.agent import Agent, run_until

    agent = Agent(config, manager, camera_settings=settings, warnings=warnings, first_child=first_child)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print(f"status page: http://localhost:{agent.server.port}/", flush=True)
    return 0 if run_until(agent, stop) else 1


def configuration(options: argparse.Namespace) -> tuple[EdgeConfig, FrcConfig | None, tuple[str, ...]]:
    """The settings from flags, file and frc.json, and what is worth a warning.

    A broken frc.json stops nothing; a broken config.yaml ends the program, so that nothing half-set runs.
    """
    config = file_settings(options)
    warnings: list[str] = []
    frc = None
    try:
        frc = read_frc()
    except FrcError as error:
        warnings.append(str(error))
        logger.error("%s", error)
    config = with_frc(checked(with_flags(config, options), "a flag: "), frc)
    warnings += unserved(config, frc)
    if config.team is None and config.nt_server is None:
        warnings.append("no team number: set `team` in the settings, or in frc.json; NetworkTables is not connected")
    return config, frc, tuple(warnings)


def unserved(config: EdgeConfig, frc: FrcConfig | None) -> list[str]:
    """What frc.json has and one agent does not serve."""
    if frc is None:
        return []
    entry = frc_camera(config, frc)
    others = [camera.name for camera in frc.cameras if camera is not entry]
    told = []
    if entry is not None and others:
        told.append(
            f"frc.json has {len(frc.cameras)} cameras; this agent runs {entry.name} (choose by camera.name), and not "
            + ", ".join(others)
        )
    if frc.switched:
        told.append(f"switched cameras of frc.json are not served: {', '.join(frc.switched)}")
    return told


def file_settings(options: argparse.Namespace) -> EdgeConfig:
    """The settings of the file, with the folder that the flag names."""
    path = options.config or (CONFIG if CONFIG.is_file() else None)
    config = read_config(path) if path is not None else EdgeConfig()
    return replace(config, state_dir=options.state_dir or config.state_dir)


def with_flags(config: EdgeConfig, options: argparse.Namespace) -> EdgeConfig:
    """`config` with the flags of `run`."""
    camera: CameraConfig = config.camera
    if options.video:
        camera = replace(camera, path=options.video)
    detection = replace(config.detection, backend=options.backend) if options.backend else config.detection
    http = config.http if options.http_port is None else replace(config.http, port=options.http_port)
    return replace(
        config,
        camera=camera,
        detection=detection,
        http=http,
        team=options.team or config.team,
        nt_server=options.nt_server or config.nt_server,
    )


def model_manager(
    options: argparse.Namespace, config: EdgeConfig
) -> Callable[[DetectorKeeper, MatchMonitor, Metrics], ModelManager]:
    """One file where `--model` names it; else the device's store, with a bucket where the settings name one."""
    if options.model is not None:
        model = served_file(options.model, options.labels)
        return lambda keeper, *_: FixedModel(model, keeper)
    return lambda keeper, match, metrics: StoreManager(config, keeper, match, metrics)


if __name__ == "__main__":
    sys.exit(main())
