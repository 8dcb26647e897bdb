"""The frame source that a path means."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_edge.camera.cscore import CameraSource
from atoll_edge.camera.files import PictureSource, SyntheticSource
from atoll_edge.camera.source import FrameSource
from atoll_edge.config import CameraConfig

DEFAULT_PATH = "/dev/video0"
# The size that the seed used, and that a field's bandwidth allows.
DEFAULT_SIZE = (320, 240)
DEFAULT_FPS = 30


def open_source(
    camera: CameraConfig, *, now_us: Callable[[], int], settings: Mapping[str, Any] | None = None
) -> FrameSource:
    """The source of `camera`; `settings` are cscore's for a real camera.

    Raises:
        SourceError: a file or folder without pictures.
    """
    path = camera.path or DEFAULT_PATH
    size = (camera.width or DEFAULT_SIZE[0], camera.height or DEFAULT_SIZE[1])
    fps = camera.fps or DEFAULT_FPS
    if path == "synthetic":
        return SyntheticSource(*size, fps=fps, now_us=now_us)
    if path.startswith(("http://", "https://", "/dev/")):
        return CameraSource(camera_name(camera), path, size=size, fps=fps, settings=settings or {})
    return PictureSource(Path(path), fps=fps, now_us=now_us)


def camera_name(camera: CameraConfig) -> str:
    """The camera's part of `/Atoll/<camera>`."""
    return camera.name or "camera"
