"""Writing a fragmented mp4: H.264 in pieces of half a second, each of which plays without what comes after it.

The layout is that of ISO/IEC 14496-12, section 8.8 (movie fragments): the header comes first and says that fragments
follow, so that there is no index at the end without which the file would be lost.
"""

from __future__ import annotations

from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from atoll_operator.video.durable import DurableFile
from atoll_operator.video.library import load_av

if TYPE_CHECKING:
    from av import VideoFrame

FRAGMENT_SECONDS = 0.5
TICKS = 90_000  # per second: the clock of MPEG, which every player divides well

# One fragment's own boxes, and what one frame adds to their tables.
FRAGMENT_BYTES = 256
FRAME_BYTES = 24

_FORMAT = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer", "flush_packets": "1"}
# No frame waits in the encoder for a later one: what is encoded is in the file a fragment later. Quality 20 leaves
# edges that a labeller sees; a slower preset would cost a Pi its frame rate.
_ENCODER = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}


class Movie:
    """A video file under construction; its frames are scaled to the size of the first."""

    def __init__(self, file: DurableFile, *, width: int, height: int, rate: int, size_limit: int | None) -> None:
        self._file, self._limit = file, size_limit
        self._av = load_av()
        # H.264 stores colour for blocks of 2 × 2 pixels.
        self.width, self.height = max(2, width - width % 2), max(2, height - height % 2)
        self._container = self._av.open(file, mode="w", format="mp4", options=_FORMAT)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        # Key frames are asked for by time, below: a camera's rate is not what it promises.
        self._stream.codec_context.gop_size = 1_000_000
        self._last = -1
        self._key_at = -1.0
        self._waiting = 0  # bytes that the muxer holds until the fragment is complete

    def __enter__(self) -> Movie:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, frame: VideoFrame, seconds: float) -> bool:
        """Append a frame, `seconds` after the start; False, and nothing written, where the size limit is reached.

        Raises:
            OSError: the file cannot be written (disk full).
        """
        picture = frame.reformat(width=self.width, height=self.height, format="yuv420p")
        picture.pts = self._last = max(self._last + 1, round(seconds * TICKS))
        picture.time_base = Fraction(1, TICKS)
        starts = self._key_at < 0 or seconds - self._key_at >= FRAGMENT_SECONDS
        kinds = self._av.video.frame.PictureType
        picture.pict_type = kinds.I if starts else kinds.NONE
        for packet in self._stream.encode(picture):
            if not self._fits(packet.size):
                return False
            before = self._file.size
            self._container.mux(packet)
            self._file.check()
            if self._file.size != before:
                self._waiting = 0
            self._waiting += packet.size + FRAME_BYTES
        if starts:
            self._key_at = seconds
        return True

    def close(self) -> None:
        """Write the last fragment. Without it the file plays too, but for at most that fragment."""
        self._container.close()

    def _fits(self, size: int) -> bool:
        if self._limit is None:
            return True
        return self._file.size + self._waiting + size + FRAME_BYTES + 2 * FRAGMENT_BYTES <= self._limit
