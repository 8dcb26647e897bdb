"""A picture of the camera, and what gives pictures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One picture, BGR [h, w, 3]; its number from 1; when it was taken, in microseconds of NetworkTables' clock."""

    picture: "NDArray[uint8]"
    number: int
    captured_us: int

    @property
    def width(self) -> int:
        return int(self.picture.shape[1])

    @property
    def height(self) -> int:
        return int(self.picture.shape[0])


class FrameSource(Protocol):
    """A camera or what stands for one."""

    @property
    def description(self) -> str:
        """What people are told: a device path, a URL, a folder."""
        ...

    @property
    def mode(self) -> tuple[int, int, int]:
        """Width, height and frames per second that were asked for."""
        ...

    @property
    def connected(self) -> bool: ...

    def grab(self, timeout_seconds: float) -> Frame | None:
        """The next frame, or None if none came within `timeout_seconds`. Called by one thread."""
        ...

    def close(self) -> None: ...
