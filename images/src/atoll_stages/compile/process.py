"""Runs a compiler with its output in a file, until it ends, a deadline passes, or the stage is asked to end."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_stages.runtime.context import Interrupted

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Deadline:
    """The monotonic time until which all tries together may run; `stop` ends them at once."""

    at: float
    stop: threading.Event

    @classmethod
    def after(cls, seconds: float, stop: threading.Event) -> "Deadline":
        return cls(time.monotonic() + seconds, stop)

    @property
    def left(self) -> float:
        return max(self.at - time.monotonic(), 0.0)


@dataclass(frozen=True)
class ProgramExit:
    """A program's return code (negative: a signal; None: it was killed at the deadline) and its output."""

    returncode: int | None
    output: str


def run_program(command: Sequence[str | Path], *, output: Path, deadline: Deadline) -> ProgramExit:
    """Runs a program with its output in the file `output`.

    Raises:
        Interrupted: the stage was asked to end; the program and what it started are killed.
        OSError: it cannot be started.
    """
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            returncode = _wait(process, deadline)
        finally:
            _kill(process)
    return ProgramExit(returncode, output.read_text(encoding="utf-8", errors="replace"))


def _wait(process: "subprocess.Popen[bytes]", deadline: Deadline) -> int | None:
    while deadline.left > 0:
        try:
            return process.wait(min(POLL_SECONDS, deadline.left))
        except subprocess.TimeoutExpired:
            if deadline.stop.is_set():
                raise Interrupted from None
    return None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills a program that still runs, and its descendants.

    The program is in the stage's process group, so that the stage's parent can kill all of it even if this process is
    gone. So the descendants must be found one by one here.
    """
    if process.poll() is not None:
        return
    descendants = _descendants(process.pid)
    process.kill()
    process.wait()
    for descendant in descendants:
        try:
            os.kill(descendant, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _descendants(pid: int) -> list[int]:
    """Returns the descendants of a running process; none where the system has no /proc."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    direct = [int(number) for number in text.split()]
    return direct + [descendant for child in direct for descendant in _descendants(child)]
