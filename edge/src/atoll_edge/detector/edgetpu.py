"""The Edge TPU backend: pycoral over `tflite_runtime` and libedgetpu.

Imported in the Edge TPU child only. libedgetpu ends the process on USB errors (`LOG(FATAL)` in its USB driver), which
is why a backend never runs in the agent. A model that is loaded while another runs shares the open device.
"""

import os
from pathlib import Path

from pycoral.utils.edgetpu import get_runtime_version, list_edge_tpus, make_interpreter

from atoll_edge.detector.backends import DeviceMissing, InterpretedModel, LoadError


class EdgeTpuLoader:
    """Loads models that `edgetpu_compiler` made."""

    def load(self, path: Path, *, threads: int) -> InterpretedModel:  # noqa: ARG002 (the device has its own)
        try:
            interpreter = make_interpreter(os.fspath(path))
        except (ValueError, OSError) as error:
            # The same ValueError for a device that does not answer, often without a word, and for a file that is no
            # model; the first names the delegate where it names anything.
            text, found = str(error).strip(), len(list_edge_tpus())
            if found and text and "delegate" not in text.lower():
                raise LoadError(f"the Edge TPU cannot load {path.name}: {text}") from None
            raise DeviceMissing(f"no Edge TPU answers ({found} listed): {text or 'load_delegate failed'}") from None
        try:
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise LoadError(f"the Edge TPU ({get_runtime_version()}) cannot load {path.name}: {error}") from None
        return InterpretedModel(interpreter)


def loader() -> EdgeTpuLoader:
    """See `backend.ModelLoader`."""
    return EdgeTpuLoader()
