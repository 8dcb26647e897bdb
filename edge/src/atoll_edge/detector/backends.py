"""What a detector backend is, and which there are.

A backend is imported in the detector child only, by name: the agent never loads a native interpreter.
"""

import importlib
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from atoll_edge.detector.outputs import OutputsError, Reading, read_outputs

if TYPE_CHECKING:
    from PIL.Image import Image


class Backend(StrEnum):
    """What runs the model."""

    CPU = "cpu"
    EDGETPU = "edgetpu"


class LoadError(RuntimeError):
    """A model cannot be loaded on this backend; the text is for the status page."""


class DeviceMissing(LoadError):
    """The backend's accelerator does not answer; another backend may."""


class LoadedModel(Protocol):
    """A model ready to run; input size in pixels."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def detect(self, picture: "Image") -> Reading:
        """The detections in an RGB picture of any size, squashed to the input size first."""
        ...


class ModelLoader(Protocol):
    """Loads model files; one loader per process, so that a second model can share an accelerator with the first."""

    def load(self, path: Path, *, threads: int) -> LoadedModel:
        """Raises LoadError."""
        ...


# Module of each backend; its function `loader()` makes the ModelLoader.
MODULES = {
    Backend.CPU: "atoll_edge.detector.backends",
    Backend.EDGETPU: "atoll_edge.detector.edgetpu",
}


def make_loader(backend: Backend, modules: dict[Backend, str] | None = None) -> ModelLoader:
    """The loader of `backend`.

    Raises:
        LoadError: its packages are not installed.
    """
    name = (modules or MODULES)[backend]
    try:
        module: Any = importlib.import_module(name)
        return cast(ModelLoader, module.loader())
    except (ImportError, OSError) as error:
        raise DeviceMissing(f"the backend {backend} is not installed here: {error}") from None


class InterpretedModel:
    """Wraps an interpreter whose tensors are allocated.

    Raises:
        LoadError: the input is not one uint8 RGB picture.
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
        self.height, self.width = shape[1], shape[2]

    def detect(self, picture: "Image") -> Reading:
        from atoll_contract.images import resize

        self._interpreter.set_tensor(self._index, resize(picture, self.width)[None])
        self._interpreter.invoke()
        try:
            return read_outputs(self._interpreter)
        except OutputsError as error:
            raise LoadError(str(error)) from None


class LiteRtLoader:
    """Loads int8 models for the CPU."""

    def load(self, path: Path, *, threads: int) -> InterpretedModel:
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            # A compiled model asks for the custom op that only libedgetpu has.
            raise LoadError(f"LiteRT cannot load {path.name}: {error}") from None
        return InterpretedModel(interpreter)


def loader() -> LiteRtLoader:
    """See `backend.ModelLoader`."""
    return LiteRtLoader()
