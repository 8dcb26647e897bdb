"""The stages' programs that look and measure, started as processes with JSON out: the lint and the timing."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from atoll_contract.codec import DecodeError, from_json
from atoll_contract.errors import SpecError
from atoll_contract.lint import LintReport
from atoll_contract.stage import Architecture
from atoll_contract.timing import Timing

T = TypeVar("T")

LINT_SECONDS = 3600
TIMING_SECONDS = 600


class ToolMissing(SpecError):
    """The program did not answer: most likely its extra is not installed here."""


def inspected(paths: Sequence[Path]) -> LintReport:
    """What a run would make of the archives, taken together as one data set.

    Raises:
        ToolMissing: the convert stage is not installed here.
        SpecError: it took too long.
    """
    shown = ", ".join(str(path) for path in paths)
    arguments = ["atoll_stages.convert", "--lint", *(str(path) for path in paths), "--json"]
    return _asked(LintReport, arguments, seconds=LINT_SECONDS, what=f"{shown} could not be checked", extra="stages")


def timed(look: LintReport, architecture: Architecture, *, on_cpu: str, on_gpu: str, steps: int) -> Timing:
    """How fast this machine trains on what `look` has seen; the settings (as `0.5x8`) are those without and with a
    GPU, and the one that TensorFlow would train with is timed.

    Raises:
        ToolMissing: the train stage is not installed here.
        SpecError: it took too long.
    """
    split = look.split or {}
    validation = split.get("validation", 0)
    options = {
        "--time": str(architecture),
        "--on-cpu": on_cpu,
        "--on-gpu": on_gpu,
        "--steps": str(steps),
        "--classes": str(max(1, len(look.classes))),
        "--train": str(split.get("train", 0)),
        "--validation": str(validation),
        "--measured": str(split.get("test") or validation),
    }
    arguments = ["atoll_stages.train", *(part for option in options.items() for part in option)]
    return _asked(Timing, arguments, seconds=TIMING_SECONDS, what="this machine could not be timed", extra="train")


def _asked(cls: type[T], arguments: Sequence[str], *, seconds: int, what: str, extra: str) -> T:
    command = [sys.executable, "-P", "-m", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SpecError(f"{what} within {seconds} s") from None
    try:
        return from_json(cls, done.stdout)
    except DecodeError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ToolMissing(f"{what}: {last}; it needs pip install '.[{extra}]' in a checkout of Atoll") from None
