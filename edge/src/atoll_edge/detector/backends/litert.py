"""The backend for the CPU: LiteRT."""

import os
import queue
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_edge.camera.source import BgrImage
from atoll_edge.detector.backends.base import LoadedModel, LoadError
from atoll_edge.detector.outputs import ModelOutput, OutputsError, read_outputs

if TYPE_CHECKING:
    from PIL.Image import Image


class InterpreterModel:
    """A LoadedModel over a TensorFlow Lite interpreter whose tensors are allocated.

    Raises:
        LoadError: the input is not one square uint8 RGB image.
    """

    def __init__(self, interpreter: Any) -> None:
        inputs = interpreter.get_input_details()
        shape = [int(size) for size in inputs[0]["shape"]] if len(inputs) == 1 else []
        kind = inputs[0]["dtype"].__name__ if len(inputs) == 1 else "none"
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or kind != "uint8":
            raise LoadError(f"the model's {len(inputs)} inputs, {shape} {kind}, are not one uint8 picture [1,h,w,3]")
        if shape[1] != shape[2]:
            raise LoadError(f"the model takes {shape[2]}×{shape[1]} pixels; Atoll squashes pictures to a square")
        self._interpreter = interpreter
        self._index = inputs[0]["index"]
        # Called when the network has run, before its outputs are read.
        self.computed: Callable[[], None] | None = None
        self.height, self.width = shape[1], shape[2]

    def detect(self, image: "Image") -> ModelOutput:
        from atoll_contract.images import resize

        self._interpreter.set_tensor(self._index, resize(image, self.width)[None])
        self._interpreter.invoke()
        if self.computed is not None:
            self.computed()
        try:
            return read_outputs(self._interpreter)
        except OutputsError as error:
            raise LoadError(str(error)) from None


def load_interpreter(path: Path, *, threads: int, delegate: Any = None) -> InterpreterModel:
    """Loads a .tflite file with LiteRT, which hands `delegate` the operations that it takes.

    Raises:
        LoadError: LiteRT cannot load the file, or it takes no picture.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        delegates = None if delegate is None else [delegate]
        interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads, experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        # A compiled model needs the custom operator that only libedgetpu has.
        raise LoadError(f"LiteRT cannot load {path.name}: {error}") from None
    return InterpreterModel(interpreter)


class LiteRtLoader:
    """Loads int8 models on the CPU."""

    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> InterpreterModel:  # noqa: ARG002 (the file says it)
        return load_interpreter(path, threads=threads)


def loader() -> LiteRtLoader:
    """See `base.MODULES`."""
    return LiteRtLoader()


class InterpreterPool:
    """`workers` interpreters of one model on the CPU, with one thread each, for work on files, where throughput counts.
    As many threads may call `detect` at once. `wrap` makes what is asked of each.

    Raises:
        LoadError: LiteRT cannot load the file, or it is not a detector.
    """

    def __init__(
        self, path: Path, *, workers: int, wrap: Callable[[LoadedModel], LoadedModel] = lambda model: model
    ) -> None:
        self.workers = workers
        self._idle: queue.SimpleQueue[LoadedModel] = queue.SimpleQueue()
        litert = loader()
        for _ in range(workers):
            self._idle.put(wrap(litert.load(path, threads=1)))

    def detect(self, image: BgrImage) -> ModelOutput:
        """Returns the detections in a BGR image [h, w, 3].

        Raises:
            LoadError: the outputs are not those of a detector.
        """
        import cv2
        from PIL import Image

        rgb = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        model = self._idle.get()
        try:
            return model.detect(rgb)
        finally:
            self._idle.put(model)
