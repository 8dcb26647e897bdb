"""Reading a video at a steady rate: the first frame of each interval, by the frames' own times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_operator.video.library import load_av

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

# A playlist that calls itself .mp4 could name files and addresses outside the folder: only true containers are read.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf,flv"

_ALMOST = 1e-6


@dataclass(frozen=True)
class Sample:
    """One frame to look at: the sample's number since the start, the frame's place among all, its time in seconds."""

    number: int
    index: int
    seconds: float
    frame: VideoFrame


class Reader:
    """The samples of a video. `decoded` counts all frames; `problem` says why some could not be read."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.decoded = 0
        self.problem = ""

    def __iter__(self) -> Iterator[Sample]:
        av = load_av()
        try:
            with av.open(f"file:{self.path}", options={"format_whitelist": CONTAINERS}) as container:
                if not container.streams.video:
                    self.problem = "there is no picture in it"
                    return
                yield from self._samples(container)
        except av.FFmpegError as error:
            self.problem = error.strerror or type(error).__name__

    def _samples(self, container: InputContainer) -> Iterator[Sample]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start, latest, due = None, 0.0, 0
        for index, frame in enumerate(self._frames(container, stream)):
            self.decoded += 1
            at = frame.time if frame.time is not None else index / float(stream.average_rate or 30)
            start = at if start is None else start
            # Where two recordings were joined the clock may jump back; time goes on from where it was.
            start -= max(0.0, latest - (at - start))
            latest = at - start
            number = int(latest * self.rate + _ALMOST)
            if number >= due:
                due = number + 1
                yield Sample(number, index, latest, frame)

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """All frames but those of damaged packets, of which a file that broke off has one at its end."""
        damaged = 0
        av = load_av()
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                damaged += 1
                self.problem = f"{damaged} damaged piece{'s' if damaged > 1 else ''}"
