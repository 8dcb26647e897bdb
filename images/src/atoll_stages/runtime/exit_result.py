"""Derives the result and exit code of a stage from the way its child process ended."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.document import DecodeError
from atoll_contract.errors import ExitCode, Reason, bounded, exit_code
from atoll_contract.stage import Stage
from atoll_contract.stage_result import CHECKPOINT_STEP, StageResult, last_progress, parse_result, without_progress

SIGNAL_BASE = 128
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class ChildExit:
    """How the child ended: its return code (negative: a signal), the result that it wrote, the end of its output, when
    it was asked to end (monotonic clock; None: it was not), and whether the kernel killed processes for memory."""

    returncode: int
    result: bytes
    tail: str
    interrupted_at: float | None
    out_of_memory: bool


@dataclass(frozen=True)
class ExitResult:
    """The termination message and the exit code of the stage."""

    message: bytes
    code: int


def exit_result(stage: Stage, attempt: int, child: ChildExit) -> ExitResult:
    """Returns the child's own result if it wrote a whole one, else one made from the way it ended."""
    try:
        return ExitResult(child.result, int(exit_code(parse_result(child.result).reason)))
    except DecodeError:
        code, reason, text = _without_result(child)
        progress = last_progress(child.tail)
        saved = progress.checkpoint_step if progress is not None else None
        summary = {} if saved is None else {CHECKPOINT_STEP: saved}
        result = StageResult(stage, attempt, reason, bounded(text), summary=summary)
        return ExitResult(result.termination_message(), code)


def _without_result(child: ChildExit) -> tuple[int, Reason, str]:
    killed = -child.returncode
    if killed == signal.SIGKILL and child.out_of_memory:
        return ExitCode.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "the kernel ended the stage for want of memory"
    if child.interrupted_at is not None:
        text = "ended on request before it could save" if killed > 0 else "ended on request"
        return ExitCode.INTERRUPTED, Reason.SUSPENDED, text
    if killed > 0:
        text = f"the stage's process was ended by {_signal_name(killed)}{_last_line(child.tail)}"
        return SIGNAL_BASE + killed, Reason.INTERNAL_ERROR, text
    if child.returncode == 0:
        return ExitCode.INTERNAL_ERROR, Reason.RESULT_MISSING, "the stage ended with exit code 0 and without a result"
    text = f"the stage ended with exit code {child.returncode} and without a result{_last_line(child.tail)}"
    return ExitCode.INTERNAL_ERROR, Reason.INTERNAL_ERROR, text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(tail: str) -> str:
    lines = [line for line in without_progress(tail).splitlines() if line.strip()]
    return f"; its last line was {bounded(lines[-1], 200)!r}" if lines else ""


def oom_kills(*, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Returns how many processes of the own control group were killed for memory; None where nothing counts them."""
    for path in _counter_files(cgroups, own):
        try:
            text = path.read_text()
        except OSError:
            continue
        match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        if match:
            return int(match[1])
    return None


def _counter_files(cgroups: Path, own: Path) -> list[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    paths = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2; inside a container the group is "/"
            paths.append(cgroups / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            paths.append(cgroups / "memory" / group.lstrip("/") / "memory.oom_control")
            paths.append(cgroups / "memory" / "memory.oom_control")
    return paths
