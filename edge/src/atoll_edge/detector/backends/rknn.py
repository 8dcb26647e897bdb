"""The backend for Rockchip's NPUs: `rknnlite` over librknnrt.so, for files that `rknn-toolkit2` compiled.

Such a file takes bytes, one RGB picture [1, h, w, 3], and gives real numbers. It does not say how large the picture
is: the release's manifest does. What an SSD's numbers stand for, the release's `detector.json` says.
"""

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rknnlite.api import RKNNLite

from atoll_contract.detector_head import DetectorHead
from atoll_edge.detector.backends.base import DeviceMissing, LoadError
from atoll_edge.detector.heads import HeadError, read_head
from atoll_edge.detector.outputs import ModelOutput, OutputsError, read_anchors, read_levels

if TYPE_CHECKING:
    from PIL.Image import Image


class RknnModel:
    """A LoadedModel of a runtime that is ready; `head` is that of a detector with anchors."""

    def __init__(self, runtime: Any, side: int, head: DetectorHead | None) -> None:
        self._runtime = runtime
        self._head = head
        self.height = self.width = side
        # Frees the NPU's memory when another model has taken over.
        weakref.finalize(self, runtime.release)

    def detect(self, image: "Image") -> ModelOutput:
        from atoll_contract.images import resize

        outputs = self._runtime.inference(inputs=[resize(image, self.width)[None]], data_format=["nhwc"])
        if outputs is None:
            # It says why on its own log only.
            raise RuntimeError("the Rockchip NPU gave no answer to a picture")
        try:
            return read_anchors(outputs, self._head) if self._head else read_levels(outputs, self.width)
        except OutputsError as error:
            raise LoadError(str(error)) from None


class RknnLoader:
    """Loads models that `rknn-toolkit2` compiled for this device's chip."""

    def load(self, path: Path, *, threads: int, side: int | None = None, head: Path | None = None) -> RknnModel:  # noqa: ARG002 (the NPU has none)
        if side is None:
            raise LoadError(f"{path.name} comes without a manifest, which says how large its input is")
        try:
            anchored = read_head(head, side) if head is not None else None
        except HeadError as error:
            raise LoadError(str(error)) from None
        runtime = RKNNLite(verbose=False)
        try:
            # The second one is the first that shows the file to the runtime and the driver.
            code = runtime.load_rknn(os.fspath(path)) or runtime.init_runtime()
        except Exception as error:  # noqa: BLE001 (the library raises no other kind)
            code = error
        if code:
            runtime.release()
            raise DeviceMissing(
                f"the Rockchip NPU does not take {path.name} ({code}): its driver is missing, or "
                "librknnrt.so is older than the rknn-toolkit2 that compiled the file"
            )
        return RknnModel(runtime, side, anchored)


def loader() -> RknnLoader:
    """See `base.MODULES`."""
    return RknnLoader()
