"""A camera through cscore: USB by device path (with WPILib's own settings), or network by URL.

cscore reconnects by itself and stamps frames with the driver's time in NetworkTables' clock.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atoll_edge.camera.source import Frame

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


class CameraSource:
    """A cscore camera. `settings` is a camera entry of frc.json, handed on as WPILibPi does."""

    def __init__(self, name: str, path: str, *, size: tuple[int, int], fps: int, settings: Mapping[str, Any]) -> None:
        import cscore
        import numpy as np

        self.description = path
        self.mode = (*size, fps)
        self._number = 0
        if path.startswith(("http://", "https://")):
            self.camera = cscore.HttpCamera(name, path)
        else:
            self.camera = cscore.UsbCamera(name, path)
        wanted = {"pixel format": "mjpeg", **settings, "width": size[0], "height": size[1], "fps": fps}
        self.camera.setConfigJson(json.dumps(wanted))
        self.camera.setConnectionStrategy(cscore.VideoSource.ConnectionStrategy.kConnectionKeepOpen)
        self._sink = cscore.CvSink(f"{name} frames")
        self._sink.setSource(self.camera)
        self._buffer: NDArray[uint8] = np.zeros((size[1], size[0], 3), np.uint8)

    @property
    def connected(self) -> bool:
        return bool(self.camera.isConnected())

    def grab(self, timeout_seconds: float) -> Frame | None:
        captured_us, picture = self._sink.grabFrame(self._buffer, timeout_seconds)
        if captured_us == 0:
            return None
        self._number += 1
        # The sink fills the same buffer again, while the detector may still read this one.
        return Frame(picture.copy(), self._number, int(captured_us))

    def close(self) -> None:
        self._sink.setEnabled(False)
