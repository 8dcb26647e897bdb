"""Writing an mp4 that every player and browser shows: H.264, its index at the front."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from atoll_edge.video.library import load_av

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

TICKS = 90_000  # per second: the clock of MPEG, which every player divides well
_ENCODER = {"preset": "veryfast", "crf": "23"}


class Mp4:
    """One video; a frame for each `add`, scaled to the size of the first. The file is there when it is whole."""

    def __init__(self, path: Path, *, width: int, height: int, rate: float) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.part")
        av = load_av()
        self._av = av
        # H.264 stores colour for blocks of 2 × 2 pixels.
        self.width, self.height = max(2, width - width % 2), max(2, height - height % 2)
        self._container = av.open(str(self._partial), mode="w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1001), options=_ENCODER
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        self._last = -1

    def __enter__(self) -> "Mp4":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is not None:
                with suppress(OSError, self._av.FFmpegError):
                    self._container.close()
                return
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def add(self, picture: "NDArray[uint8]", seconds: float) -> None:
        """Append a BGR picture, `seconds` after the start.

        Raises:
            OSError: the file cannot be written (disk full).
        """
        frame = self._av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame = frame.reformat(width=self.width, height=self.height, format="yuv420p")
        frame.pts = self._last = max(self._last + 1, round(seconds * TICKS))
        frame.time_base = Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))
