"""`atoll-edge`: the agent of one device, its self-test, and the commands that change or show the device's models."""

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
from atoll_edge.cameras import frc_settings, missing_camera, unserved, with_frc
from atoll_edge.config import EdgeConfig, WantedBackend
from atoll_edge.config_file import ConfigError, checked, read_config
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import soc_chip
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.model import Detector, LoadedModelSpec
from atoll_edge.frc import FrcConfig, FrcError, read_frc
from atoll_edge.logs import drop_camera_log, set_up_logging, take_camera_log
from atoll_edge.models import release_state
from atoll_edge.models.activation import StateChange
from atoll_edge.models.bundle import BundleError, bundle_spec, file_spec, unpack
from atoll_edge.models.manager import FixedModelManager, ModelManager, ReleaseManager
from atoll_edge.models.release_state import Refusal, StateError
from atoll_edge.models.release_store import ReleaseStore, StoreLocked
from atoll_edge.models.sideload import import_bundle
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.calibration import CalibrationError
from atoll_edge.robot.topics import MatchMonitor
from atoll_edge.selftest import Outcome, SelfTest, SelfTestResult, run_selftest
from atoll_edge.system import agent_version, is_32_bit

logger = logging.getLogger(__name__)

CONFIG = Path("/etc/atoll-edge/config.yaml")
STATUS_SECONDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit status: 0, 2 if the input cannot be used, or 1 if the command failed."""
    options = parser().parse_args(arguments)
    set_up_logging()
    if is_32_bit():
        print("atoll-edge: this is a 32-bit system; install the 64-bit Raspberry Pi OS", file=sys.stderr)
        return 2
    try:
        result: int = options.command(options)
    except (ConfigError, CalibrationError, FrcError, BundleError, SourceError, StoreLocked, AtollError) as error:
        print(f"atoll-edge: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"atoll-edge: {error}; run it with sudo, or name another --state-dir", file=sys.stderr)
        return 2
    return result


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(prog="atoll-edge", description=__doc__)
    program.add_argument("--version", action="version", version=f"atoll-edge {agent_version()}")
    commands = program.add_subparsers(required=True)
    _add_run(commands)
    _add_selftest(commands)
    _add_import(commands)
    _add_change(commands, "pin", release_state.pin, "stay with the model that serves now")
    _add_change(commands, "unpin", release_state.unpin, "follow the channel again")
    _add_change(commands, "rollback", release_state.roll_back, "serve the model before, and stay with it")
    _add_status(commands)
    for command in commands.choices.values():
        command.add_argument("--config", type=Path, help="settings (default /etc/atoll-edge/config.yaml)")
        command.add_argument("--state-dir", help="the device's store (default /var/lib/atoll-edge)")
    return program


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="detect, publish, serve; needs no store where a model is given")
    run.add_argument("--model", type=Path, help="serve this .tflite file and nothing else")
    run.add_argument("--labels", type=Path, help="labels of the model (map.pbtxt or labels.txt)")
    run.add_argument("--video", help="a video file, a folder of pictures, a URL, or `synthetic`, instead of the camera")
    run.add_argument("--team", type=int, help="team number: where the robot's NetworkTables server is")
    run.add_argument("--nt-server", help="host[:port] of a NetworkTables server instead of the team's")
    run.add_argument("--backend", type=WantedBackend, choices=list(WantedBackend), help="what runs the model")
    run.add_argument("--http-port", type=int, help="port of the status page (default 5808)")
    run.set_defaults(command=run_command)


def _add_selftest(commands: Any) -> None:
    selftest = commands.add_parser(
        "selftest", help="try this device: packages, disk, camera, Coral, ports, robot, bucket, inference"
    )
    selftest.add_argument("--json", action="store_true", help="the whole result as one JSON document")
    selftest.add_argument("--bundle", type=Path, help="model.tar.gz to run (default: the model that serves)")
    selftest.add_argument("--inferences", type=int, help="how many (default 200 on the CPU, 500 on the Edge TPU)")
    selftest.set_defaults(command=selftest_command)


def _add_import(commands: Any) -> None:
    command = commands.add_parser("import", help="bring a bundle (model.tar.gz) from a file; it stays until `unpin`")
    command.add_argument("bundle", type=Path)
    command.set_defaults(command=import_command)


def _add_change(commands: Any, name: str, change: StateChange, text: str) -> None:
    command = commands.add_parser(name, help=text)
    command.set_defaults(command=lambda options: change_command(options, change))


def _add_status(commands: Any) -> None:
    status = commands.add_parser("status", help="what the running agent says of itself, as JSON")
    status.set_defaults(command=status_command)


def run_command(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or Ctrl-C."""
    config, frc, warnings = configuration(options)
    manager = model_manager(options, config)
    settings = frc_settings(config, frc)
    # The worker imports its packages while this process imports the agent's, which takes as long.
    first_worker = DetectorClient(BackendChoice(config.detection.backend).first)
    from atoll_edge.agent import Agent, run_until

    take_camera_log()
    try:
        agent = Agent(config, manager, camera_settings=settings, warnings=warnings, first_worker=first_worker)
    except BaseException:
        first_worker.close()
        drop_camera_log()
        raise
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print(f"status page: http://localhost:{agent.server.port}/", flush=True)
    try:
        return 0 if run_until(agent, stop) else 1
    finally:
        drop_camera_log()


def selftest_command(options: argparse.Namespace) -> int:
    """Returns 0 if no step failed."""
    from atoll_edge.connections import connection_steps

    try:
        frc = read_frc()
    except FrcError as error:
        logger.error("%s", error)
        frc = None
    config = with_frc(file_settings(options), frc)
    with tempfile.TemporaryDirectory(prefix="atoll-selftest-") as folder:
        model = _selftest_model(options.bundle, Path(config.state_dir), Path(folder))
        result = run_selftest(model, config, more=connection_steps(config), inferences=options.inferences)
    print(to_json(result).decode() if options.json else as_text(result))
    return 1 if result.result is SelfTestResult.FAILED else 0


def _selftest_model(bundle: Path | None, state_dir: Path, folder: Path) -> LoadedModelSpec | None:
    if bundle is not None:
        return bundle_spec(bundle.name, unpack(bundle, folder / "bundle"))
    device = ReleaseStore(state_dir, chip=soc_chip())
    current = device.read().current
    return None if current is None else device.model_spec(current, device.check(current))


def as_text(result: SelfTest) -> str:
    """Formats a self-test with one line for each step."""
    lines = []
    for step in result.steps:
        figures = ", ".join(f"{name} {value}" for name, value in step.figures.items())
        lines.append(f"{step.outcome:8} {step.name}: {step.message or figures}")
    skipped = [step.name for step in result.steps if step.outcome is Outcome.SKIPPED]
    if result.result is SelfTestResult.FAILED:
        lines.append("FAILED")
    else:
        lines.append(f"incomplete: not tried: {', '.join(skipped)}" if skipped else "passed")
    return "\n".join(lines)


def import_command(options: argparse.Namespace) -> int:
    device = ReleaseStore(Path(file_settings(options).state_dir))
    try:
        release, name = import_bundle(options.bundle, device)
    except Refusal as refusal:
        print(f"atoll-edge: refused: {refusal.message}", file=sys.stderr)
        return 2
    print(f"{name} ({release[:12]}) passed its self-test and serves next, pinned; `atoll-edge unpin` ends that")
    return 0


def change_command(options: argparse.Namespace, change: StateChange) -> int:
    """Changes the device's state, which the running agent then follows."""
    try:
        state = ReleaseStore(Path(file_settings(options).state_dir)).change(change)
    except StateError as error:
        print(f"atoll-edge: {error}", file=sys.stderr)
        return 2
    print(f"current {(state.current or 'none')[:12]}, pinned {(state.pinned or 'no')[:12]}")
    return 0


def status_command(options: argparse.Namespace) -> int:
    import urllib.request  # for this command alone, and slow to load

    url = f"http://127.0.0.1:{file_settings(options).http.port}/status"
    try:
        with urllib.request.urlopen(url, timeout=STATUS_SECONDS) as response:
            print(json.dumps(json.load(response), indent=2))
    except (OSError, ValueError) as error:
        print(f"atoll-edge: no agent answers on {url}: {error}", file=sys.stderr)
        return 1
    return 0


def configuration(options: argparse.Namespace) -> tuple[EdgeConfig, FrcConfig | None, tuple[str, ...]]:
    """Returns the settings of flags, file and frc.json, the content of frc.json, and warnings.

    A broken frc.json or field in it is only a warning; a broken config.yaml ends the program: it must not run with half
    its settings.
    """
    config = file_settings(options)
    warnings: list[str] = []
    frc = None
    try:
        frc = read_frc()
    except FrcError as error:
        warnings.append(str(error))
        logger.error("%s", error)
    for warning in frc.warnings if frc is not None else ():
        warnings.append(warning)
        logger.warning("%s", warning)
    config = with_frc(checked(with_flags(config, options), "a flag: "), frc)
    if missing := missing_camera(config):
        raise ConfigError(missing)
    warnings += unserved(config, frc)
    if config.team is None and config.nt_server is None:
        warnings.append("no team number: set `team` in the settings, or in frc.json; NetworkTables is not connected")
    return config, frc, tuple(warnings)


def file_settings(options: argparse.Namespace) -> EdgeConfig:
    """Returns the settings of the file, with the state folder of the flag."""
    path = options.config or (CONFIG if CONFIG.is_file() else None)
    config = read_config(path) if path is not None else EdgeConfig()
    return replace(config, state_dir=options.state_dir or config.state_dir)


def with_flags(config: EdgeConfig, options: argparse.Namespace) -> EdgeConfig:
    """Returns `config` with the flags of `run`."""
    camera, cameras = config.camera, config.cameras
    if options.video:
        # In place of all cameras of the settings.
        camera, cameras = replace(cameras[0] if cameras else camera, path=options.video), ()
    detection = replace(config.detection, backend=options.backend) if options.backend else config.detection
    http = config.http if options.http_port is None else replace(config.http, port=options.http_port)
    return replace(
        config,
        camera=camera,
        cameras=cameras,
        detection=detection,
        http=http,
        team=options.team or config.team,
        nt_server=options.nt_server or config.nt_server,
    )


def model_manager(
    options: argparse.Namespace, config: EdgeConfig
) -> Callable[[Detector, MatchMonitor, Metrics], ModelManager]:
    """Returns what makes the model manager: for the file that `--model` names, else for the device's releases."""
    if options.model is not None:
        model = file_spec(options.model, options.labels)
        return lambda detector, *_: FixedModelManager(model, detector)
    return lambda detector, match, metrics: ReleaseManager(config, detector, match, metrics)


if __name__ == "__main__":
    sys.exit(main())
