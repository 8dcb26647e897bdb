"""`atoll-edge selftest`."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll_contract.codec import to_json
from atoll_edge.config import EdgeConfig
from atoll_edge.models.bundle import served_bundle, unpack
from atoll_edge.models.device_store import DeviceStore
from atoll_edge.models.served import ServedModel
from atoll_edge.selftest import SelfTest, run_selftest


def add_command(commands: Any, configuration: Callable[[argparse.Namespace], EdgeConfig]) -> None:
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
