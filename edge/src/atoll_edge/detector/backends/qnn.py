"""The backend for Qualcomm's NPUs: LiteRT with Qualcomm's delegate, which runs the int8 file of a release on the NPU.

The delegate takes the operations that it knows; LiteRT runs the others, such as the post-processing one, on the CPU.
"""

from pathlib import Path

from ai_edge_litert.interpreter import load_delegate

from atoll_edge.detector.backends.base import INSTALL, Backend, DeviceMissing
from atoll_edge.detector.backends.hardware import QNN_LIBRARY
from atoll_edge.detector.backends.litert import InterpreterModel, load_interpreter

# The only option that the delegate asks for: HTP is the NPU, against the GPU and older DSPs.
OPTIONS = {"backend_type": "htp"}


class QnnLoader:
    """Loads int8 models."""

    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> InterpreterModel:  # noqa: ARG002 (the file says it)
        try:
            delegate = load_delegate(QNN_LIBRARY, OPTIONS)
        except OSError as error:
            raise DeviceMissing(f"{QNN_LIBRARY} does not load ({error}): {INSTALL[Backend.QNN]}") from None
        except ValueError as error:
            text = " ".join(str(error).split()) or "it gives no reason"
            raise DeviceMissing(f"the Qualcomm NPU does not answer: {text}") from None
        return load_interpreter(path, threads=threads, delegate=delegate)


def loader() -> QnnLoader:
    """See `base.MODULES`."""
    return QnnLoader()
