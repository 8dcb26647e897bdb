"""Finds video files, names their frames, and reads samples of them with PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.errors import SpecError
from atoll_contract.video import NO_FRAME, NO_VIDEO, SOUND_ONLY, load_av, video_problem

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv")
# A playlist that calls itself .mp4 could name files and addresses outside the folder: only true containers are read.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf,flv"

_UNPORTABLE = re.compile(r"[^A-Za-z0-9._-]+")
_DIGITS = re.compile(r"(\d+)")
# Added to a sample's number, so that a time just below a whole number of samples counts as that number.
_EPSILON = 1e-6


@dataclass(frozen=True)
class VideoFile:
    """A video and the prefix of its frames' names: unique, and safe in every labelling tool and archive."""

    path: Path
    name: str

    def frame_name(self, number: int) -> str:
        """The file name of sample `number`.

        The convert stage keeps names together that have the same text before their last number, and the numbers 0–49,
        50–99 and so on. These are neighbours in time, as the number counts the samples since the video began.
        """
        return f"{self.name}_{number:06d}.jpg"


def find_videos(paths: Sequence[Path]) -> list[VideoFile]:
    """The videos of the files and folders given, folders with all that is below them, in natural order.

    Raises:
        SpecError: a path does not exist, or there is no video.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for video in _videos_below(path):
            found.setdefault(video.resolve(), video)
    if not found:
        raise SpecError(f"{', '.join(map(str, paths))}: no video; known are {', '.join(SUFFIXES)}")
    return _named(list(found.values()))


def _videos_below(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SpecError(f"{path}: no such file or folder")
    videos = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    return sorted(videos, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """The sort key of a path, which puts match2 before match10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(str(path))]


def _named(videos: Sequence[Path]) -> list[VideoFile]:
    """Names each video by its stem; if two share one, also by folder and suffix; if that is not enough, by a number."""
    stems = [_portable(video.stem) for video in videos]
    # Windows and macOS take Match.mp4 and match.mp4 for one name.
    folded = [stem.lower() for stem in stems]
    taken: set[str] = set()
    files = []
    for video, stem in zip(videos, stems, strict=True):
        alone = folded.count(stem.lower()) == 1
        wanted = stem if alone else _portable(f"{video.resolve().parent.name}-{stem}-{video.suffix[1:]}")
        name, copy = wanted, 1
        while name.lower() in taken or (not alone and name.lower() in folded):
            copy += 1
            name = f"{wanted}-{copy}"
        taken.add(name.lower())
        files.append(VideoFile(video, name))
    return files


def _portable(text: str) -> str:
    return _UNPORTABLE.sub("-", text).strip("-.") or "video"


@dataclass(frozen=True)
class Sample:
    """A frame, with the number of the sample since the start, the frame's index among all frames, and its time in
    seconds."""

    number: int
    index: int
    seconds: float
    frame: VideoFrame


class SampleReader:
    """The samples of a video, `rate` a second. Afterwards `decoded` is the number of all frames, and `problem` says why
    some could not be read."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.decoded = 0
        self.problem = ""

    def __iter__(self) -> Iterator[Sample]:
        av = load_av()
        self.problem = video_problem(self.path)
        if self.problem:
            return
        try:
            with av.open(f"file:{self.path}", options={"format_whitelist": CONTAINERS}) as container:
                if not container.streams.video:
                    self.problem = SOUND_ONLY
                    return
                yield from self._samples(container)
        except av.FFmpegError as error:
            known = self.decoded or isinstance(error, LookupError)  # FFmpeg has no decoder
            self.problem = (error.strerror or type(error).__name__) if known else NO_VIDEO
        self.problem = self.problem or ("" if self.decoded else NO_FRAME)

    def _samples(self, container: InputContainer) -> Iterator[Sample]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start, latest, due = None, 0.0, 0
        for index, frame in enumerate(self._frames(container, stream)):
            self.decoded += 1
            at = frame.time if frame.time is not None else index / float(stream.average_rate or 30)
            start = at if start is None else start
            # In joined recordings the clock may jump back; the time then continues from the last frame.
            start -= max(0.0, latest - (at - start))
            latest = at - start
            number = int(latest * self.rate + _EPSILON)
            if number >= due:
                due = number + 1
                yield Sample(number, index, latest, frame)

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """All frames except those of damaged packets, such as the one at the end of a file that was cut off."""
        damaged = 0
        av = load_av()
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                damaged += 1
                self.problem = f"{damaged} damaged piece{'s' if damaged > 1 else ''}"
