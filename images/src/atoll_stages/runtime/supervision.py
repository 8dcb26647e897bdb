"""How long a stage that is asked to end may take."""

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

from atoll_contract.stage import DEFAULT_GRACE_SECONDS, ENV_ENGINE_FD, ENV_GRACE
from atoll_stages.runtime.exit_result import Ended, oom_kills

logger = logging.getLogger(__name__)

# Left of the grace for the parent's own last words, once the child is killed; the log may take all but the last two.
RESERVE_SECONDS = 5.0
LOG_RESERVE_SECONDS = 2.0


def grace(environ: Mapping[str, str]) -> float:
    """Seconds from the request to end until everything must have ended."""
    try:
        return max(float(environ.get(ENV_GRACE) or DEFAULT_GRACE_SECONDS), 0.0)
    except ValueError:
        logger.warning("%s=%r is no number of seconds", ENV_GRACE, environ[ENV_GRACE])
        return DEFAULT_GRACE_SECONDS


def kill_after(environ: Mapping[str, str]) -> float:
    """Seconds from the request to end until the child is killed."""
    return max(grace(environ) - RESERVE_SECONDS, 0.1)


def log_deadline(environ: Mapping[str, str], interrupted_at: float) -> float:
    """When the upload of the log is given up, on the clock of `interrupted_at`."""
    return interrupted_at + max(grace(environ) - LOG_RESERVE_SECONDS, 0.0)


# Set for the child: `<alive>:<output>:<answer>:<scratch>`, three file descriptors (see `child`) and a folder.
ENV_CHILD = "ATOLL_STAGE_CHILD"
# What something that left the child's process group may still print.
DRAIN_SECONDS = 2.0
TAIL_BYTES = 4096
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervision:
    """One child, from its start to its end. `engine` is a pipe whose end means that the child is to end too."""

    def __init__(self, scratch: Path, environ: Mapping[str, str], *, engine: int | None = None) -> None:
        self._scratch = scratch
        self._environ = environ
        self._engine = engine
        self._sinks: list[Callable[[bytes], None]] = [_StandardOutput()]
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted_at: float | None = None
        self._answer = b""
        self._tail = b""
        self._exited_at: float | None = None

    def output_to(self, sink: Callable[[bytes], None]) -> None:
        """Also give the child's output to `sink`, which must not block."""
        self._sinks.append(sink)

    def run(self) -> Ended:
        """Start the child and see it through."""
        before = oom_kills()
        alive_read, alive_write = os.pipe()
        answer_read, answer_write = os.pipe()
        output_read, output_write = os.pipe()
        with self._signals() as wakeup, selectors.DefaultSelector() as selector:
            process = self._start(alive_read, answer_write, output=(output_read, output_write))
            for descriptor, action in (
                (output_read, self._on_output),
                (answer_read, self._on_answer),
                (wakeup, self._on_wakeup),
                (self._engine, self._on_engine),
            ):
                if descriptor is not None:
                    selector.register(descriptor, selectors.EVENT_READ, action)
            self._loop(selector, process)
        for descriptor in (alive_write, answer_read, output_read):
            os.close(descriptor)
        after = oom_kills()
        grown = before is not None and after is not None and after > before
        tail = self._tail.decode(errors="replace")
        return Ended(process.wait(), self._answer, tail, self._interrupted_at, grown)

    def _start(self, alive: int, answer: int, *, output: tuple[int, int]) -> subprocess.Popen[bytes]:
        environ = {key: value for key, value in self._environ.items() if key != ENV_ENGINE_FD}
        environ[ENV_CHILD] = f"{alive}:{output[0]}:{answer}:{self._scratch}"
        environ["PYTHONUNBUFFERED"] = "1"
        process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output[1],
            stderr=subprocess.STDOUT,
            pass_fds=(alive, answer, output[0]),
            process_group=0,
            env=environ,
        )
        for descriptor in (alive, answer, output[1]):
            os.close(descriptor)
        self._process = process
        if self._interrupted_at is not None:  # asked before there was anybody to ask
            process.send_signal(signal.SIGTERM)
        return process

    def _loop(self, selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
        """Until the child is gone and the pipes to it are at their ends."""
        waiting_for = 2
        while waiting_for:
            for key, _ in selector.select(self._patience()):
                if not key.data(key.fd):
                    selector.unregister(key.fd)
                    waiting_for -= key.data in (self._on_output, self._on_answer)
            if self._exited_at is None and process.poll() is not None:
                self._exited_at = time.monotonic()
                self._kill_group()
            if self._exited_at is not None and time.monotonic() - self._exited_at > DRAIN_SECONDS:
                return
        process.wait()
        self._kill_group()

    def _patience(self) -> float | None:
        return None if self._exited_at is None else max(0.0, self._exited_at + DRAIN_SECONDS - time.monotonic()) + 0.01

    def _on_output(self, descriptor: int) -> bool:
        data = os.read(descriptor, 65536)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        for sink in self._sinks:
            sink(data)
        return bool(data)

    def _on_answer(self, descriptor: int) -> bool:
        data = os.read(descriptor, 65536)
        self._answer += data
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
        """Ask the child to end, and see to it that it does. Called from signal handlers, too."""
        if self._interrupted_at is not None or self._exited_at is not None:
            return
        self._interrupted_at = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, kill_after(self._environ))
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def _kill_group(self) -> None:
        """End what the child started and did not end; and the child, where it still runs."""
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Handlers that act at once, even while a write to a slow reader blocks; a pipe that wakes the loop."""

        def interrupt(*_: object) -> None:
            self._interrupt()

        def kill(*_: object) -> None:
            if self._process is not None:
                self._kill_group()

        def note(*_: object) -> None:
            """The wake-up pipe has it already."""

        handlers = {**dict.fromkeys(_FORWARDED, interrupt), signal.SIGALRM: kill, signal.SIGCHLD: note}
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
            # A second SIGTERM while the log goes out shall not end the parent without a trace.
            for number in (signal.SIGALRM, signal.SIGCHLD):
                signal.signal(number, previous[number])
            os.close(reader)
            os.close(writer)


class _StandardOutput:
    """The parent's own standard output, until nobody reads it."""

    def __init__(self) -> None:
        self._open = True

    def __call__(self, data: bytes) -> None:
        try:
            while data and self._open:
                data = data[os.write(1, data) :]
        except OSError:
            self._open = False
