"""The Edge TPU backend: pycoral over `tflite_runtime` and libedgetpu.

Only the Edge TPU worker imports this module. libedgetpu ends its process on USB errors (`LOG(FATAL)` in its USB
driver), which is why no backend runs in the agent. A model that is loaded while another runs shares the open device.
"""

import os
from pathlib import Path

from pycoral.utils.edgetpu import get_runtime_version, list_edge_tpus, make_interpreter

from atoll_edge.detector.backends.base import DeviceMissing, LoadError
from atoll_edge.detector.backends.litert import InterpreterModel
from atoll_edge.detector.protocol import ACCELERATOR


class EdgeTpuLoader:
    """Loads models that `edgetpu_compiler` compiled."""

    # The device has no threads, and the file says the rest.
    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> InterpreterModel:  # noqa: ARG002
        number = os.environ.get(ACCELERATOR)
        try:
            interpreter = make_interpreter(os.fspath(path), device=None if number is None else f":{number}")
        except (ValueError, OSError) as error:
            # pycoral raises the same ValueError for a device that does not answer, often without a text, and for a
            # file that is not a model. The text of the first, where it has one, names the delegate.
            text, found = str(error).strip(), len(list_edge_tpus())
            if found and text and "delegate" not in text.lower():
                raise LoadError(f"the Edge TPU cannot load {path.name}: {text}") from None
            raise DeviceMissing(f"no Edge TPU answers ({found} listed): {text or 'load_delegate failed'}") from None
        try:
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise LoadError(f"the Edge TPU ({get_runtime_version()}) cannot load {path.name}: {error}") from None
        return InterpreterModel(interpreter)


def loader() -> EdgeTpuLoader:
    """See `base.MODULES`."""
    return EdgeTpuLoader()
