"""Runs the child process of a stage: passes its output on, asks it to end, and kills it after the grace period."""

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from atoll_contract.stage import DEFAULT_GRACE_SECONDS, ENV_ENGINE_FD, ENV_GRACE
from atoll_stages.runtime.exit_result import ChildExit, oom_kills

logger = logging.getLogger(__name__)

# Set for the child; see `ChildArguments`.
ENV_CHILD = "ATOLL_STAGE_CHILD"
# How long the output is still read after the child ended, for processes that left its process group.
DRAIN_SECONDS = 2.0
TAIL_BYTES = 4096
READ_BYTES = 65536
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The parent keeps this much of the grace period for itself, once the child is killed; storing the log must end before
# the last two seconds.
RESERVE_SECONDS = 5.0
LOG_RESERVE_SECONDS = 2.0


class ChildArguments(NamedTuple):
    """What the parent passes to the child: file descriptors, and the scratch folder.

    `alive` is the reading end of a pipe that ends with the parent, `output` that of the child's own standard output,
    and `result` the writing end of the pipe for the result.
    """

    alive: int
    output: int
    result: int
    scratch: Path

    @classmethod
    def from_env(cls, text: str) -> "ChildArguments":
        alive, output, result, scratch = text.split(":", 3)
        return cls(int(alive), int(output), int(result), Path(scratch))


class Supervision:
    """Runs one child. `engine` is a pipe from the local engine; when it ends, the child is asked to end."""

    def __init__(self, scratch: Path, environ: Mapping[str, str], *, engine: int | None = None) -> None:
        self._scratch = scratch
        self._environ = environ
        self._engine = engine
        self._sinks: list[Callable[[bytes], None]] = [_StandardOutput()]
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted_at: float | None = None
        self._result = b""
        self._tail = b""
        self._exited_at: float | None = None

    def output_to(self, sink: Callable[[bytes], None]) -> None:
        """Passes the child's output also to `sink`, which must not block."""
        self._sinks.append(sink)

    def run(self) -> ChildExit:
        """Starts the child and waits for its end."""
        before = oom_kills()
        alive_read, alive_write = os.pipe()
        result_read, result_write = os.pipe()
        output_read, output_write = os.pipe()
        with self._signals() as wakeup, selectors.DefaultSelector() as selector:
            process = self._start(ChildArguments(alive_read, output_read, result_write, self._scratch), output_write)
            for descriptor, action in (
                (output_read, self._on_output),
                (result_read, self._on_result),
                (wakeup, self._on_wakeup),
                (self._engine, self._on_engine),
            ):
                if descriptor is not None:
                    selector.register(descriptor, selectors.EVENT_READ, action)
            self._loop(selector, process)
        for descriptor in (alive_write, result_read, output_read):
            os.close(descriptor)
        after = oom_kills()
        grown = before is not None and after is not None and after > before
        tail = self._tail.decode(errors="replace")
        return ChildExit(process.wait(), self._result, tail, self._interrupted_at, grown)

    def _start(self, arguments: ChildArguments, output: int) -> subprocess.Popen[bytes]:
        environ = {key: value for key, value in self._environ.items() if key != ENV_ENGINE_FD}
        environ[ENV_CHILD] = ":".join(map(str, arguments))
        environ["PYTHONUNBUFFERED"] = "1"
        process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(arguments.alive, arguments.result, arguments.output),
            process_group=0,
            env=environ,
        )
        for descriptor in (arguments.alive, arguments.result, output):
            os.close(descriptor)
        self._process = process
        if self._interrupted_at is not None:  # it was asked to end before it was started
            process.send_signal(signal.SIGTERM)
        return process

    def _loop(self, selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
        """Waits until the child has ended and its pipes are read to their ends."""
        waiting_for = 2
        while waiting_for:
            for key, _ in selector.select(self._select_timeout()):
                if not key.data(key.fd):
                    selector.unregister(key.fd)
                    waiting_for -= key.data in (self._on_output, self._on_result)
            if self._exited_at is None and process.poll() is not None:
                self._exited_at = time.monotonic()
                self._kill_group()
            if self._exited_at is not None and time.monotonic() - self._exited_at > DRAIN_SECONDS:
                return
        process.wait()
        self._kill_group()

    def _select_timeout(self) -> float | None:
        return None if self._exited_at is None else max(0.0, self._exited_at + DRAIN_SECONDS - time.monotonic()) + 0.01

    def _on_output(self, descriptor: int) -> bool:
        data = os.read(descriptor, READ_BYTES)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        for sink in self._sinks:
            sink(data)
        return bool(data)

    def _on_result(self, descriptor: int) -> bool:
        data = os.read(descriptor, READ_BYTES)
        self._result += data
        return bool(data)

    def _on_wakeup(self, descriptor: int) -> bool:
        return bool(os.read(descriptor, 512))

    def _on_engine(self, descriptor: int) -> bool:
        if os.read(descriptor, 512):
            return True
        logger.warning("the engine is gone; ending the stage")
        self._interrupt()
        return False

    def _interrupt(self) -> None:
        """Asks the child to end, and sets the timer that kills it. Called from signal handlers, too."""
        if self._interrupted_at is not None or self._exited_at is not None:
            return
        self._interrupted_at = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, kill_after(self._environ))
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def _kill_group(self) -> None:
        """Kills the child and every process of its group that still runs."""
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Installs handlers that act at once, even while a write blocks; yields a pipe that wakes the loop."""

        def interrupt(*_: object) -> None:
            self._interrupt()

        def kill(*_: object) -> None:
            if self._process is not None:
                self._kill_group()

        def ignore(*_: object) -> None:
            """Does nothing: the signal has woken the loop through the pipe."""

        handlers = {**dict.fromkeys(_FORWARDED, interrupt), signal.SIGALRM: kill, signal.SIGCHLD: ignore}
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield reader
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.set_wakeup_fd(-1)
            # The other handlers stay, so that a second SIGTERM does not end the parent while it stores the log.
            for number in (signal.SIGALRM, signal.SIGCHLD):
                signal.signal(number, previous[number])
            os.close(reader)
            os.close(writer)


class _StandardOutput:
    """Writes to the parent's standard output until nobody reads it."""

    def __init__(self) -> None:
        self._open = True

    def __call__(self, data: bytes) -> None:
        try:
            while data and self._open:
                data = data[os.write(1, data) :]
        except OSError:
            self._open = False


def grace(environ: Mapping[str, str]) -> float:
    """Returns the seconds from the request to end until everything must have ended."""
    try:
        return max(float(environ.get(ENV_GRACE) or DEFAULT_GRACE_SECONDS), 0.0)
    except ValueError:
        logger.warning("%s=%r is no number of seconds", ENV_GRACE, environ[ENV_GRACE])
        return DEFAULT_GRACE_SECONDS


def kill_after(environ: Mapping[str, str]) -> float:
    """Returns the seconds from the request to end until the child is killed."""
    return max(grace(environ) - RESERVE_SECONDS, 0.1)


def log_deadline(environ: Mapping[str, str], interrupted_at: float) -> float:
    """Returns when the upload of the log is given up, on the monotonic clock of `interrupted_at`."""
    return interrupted_at + max(grace(environ) - LOG_RESERVE_SECONDS, 0.0)
