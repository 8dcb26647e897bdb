"""What a detector's backend provides, and how one is loaded by its name.

Only a worker process imports a backend, by the name of its module: the agent never loads a native interpreter.
"""

import importlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from atoll_edge.detector.outputs import ModelOutput

if TYPE_CHECKING:
    from PIL.Image import Image


class Backend(StrEnum):
    """What runs the model."""

    CPU = "cpu"
    EDGETPU = "edgetpu"
    QNN = "qnn"
    RKNN = "rknn"


# As the page, the log and the report call them.
NAMES = {
    Backend.CPU: "CPU",
    Backend.EDGETPU: "Coral Edge TPU",
    Backend.QNN: "Qualcomm NPU",
    Backend.RKNN: "Rockchip NPU",
}

# What each needs. The Coral's files and Rockchip's are on no package index; packages of their names there are others'.
INSTALL = {
    Backend.CPU: "install ai-edge-litert",
    Backend.EDGETPU: "run install.sh --coral FOLDER with the Coral's three files (docs/edge.md)",
    Backend.QNN: "install Qualcomm's AI runtime (QAIRT), with its lib folder known to ldconfig (docs/edge.md)",
    Backend.RKNN: "run install.sh --rknn FOLDER with Rockchip's rknn_toolkit_lite2 for this Python and librknnrt.so "
    "(docs/edge.md)",
}


class LoadError(RuntimeError):
    """A model cannot be loaded on this backend; the text is for the status page."""


class DeviceMissing(LoadError):
    """The accelerator does not answer, or the backend is not installed; another backend may work."""


class LoadedModel(Protocol):
    """A model ready to run; input size in pixels."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def detect(self, image: "Image") -> ModelOutput:
        """Returns the detections in an RGB image of any size, which is resized to the input size first."""
        ...


class ModelLoader(Protocol):
    """Loads model files. A process has one loader, so that a second model shares the accelerator with the first."""

    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> LoadedModel:
        """Loads a model file. Not every kind of file says the `side` of its input in pixels, and how its outputs become
        boxes, which the document `head` says. Raises LoadError."""
        ...


# The module of each backend; its function `loader()` returns the ModelLoader.
MODULES = {
    Backend.CPU: "atoll_edge.detector.backends.litert",
    Backend.EDGETPU: "atoll_edge.detector.backends.edgetpu",
    Backend.QNN: "atoll_edge.detector.backends.qnn",
    Backend.RKNN: "atoll_edge.detector.backends.rknn",
}


def make_loader(backend: Backend, modules: dict[Backend, str] | None = None) -> ModelLoader:
    """Returns the loader of `backend`.

    Raises:
        DeviceMissing: its packages are not installed.
    """
    name = (modules or MODULES)[backend]
    try:
        module: Any = importlib.import_module(name)
        return cast(ModelLoader, module.loader())
    except (ImportError, OSError) as error:
        text = f"the backend {backend} is not installed here: {error}; {INSTALL[backend]}"
        raise DeviceMissing(text) from None
