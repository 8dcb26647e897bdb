"""Reads and writes video files through PyAV, which the agent on a robot does not need."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from atoll_contract.video import NO_FRAME, NO_VIDEO, SOUND_ONLY, load_av, video_problem
from atoll_edge.camera.source import BgrImage

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

# FFmpeg may read no other format: a playlist that is named .mp4 could refer to files and addresses elsewhere.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf,flv"
USUAL_RATE = 30.0
TICKS = 90_000  # per second: the clock of MPEG
_ENCODER = {"preset": "veryfast", "crf": "23"}


@dataclass(frozen=True)
class DecodedFrame:
    """One frame: its number from 0, its time since the first (seconds), its pixels BGR [h, w, 3]."""

    number: int
    seconds: float
    image: BgrImage


class VideoFile:
    """A video to iterate over. `problem` says why it, or a part of it, cannot be read; it is set while iterating."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.problem = video_problem(path)
        self.rate = USUAL_RATE
        # The number of frames by the file's header, 0 if it has none; only for the progress.
        self.expected = 0
        if not self.problem:
            self._probe()

    def _probe(self) -> None:
        av = load_av()
        try:
            with self._open() as container:
                if not container.streams.video:
                    self.problem = SOUND_ONLY
                    return
                stream = container.streams.video[0]
                self.rate = float(stream.average_rate or USUAL_RATE)
                length = container.duration / av.time_base if container.duration else 0.0
                self.expected = int(stream.frames or length * self.rate)
        except (av.FFmpegError, OSError) as error:
            self.problem = _describe(error) if isinstance(error, LookupError) else NO_VIDEO  # no decoder

    def __iter__(self) -> Iterator[DecodedFrame]:
        if self.problem:
            return
        av = load_av()
        count = 0
        try:
            with self._open() as container:
                for frame in self._frames(container):
                    count += 1
                    yield frame
        except av.FFmpegError as error:
            self.problem = _describe(error)
        self.problem = self.problem or ("" if count else NO_FRAME)

    def _open(self) -> "InputContainer":
        container: InputContainer = load_av().open(f"file:{self.path}", options={"format_whitelist": CONTAINERS})
        return container

    def _frames(self, container: "InputContainer") -> Iterator[DecodedFrame]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start, latest = None, 0.0
        for number, frame in enumerate(self._decoded(container, stream)):
            at = frame.time if frame.time is not None else number / self.rate
            start = at if start is None else start
            # In joined recordings the clock may jump back; the time then continues from the last frame.
            start -= max(0.0, latest - (at - start))
            latest = at - start
            yield DecodedFrame(number, latest, _upright(frame))

    def _decoded(self, container: "InputContainer", stream: "VideoStream") -> Iterator["VideoFrame"]:
        """Yields all frames but those of damaged packets; a truncated file has one at its end."""
        damaged = 0
        av = load_av()
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                damaged += 1
                self.problem = f"{damaged} damaged piece{'s' if damaged > 1 else ''}"


def _upright(frame: "VideoFrame") -> BgrImage:
    """Returns the BGR image [h, w, 3] of a frame, turned upright by the rotation that the file states."""
    import numpy as np

    image: BgrImage = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image


def _describe(error: Any) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


class Mp4Writer:
    """Writes an H.264 video; `add` appends a frame, scaled to the given size. The file appears once it is complete."""

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

    def __enter__(self) -> "Mp4Writer":
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

    def add(self, image: BgrImage, seconds: float) -> None:
        """Appends a BGR image [h, w, 3], `seconds` after the start.

        Raises:
            OSError: the file cannot be written, such as on a full disk.
        """
        frame = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        frame = frame.reformat(width=self.width, height=self.height, format="yuv420p")
        frame.pts = self._last = max(self._last + 1, round(seconds * TICKS))
        frame.time_base = Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))
