"""The agent's side of one detector child: starts it, asks it with a deadline, kills it when it does not answer."""

import contextlib
import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING

from atoll_edge.detector.backends import Backend
from atoll_edge.detector.protocol import PIXEL_BYTES, Detect, Detected, Load, Loaded, Message, Refused, receive, send

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)

DETECT_SECONDS = 2.0
# The first start after power-on reads everything from an SD card.
LOAD_SECONDS = {Backend.CPU: 30.0, Backend.EDGETPU: 45.0}
CHILD_COMMAND = (sys.executable, "-P", "-m", "atoll_edge.detector.worker")


class DetectorLost(RuntimeError):
    """The child is gone: it ended by itself, or was killed because it did not answer in time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DetectorClient:
    """One child process. Used by one thread; `close` may come from any."""

    def __init__(self, backend: Backend, *, command: Sequence[str] = CHILD_COMMAND) -> None:
        self.backend = backend
        self._next_id = 0
        self._loads: list[Loaded | Refused] = []
        self._load_deadlines: dict[int, float] = {}
        with tempfile.TemporaryFile(dir=_memory_folder()) as pixels:
            os.ftruncate(pixels.fileno(), PIXEL_BYTES)
            self._pixels = mmap.mmap(pixels.fileno(), PIXEL_BYTES)
            self._connection, theirs = Pipe()
            with theirs:
                handles = (theirs.fileno(), pixels.fileno())
                options = ("--backend", backend, "--socket", str(handles[0]), "--pixels", str(handles[1]))
                # `Connection.poll` makes one anew at each call, which is a tenth of what a frame's way costs.
                self._poller = select.poll()
                self._poller.register(self._connection.fileno(), select.POLLIN)
                self._process = subprocess.Popen([*command, *options], pass_fds=handles, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def begin_load(self, path: str, *, threads: int) -> int:
        """Ask the child to load a model; `finished_loads` tells how it went. Returns the id of the load."""
        self._next_id += 1
        self._load_deadlines[self._next_id] = time.monotonic() + LOAD_SECONDS[self.backend]
        self._send(Load(self._next_id, path, threads))
        return self._next_id

    def finished_loads(self, wait_seconds: float = 0.0) -> list[Loaded | Refused]:
        """The loads that ended since the last call, after waiting up to `wait_seconds` for a message.

        Raises:
            DetectorLost: the child is gone, or a load takes longer than its backend may.
        """
        while not self._loads and self._readable(wait_seconds):
            self._sort(self._receive())
        finished, self._loads = self._loads, []
        now = time.monotonic()
        late = [deadline for deadline in self._load_deadlines.values() if deadline < now]
        if late:
            raise self._lost(f"loading a model took longer than {LOAD_SECONDS[self.backend]:.0f} s")
        return finished

    def detect(self, picture: "NDArray[uint8]", *, timeout_seconds: float = DETECT_SECONDS) -> Detected:
        """The detections in a BGR picture [h, w, 3]; only after a model was loaded.

        Raises:
            DetectorLost: the child died or did not answer within `timeout_seconds`.
        """
        import cv2
        import numpy as np

        height, width = picture.shape[:2]
        target: NDArray[uint8] = np.frombuffer(self._pixels, np.uint8, count=height * width * 3)
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=target.reshape(height, width, 3))
        self._next_id += 1
        self._send(Detect(self._next_id, width, height))
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0 and self._readable(left):
            message = self._receive()
            if isinstance(message, Detected) and message.id == self._next_id:
                return message
            self._sort(message)
        raise self._lost(f"no answer within {timeout_seconds:g} s")

    def close(self) -> None:
        """End the child now."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._connection.close()

    def _sort(self, message: Message) -> None:
        if isinstance(message, Loaded | Refused):
            self._load_deadlines.pop(message.id, None)
            self._loads.append(message)

    def _send(self, message: Message) -> None:
        try:
            send(self._connection, message)
        except OSError:
            raise self._lost("the process ended") from None

    def _readable(self, wait_seconds: float) -> bool:
        return bool(self._poller.poll(wait_seconds * 1000))

    def _receive(self) -> Message:
        try:
            return receive(self._connection)
        except (EOFError, OSError):
            raise self._lost("the process ended") from None

    def _lost(self, what: str) -> DetectorLost:
        """End the child if it still runs, and say how it ended."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A child that closed its socket is about to end: its own exit status says more than ours would.
            code = self._process.wait(0.2 if what == "the process ended" else 0)
        self.close()
        if code is None:
            return DetectorLost(f"{what}; killed")
        return DetectorLost(f"{what} ({describe_exit(code)})")


def describe_exit(code: int) -> str:
    """An exit status in words: `SIGABRT` for -6, `exit code 1` for 1."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _memory_folder() -> str | None:
    """Where the pixels lie: in memory where the system has such a folder, so that no SD card wears out."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 (an unnamed file)


# After a start, before the spare is made: the model that starts has the processor for itself.
SPARE_SECONDS = 3.0


class Children:
    """Makes and ends children. Used by the detector thread alone."""

    def __init__(self, spawn: Callable[[Backend], DetectorClient], spare: DetectorClient | None = None) -> None:
        self._spawn = spawn
        self._spare = spare
        self._spare_at = 0.0

    @property
    def spare_pid(self) -> int | None:
        return None if self._spare is None else self._spare.pid

    def take(self, backend: Backend, now: float) -> DetectorClient:
        """A child for `backend`: the spare where it fits and lives, else a new one.

        Raises:
            DetectorLost: the system cannot start a process now.
        """
        spare, self._spare = self._spare, None
        self._spare_at = now + SPARE_SECONDS
        if spare is not None and spare.backend is backend and spare.alive:
            return spare
        if spare is not None:
            self.retire(spare)
        return self.start(backend)

    def keep_spare(self, backend: Backend, now: float) -> None:
        """Have a spare for `backend`, once what was started last has had its time."""
        if self._spare is None and now >= self._spare_at:
            self._spare_at = now + SPARE_SECONDS
            try:
                self._spare = self.start(backend)
            except DetectorLost as loss:
                logger.warning("there is no spare detector: %s", loss.reason)

    def retire(self, client: DetectorClient) -> None:
        """End a child without waiting for it: the memory of a large one takes a while to be freed."""
        threading.Thread(target=client.close, name="retire", daemon=True).start()

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def start(self, backend: Backend) -> DetectorClient:
        """A new child. Raises DetectorLost."""
        try:
            return self._spawn(backend)
        except OSError as error:
            raise DetectorLost(f"the detector cannot be started: {error}") from None
