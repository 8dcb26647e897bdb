"""The agent's side of one detector worker: starts it, sends requests with a deadline, kills it when it is silent."""

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from atoll_contract.images import Resize
from atoll_edge.camera.source import BgrImage
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.protocol import (
    ACCELERATOR,
    PIXEL_BYTES,
    Channel,
    Detect,
    Detected,
    Load,
    Loaded,
    Message,
    Refused,
)
from atoll_edge.detector.tiling import Tiling
from atoll_edge.system import describe_exit

DETECT_SECONDS = 2.0
# For each part of the image that the model is shown besides.
TILE_SECONDS = 0.5
# The first start after power-on reads everything from an SD card.
# Qualcomm's delegate compiles the model for its NPU while it loads.
LOAD_SECONDS = {Backend.CPU: 30.0, Backend.EDGETPU: 45.0, Backend.QNN: 120.0, Backend.RKNN: 45.0}
WORKER_COMMAND = (sys.executable, "-P", "-m", "atoll_edge.detector.worker")


class DetectorLost(RuntimeError):
    """The worker is gone: it ended by itself, or was killed because it did not answer in time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DetectorClient:
    """One worker process. One thread uses it; any thread may call `close`. `accelerator` is the number of the Edge TPU
    that it opens, from 0, where a device has several detectors; None: whichever is there."""

    def __init__(
        self, backend: Backend, *, command: Sequence[str] = WORKER_COMMAND, accelerator: int | None = None
    ) -> None:
        self.backend = backend
        self._next_id = 0
        self._loads: list[Loaded | Refused] = []
        self._load_deadlines: dict[int, float] = {}
        self._detect_seconds = DETECT_SECONDS
        with tempfile.TemporaryFile(dir=_memory_folder()) as pixels:
            os.ftruncate(pixels.fileno(), PIXEL_BYTES)
            self._pixels = mmap.mmap(pixels.fileno(), PIXEL_BYTES)
            ours, theirs = socket.socketpair()
            self._channel = Channel(ours.detach())
            with theirs:
                handles = (theirs.fileno(), pixels.fileno())
                options = ("--backend", backend, "--socket", str(handles[0]), "--pixels", str(handles[1]))
                environment = None if accelerator is None else {**os.environ, ACCELERATOR: str(accelerator)}
                self._process = subprocess.Popen(
                    [*command, *options], pass_fds=handles, stdin=subprocess.DEVNULL, env=environment
                )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def begin_load(
        self,
        path: str,
        *,
        threads: int,
        tiling: Tiling | None = None,
        resize: Resize = Resize.SQUASH,
        side: int | None = None,
        head: str | None = None,
    ) -> int:
        """Requests that the worker load a model, whose input has `side` pixels where that is known, with its document
        `head`; `finished_loads` gives the outcome. Returns the id of the load."""
        self._next_id += 1
        self._load_deadlines[self._next_id] = time.monotonic() + LOAD_SECONDS[self.backend]
        parts = None if tiling is None else (tiling.rows, tiling.columns, tiling.overlap)
        tiles = 0 if tiling is None else len(tiling.regions) - 1
        self._detect_seconds = DETECT_SECONDS + tiles * TILE_SECONDS
        self._send(Load(self._next_id, path, threads, parts, resize, side, head))
        return self._next_id

    def finished_loads(self, wait_seconds: float = 0.0) -> list[Loaded | Refused]:
        """Returns the loads that ended since the last call, after waiting up to `wait_seconds` for a message.

        Raises:
            DetectorLost: the worker is gone, or a load took longer than LOAD_SECONDS.
        """
        while not self._loads and self._channel.poll(wait_seconds):
            self._record(self._receive())
        finished, self._loads = self._loads, []
        now = time.monotonic()
        late = [deadline for deadline in self._load_deadlines.values() if deadline < now]
        if late:
            raise self._lost(f"loading a model took longer than {LOAD_SECONDS[self.backend]:.0f} s")
        return finished

    def detect(self, image: BgrImage, *, timeout_seconds: float | None = None) -> Detected:
        """Returns the detections in a BGR image [h, w, 3]. A model must have been loaded.

        Raises:
            DetectorLost: the worker died or did not answer within `timeout_seconds`, by default DETECT_SECONDS, and
                TILE_SECONDS more for each tile.
        """
        # A worker that slept since the last frame wakes up while the pixels are written.
        self._send()
        import cv2
        import numpy as np

        height, width = image.shape[:2]
        target: BgrImage = np.frombuffer(self._pixels, np.uint8, count=height * width * 3)
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=target.reshape(height, width, 3))
        self._next_id += 1
        self._send(Detect(self._next_id, width, height))
        timeout = self._detect_seconds if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self._channel.poll(left):
            message = self._receive()
            if isinstance(message, Detected) and message.id == self._next_id:
                return message
            self._record(message)
        raise self._lost(f"no answer within {timeout:g} s")

    def close(self) -> None:
        """Ends the worker now."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._channel.close()

    def _record(self, message: Message | None) -> None:
        if isinstance(message, Loaded | Refused):
            self._load_deadlines.pop(message.id, None)
            self._loads.append(message)

    def _send(self, message: Message | None = None) -> None:
        """Sends a message; None only wakes the worker."""
        try:
            if message is None:
                self._channel.wake()
            else:
                self._channel.send(message)
        except OSError:
            raise self._lost("the process ended") from None

    def _receive(self) -> Message | None:
        try:
            return self._channel.receive()
        except (EOFError, OSError):
            raise self._lost("the process ended") from None

    def _lost(self, what: str) -> DetectorLost:
        """Ends the worker if it still runs, and describes how it ended."""
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A worker that closed its socket is about to end: its own exit status says more than a kill would.
            code = self._process.wait(0.2 if what == "the process ended" else 0)
        self.close()
        if code is None:
            return DetectorLost(f"{what}; killed")
        return DetectorLost(f"{what} ({describe_exit(code)})")


def _memory_folder() -> str | None:
    """Returns a folder in memory for the pixels, where the system has one, so that no SD card wears out."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 (an unnamed file)
