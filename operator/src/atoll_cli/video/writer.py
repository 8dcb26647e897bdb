"""Writes an .mp4 that plays while it grows and after a power cut, up to about its last second."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.video import load_av

if TYPE_CHECKING:
    from av import VideoFrame

SYNC_SECONDS = 1.0

FRAGMENT_SECONDS = 0.5
TICKS = 90_000  # per second: the clock of MPEG, which every player divides well

# The boxes of one fragment, and what one frame adds to their tables.
FRAGMENT_BYTES = 256
FRAME_BYTES = 24

_FORMAT = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer", "flush_packets": "1"}
# The encoder holds no frame back for a later one: a frame is in the file one fragment later. Quality 20 leaves
# edges that a labeller sees; a slower preset would cost a Pi its frame rate.
_ENCODER = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}


class DurableFile:
    """A new file for one writer; a thread flushes the machine's cache to the disk every second while it grows.

    What was written survives `kill -9` by itself; only the flush makes it survive a power cut. The flush has its own
    thread because an SD card may take longer for it than a camera waits.
    """

    def __init__(self, path: Path) -> None:
        """Create `path`.

        Raises:
            FileExistsError: there is such a file; a recording never overwrites one.
        """
        self.path = path
        self.size = 0
        self._failure: OSError | None = None
        self._file = path.open("xb", buffering=0)
        self._closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="flush-recording", daemon=True)
        self._syncing.start()

    def __enter__(self) -> DurableFile:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def write(self, data: bytes) -> int:
        """Write all of `data`; PyAV calls it.

        The library would swallow an exception: a failure is kept for `check`, and nothing is written after it.
        """
        try:
            rest = memoryview(data)
            while rest and self._failure is None:
                done = self._file.write(rest)
                self.size += done
                rest = rest[done:]
        except OSError as error:
            self._failure = error
        return len(data)

    def check(self) -> None:
        """Raise the failure of an earlier write.

        Raises:
            OSError: with the file's name.
        """
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror, str(self.path))

    def close(self) -> None:
        """Flush for the last time and close."""
        if self._file.closed:
            return
        self._closed.set()
        self._syncing.join()
        self._flush()
        self._file.close()

    def _sync(self) -> None:
        flushed = 0
        while not self._closed.wait(SYNC_SECONDS):
            size = self.size
            if size != flushed:
                self._flush()
                flushed = size

    def _flush(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._failure = self._failure or error


class VideoWriter:
    """Encodes frames, scaled to one size, as H.264 into fragments of an .mp4."""

    def __init__(self, file: DurableFile, *, width: int, height: int, rate: int, size_limit: int | None) -> None:
        self._file, self._limit = file, size_limit
        self._av = load_av()
        # H.264 stores colour for blocks of 2 × 2 pixels.
        self.width, self.height = max(2, width - width % 2), max(2, height - height % 2)
        self._container = self._av.open(file, mode="w", format="mp4", options=_FORMAT)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        # `add` sets the key frames by time, because a camera may not keep its rate.
        self._stream.codec_context.gop_size = 1_000_000
        self._last = -1
        self._key_at = -1.0
        self._waiting = 0  # bytes that the muxer holds until the fragment is complete

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def add(self, frame: VideoFrame, seconds: float) -> bool:
        """Append a frame, `seconds` after the start; returns False, and writes nothing, at the size limit.

        Raises:
            OSError: the file cannot be written (disk full).
        """
        image = frame.reformat(width=self.width, height=self.height, format="yuv420p")
        image.pts = self._last = max(self._last + 1, round(seconds * TICKS))
        image.time_base = Fraction(1, TICKS)
        starts = self._key_at < 0 or seconds - self._key_at >= FRAGMENT_SECONDS
        kinds = self._av.video.frame.PictureType
        image.pict_type = kinds.I if starts else kinds.NONE
        for packet in self._stream.encode(image):
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
        """Write the last fragment. Without this the file plays too, but lacks that fragment."""
        self._container.close()

    def _fits(self, size: int) -> bool:
        if self._limit is None:
            return True
        return self._file.size + self._waiting + size + FRAME_BYTES + 2 * FRAGMENT_BYTES <= self._limit
