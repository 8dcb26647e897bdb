"""Opens the frame source that the settings name: a camera through cscore, files, or the synthetic scene.

cscore opens a USB camera by its device path, with the settings that WPILibPi keeps for it, and a network camera by its
URL. It reconnects by itself, and stamps frames with the driver's time in NetworkTables' clock.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atoll_edge.camera.files import ImageSource, SyntheticSource
from atoll_edge.camera.source import BgrImage, Frame, FrameSource
from atoll_edge.config import CameraConfig

DEFAULT_PATH = "/dev/video0"
# The seed used these; the bandwidth of a field allows them.
DEFAULT_SIZE = (320, 240)
DEFAULT_FPS = 30


def open_source(
    camera: CameraConfig, *, now_us: Callable[[], int], settings: Mapping[str, Any] | None = None
) -> FrameSource:
    """Opens the source of `camera`, which has a name; `settings` are cscore's own, for a real camera.

    Raises:
        SourceError: a file or folder holds no image.
    """
    path = camera.path or DEFAULT_PATH
    size = (camera.width or DEFAULT_SIZE[0], camera.height or DEFAULT_SIZE[1])
    fps = camera.fps or DEFAULT_FPS
    if path == "synthetic":
        return SyntheticSource(*size, fps=fps, now_us=now_us)
    if path.startswith(("http://", "https://", "/dev/")):
        return CameraSource(camera.name or path, path, size=size, fps=fps, settings=settings or {})
    return ImageSource(Path(path), fps=fps, now_us=now_us)


def without_password(path: str) -> str:
    """Returns a device's path as it is, and a URL without user name and password, for pages and logs."""
    parts = urlsplit(path)
    if "@" not in parts.netloc:
        return path
    return parts._replace(netloc=f"…@{parts.netloc.rpartition('@')[2]}").geturl()


class CameraSource:
    """A cscore camera. `settings` is a camera entry of frc.json, which cscore takes as it is."""

    def __init__(self, name: str, path: str, *, size: tuple[int, int], fps: int, settings: Mapping[str, Any]) -> None:
        import cscore
        import numpy as np

        self.description = without_password(path)
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
        self._buffer: BgrImage = np.zeros((size[1], size[0], 3), np.uint8)

    @property
    def connected(self) -> bool:
        return bool(self.camera.isConnected())

    def grab(self, timeout_seconds: float) -> Frame | None:
        captured_us, image = self._sink.grabFrame(self._buffer, timeout_seconds)
        if captured_us == 0:
            return None
        self._number += 1
        # The sink fills the same buffer again while the detector may still read this frame.
        return Frame(image.copy(), self._number, int(captured_us))

    def close(self) -> None:
        self._sink.setEnabled(False)
