"""`atoll-edge`: run the device, look at it, and bring models to it by hand."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from atoll_contract.errors import AtollError
from atoll_edge.cli_models import add_commands
from atoll_edge.cli_selftest import add_command as add_selftest
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
from atoll_edge.detector.choice import BackendChoice
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.keeper import DetectorKeeper
from atoll_edge.detector.usb import coral_present
from atoll_edge.frames.pictures import SourceError
from atoll_edge.frc import FrcConfig, FrcError, read_frc
from atoll_edge.models.bundle import BundleError, served_file
from atoll_edge.models.device_store import StoreBusy
from atoll_edge.models.manager import FixedModel, ModelManager
from atoll_edge.models.store_manager import StoreManager
from atoll_edge.robot.match import MatchMonitor
from atoll_edge.system import is_32_bit
from atoll_edge.web.metrics import Metrics

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
    add_selftest(commands, file_settings)
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
