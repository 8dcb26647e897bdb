"""From how the child ended to what the stage answers."""

import signal
from dataclasses import dataclass

from atoll_contract.codec import DecodeError
from atoll_contract.errors import bounded
from atoll_contract.reasons import ExitCode, Reason, exit_code
from atoll_contract.result import StageResult, parse_result
from atoll_contract.stage import Stage

SIGNAL_BASE = 128


@dataclass(frozen=True)
class Ended:
    """How the child ended: its return code (negative: a signal), what it handed over, the last lines it printed,
    when it was asked to end (monotonic clock; None: it was not), and whether the kernel killed for memory."""

    returncode: int
    answer: bytes
    tail: str
    interrupted_at: float | None
    out_of_memory: bool


@dataclass(frozen=True)
class Conclusion:
    """The bytes of the termination message, and the exit code."""

    message: bytes
    code: int


def conclude(stage: Stage, attempt: int, ended: Ended) -> Conclusion:
    """The child's own answer if it gave a whole one, whatever became of it then; else one made from how it ended."""
    try:
        return Conclusion(ended.answer, int(exit_code(parse_result(ended.answer).reason)))
    except DecodeError:
        code, reason, text = _without_answer(ended)
        return Conclusion(StageResult(stage, attempt, reason, bounded(text)).termination_message(), code)


def _without_answer(ended: Ended) -> tuple[int, Reason, str]:
    killed = -ended.returncode
    if killed == signal.SIGKILL and ended.out_of_memory:
        return ExitCode.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "the kernel ended the stage for want of memory"
    if ended.interrupted_at is not None:
        text = "ended on request before it could save" if killed > 0 else "ended on request"
        return ExitCode.INTERRUPTED, Reason.SUSPENDED, text
    if killed > 0:
        text = f"the stage's process was ended by {_signal_name(killed)}{_last_line(ended.tail)}"
        return SIGNAL_BASE + killed, Reason.INTERNAL_ERROR, text
    if ended.returncode == 0:
        return ExitCode.INTERNAL_ERROR, Reason.RESULT_MISSING, "the stage ended with exit code 0 and without a result"
    text = f"the stage ended with exit code {ended.returncode} and without a result{_last_line(ended.tail)}"
    return ExitCode.INTERNAL_ERROR, Reason.INTERNAL_ERROR, text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(tail: str) -> str:
    lines = [line for line in tail.splitlines() if line.strip()]
    return f"; its last line was {bounded(lines[-1], 200)!r}" if lines else ""
