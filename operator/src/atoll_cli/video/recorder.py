"""Recording: frames from a source into a file, until a limit, a signal or the end of the source."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from atoll_cli.video.capture import Feed, Moment, Source
from atoll_cli.video.writer import DurableFile, Movie
from atoll_contract.errors import SpecError

if TYPE_CHECKING:
    from av import VideoFrame


class Ending(StrEnum):
    """Why a recording ended."""

    TIME_LIMIT = "time limit"
    SIZE_LIMIT = "size limit"
    STOPPED = "stopped"
    END_OF_FILE = "end of the file"
    SOURCE_LOST = "source lost"


@dataclass(frozen=True)
class Limits:
    """Where a recording ends by itself, and how long it waits for a live source that went away (seconds)."""

    seconds: float | None = None
    size: int | None = None
    patience: float = 30.0


@dataclass(frozen=True)
class Recording:
    """What was recorded; `seconds` is the time of the last frame, `missed` what came faster than it was written."""

    path: Path
    ending: Ending
    detail: str
    frames: int
    seconds: float
    size: int
    width: int
    height: int
    missed: int


def record(
    source: Source,
    path: Path,
    *,
    rate: int,
    limits: Limits,
    stop: threading.Event,
    watch: Callable[[VideoFrame], None] | None = None,
) -> Recording:
    """Record `source` into a new file at `path` until something ends it; `watch` sees each frame that was written.

    Raises:
        SpecError: the source cannot be opened or sends no picture, or there is such a file.
        OSError: the file cannot be written; what was written before plays.
    """
    if path.exists():
        raise SpecError(f"{path}: there is such a file; a recording never overwrites one, name another with --output")
    with ExitStack() as stack:
        feed = stack.enter_context(Feed(source, patience=limits.patience))
        first = _first(feed, stop)
        if first is None:
            raise SpecError(f"{source.title}: {feed.failure or 'no picture came'}; nothing was recorded")
        file = stack.enter_context(DurableFile(path))
        size = (first.frame.width, first.frame.height)
        movie = stack.enter_context(Movie(file, width=size[0], height=size[1], rate=rate, size_limit=limits.size))
        ending, frames, seconds = _copy(first, feed, movie, limits=limits, stop=stop, watch=watch)
        movie.close()
        file.close()
        file.check()
        detail = feed.failure if ending is Ending.SOURCE_LOST else ""
        return Recording(path, ending, detail, frames, seconds, file.size, movie.width, movie.height, feed.missed)


def _first(feed: Feed, stop: threading.Event) -> Moment | None:
    moment = None
    while moment is None and not feed.exhausted and not stop.is_set():
        moment = feed.take()
    return moment


def _copy(
    first: Moment,
    feed: Feed,
    movie: Movie,
    *,
    limits: Limits,
    stop: threading.Event,
    watch: Callable[[VideoFrame], None] | None,
) -> tuple[Ending, int, float]:
    """Why it ended, the number of frames written, and the time of the last."""
    moment: Moment | None = first
    frames, seconds = 0, 0.0
    while not stop.is_set():
        if moment is not None:
            if limits.seconds is not None and moment.seconds >= limits.seconds:
                return Ending.TIME_LIMIT, frames, seconds
            if not movie.add(moment.frame, moment.seconds):
                return Ending.SIZE_LIMIT, frames, seconds
            frames, seconds = frames + 1, moment.seconds
            if watch is not None:
                watch(moment.frame)
        elif feed.exhausted:
            return (Ending.SOURCE_LOST if feed.failure else Ending.END_OF_FILE), frames, seconds
        moment = feed.take()
    return Ending.STOPPED, frames, seconds


WIDTH = 640
MISSING = "--window needs a screen and Python's tkinter (Debian: python3-tk); leave it away to record without a window"


class Window:
    """A window of the standard library's tkinter: the OpenCV that the edge needs is a build without windows."""

    def __init__(self, title: str, stop: threading.Event) -> None:
        """Open the window.

        Raises:
            SpecError: there is no screen, or no tkinter.
        """
        try:
            import tkinter
        except ImportError as error:
            raise SpecError(f"{MISSING} ({error})") from None
        self._tkinter = tkinter
        self._stop = stop
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise SpecError(f"{MISSING} ({error})") from None
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._ask_to_stop)
        for key in ("q", "<Escape>"):
            self._root.bind(key, self._ask_to_stop)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._image: object = None

    def __enter__(self) -> Window:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._root.destroy()

    def show(self, frame: VideoFrame) -> None:
        """Show a frame, and see to what the user did."""
        height = max(1, frame.height * WIDTH // frame.width)
        pixels = frame.reformat(width=WIDTH, height=height, format="rgb24").to_ndarray()
        data = b"P6 %d %d 255 " % (WIDTH, height) + pixels.tobytes()
        # Tk forgets an image that no Python object holds.
        self._image = image = self._tkinter.PhotoImage(master=self._root, data=data, format="PPM")
        self._label.configure(image=image)
        self._root.update()

    def _ask_to_stop(self, _event: Any = None) -> None:
        self._stop.set()
