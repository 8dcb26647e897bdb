"""What a detector backend is, and which there are.

A backend is imported in the detector child only, by name: the agent never loads a native interpreter.
"""

import importlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from atoll_edge.detector.outputs import Reading

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
    Backend.CPU: "atoll_edge.detector.litert",
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
