"""Running a compiler: its output, a deadline, and an ear for the request to end."""

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
    """Until when, on the monotonic clock, all tries together may take; `stop` ends them at once."""

    at: float
    stop: threading.Event

    @classmethod
    def after(cls, seconds: float, stop: threading.Event) -> "Deadline":
        return cls(time.monotonic() + seconds, stop)

    @property
    def left(self) -> float:
        return max(self.at - time.monotonic(), 0.0)


@dataclass(frozen=True)
class Finished:
    """A program's end: its return code (negative: a signal; None: it was killed at the deadline) and its output."""

    returncode: int | None
    output: str


def run(command: Sequence[str | Path], *, output: Path, deadline: Deadline) -> Finished:
    """Run a program with its output in a file.

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
            _end(process)
    return Finished(returncode, output.read_text(encoding="utf-8", errors="replace"))


def _wait(process: "subprocess.Popen[bytes]", deadline: Deadline) -> int | None:
    while deadline.left > 0:
        try:
            return process.wait(min(POLL_SECONDS, deadline.left))
        except subprocess.TimeoutExpired:
            if deadline.stop.is_set():
                raise Interrupted from None
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the program and its children. It stays in the stage's process group, which the stage's parent kills as a
    whole whatever becomes of this process; so here its children are looked for one by one."""
    if process.poll() is not None:
        return
    children = _children(process.pid)
    process.kill()
    process.wait()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _children(pid: int) -> list[int]:
    """Descendants of a running process; none where the system has no /proc."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    direct = [int(number) for number in text.split()]
    return direct + [descendant for child in direct for descendant in _children(child)]
