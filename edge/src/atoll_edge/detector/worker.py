"""The detector worker: owns the interpreter and the accelerator, and answers the agent. It may crash at any time.

`python -m atoll_edge.detector.worker --backend cpu --socket FD --pixels FD`. It ends when the agent's socket closes.
A thread loads a new model beside the active one; the new model takes over between two frames.
"""

import argparse
import gc
import logging
import mmap
import queue
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.images import Resize
from atoll_edge.detector.backends.base import (
    MODULES,
    Backend,
    DeviceMissing,
    LoadedModel,
    LoadError,
    ModelLoader,
    make_loader,
)
from atoll_edge.detector.backends.litert import InterpreterModel
from atoll_edge.detector.letterbox import with_resize
from atoll_edge.detector.protocol import PIXEL_BYTES, Channel, Detect, Detected, Load, Loaded, Refused
from atoll_edge.detector.tiling import TiledModel, Tiling
from atoll_edge.system import keep_freed_memory

logger = logging.getLogger(__name__)

WARM_UPS = 2
# How often a finished load is looked for while no frame comes.
LOADING_SECONDS = 0.01


@dataclass(frozen=True)
class Ready:
    """A load that succeeded."""

    load: Load
    model: LoadedModel


class DetectorWorker:
    """Serves one socket until it closes."""

    def __init__(self, backend: Backend, *, modules: dict[Backend, str], socket: int, pixels: int) -> None:
        self._backend = backend
        self._modules = modules
        self._channel = Channel(socket)
        self._pixels = mmap.mmap(pixels, PIXEL_BYTES)
        self._loader: ModelLoader | None = None
        self._active: Ready | None = None
        self._loads = 0
        self._results: queue.Queue[Ready | Refused] = queue.Queue()

    def serve(self) -> None:
        self._prepare()
        while True:
            try:
                # A message ends the wait at once; a finished load is polled for.
                if not self._loads or self._channel.poll(LOADING_SECONDS):
                    message = self._channel.receive()
                    if message is None:
                        continue  # the next message follows at once
                    self._handle(message)
                self._take_over()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                return

    def _prepare(self) -> None:
        """Imports what every model needs, so that a spare worker loads its first model at once."""
        import numpy as np
        from PIL import Image

        from atoll_contract.images import resize

        resize(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), 4)
        try:
            self._loader = make_loader(self._backend, self._modules)
        except LoadError as error:
            logger.debug("%s", error)  # the first load reports it to the agent

    def _handle(self, message: object) -> None:
        if isinstance(message, Load):
            self._loads += 1
            threading.Thread(target=self._load, args=(message,), name="load", daemon=True).start()
        elif isinstance(message, Detect):
            self._detect(message)

    def _load(self, load: Load) -> None:
        from PIL import Image

        try:
            if self._loader is None:
                self._loader = make_loader(self._backend, self._modules)
            head = None if load.head is None else Path(load.head)
            model = self._loader.load(Path(load.path), threads=load.threads, side=load.side, head=head)
            model = with_resize(model, Resize(load.resize))
            if load.tiling is not None:
                model = TiledModel(model, Tiling(*load.tiling))
            for _ in range(WARM_UPS):
                model.detect(Image.new("RGB", (model.width, model.height), (127, 127, 127)))
        except (LoadError, OSError, RuntimeError, ValueError, MemoryError) as error:
            self._results.put(Refused(load.id, str(error), missing=isinstance(error, DeviceMissing)))
        else:
            self._results.put(Ready(load, model))

    def _take_over(self) -> None:
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return
        self._loads -= 1
        if isinstance(result, Refused):
            self._channel.send(result)
            return
        self._active = result
        if isinstance(result.model, InterpreterModel):
            # Most of the time in which the agent wakes up passes while this process reads the outputs.
            result.model.computed = self._channel.wake
        gc.collect()  # the old interpreter frees its share of the accelerator now, not between two later frames
        self._channel.send(Loaded(result.load.id, result.model.width, result.model.height))

    def _detect(self, request: Detect) -> None:
        import numpy as np
        from PIL import Image

        if self._active is None:
            raise RuntimeError("asked to detect before a model was loaded")
        size = (request.width, request.height)
        started = time.perf_counter()
        view = np.frombuffer(self._pixels, np.uint8, count=request.width * request.height * 3)
        image = Image.frombuffer("RGB", size, view, "raw", "RGB", 0, 1)
        output = self._active.model.detect(image)
        rows = [(float(found.class_id), found.score, *found.box) for found in output.detections]
        seconds = time.perf_counter() - started
        self._channel.send(Detected(request.id, self._active.load.id, rows, output.non_finite, seconds))


def main(arguments: Sequence[str] | None = None, *, modules: dict[Backend, str] = MODULES) -> None:
    """Runs the worker; tests pass `modules` with scripted backends."""
    parser = argparse.ArgumentParser(prog="atoll_edge.detector.worker")
    parser.add_argument("--backend", type=Backend, required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    # Ctrl-C and a SIGTERM to the group are for the agent, which closes the socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    DetectorWorker(options.backend, modules=modules, socket=options.socket, pixels=options.pixels).serve()


if __name__ == "__main__":
    main()
