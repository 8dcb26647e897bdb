"""Recording: frames from a source into a file, until a limit, a signal or the end of the source."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_cli.video.capture import Source, SourceReader, TimedFrame
from atoll_cli.video.writer import DurableFile, VideoWriter
from atoll_contract.errors import SpecError

if TYPE_CHECKING:
    from av import VideoFrame

WINDOW_WIDTH = 640
NO_WINDOW = (
    "--window needs a screen and Python's tkinter (Debian: python3-tk); leave it away to record without a window"
)


class EndReason(StrEnum):
    """Why a recording ended."""

    TIME_LIMIT = "time limit"
    SIZE_LIMIT = "size limit"
    STOPPED = "stopped"
    END_OF_FILE = "end of the file"
    SOURCE_LOST = "source lost"


@dataclass(frozen=True)
class RecordingLimits:
    """The seconds and bytes at which a recording ends by itself, and the seconds that it waits for a live source that
    was lost."""

    seconds: float | None = None
    size: int | None = None
    retry_timeout: float = 30.0


@dataclass(frozen=True)
class Recording:
    """What was recorded. `seconds` is the time of the last frame, `size` is in bytes, `missed` is the number of frames
    that came faster than they were written."""

    path: Path
    end_reason: EndReason
    detail: str
    frames: int
    seconds: float
    size: int
    width: int
    height: int
    missed: int

    def document(self) -> dict[str, object]:
        """What `-o json` prints."""
        fields = asdict(self)
        return {"path": str(fields.pop("path")), "ending": fields.pop("end_reason"), **fields}


def record(
    source: Source,
    path: Path,
    *,
    rate: int,
    limits: RecordingLimits,
    stop: threading.Event,
    on_frame: Callable[[VideoFrame], None] | None = None,
) -> Recording:
    """Record `source` into a new file at `path` until something ends it; `on_frame` is called with each frame that was
    written.

    Raises:
        SpecError: the source cannot be opened or sends no picture, or there is such a file.
        OSError: the file cannot be written; what was written before plays.
    """
    if path.exists():
        raise SpecError(f"{path}: there is such a file; a recording never overwrites one, name another with --to")
    with ExitStack() as stack:
        reader = stack.enter_context(SourceReader(source, retry_timeout=limits.retry_timeout))
        first = _first(reader, stop)
        if first is None:
            raise SpecError(f"{source.title}: {reader.failure or 'no picture came'}; nothing was recorded")
        file = stack.enter_context(DurableFile(path))
        width, height = first.frame.width, first.frame.height
        writer = stack.enter_context(VideoWriter(file, width=width, height=height, rate=rate, size_limit=limits.size))
        end_reason, frames, seconds = _copy(first, reader, writer, limits=limits, stop=stop, on_frame=on_frame)
        writer.close()
        file.close()
        file.check()
        detail = reader.failure if end_reason is EndReason.SOURCE_LOST else ""
        width, height = writer.width, writer.height
        return Recording(path, end_reason, detail, frames, seconds, file.size, width, height, reader.missed)


def _first(reader: SourceReader, stop: threading.Event) -> TimedFrame | None:
    timed = None
    while timed is None and not reader.exhausted and not stop.is_set():
        timed = reader.take()
    return timed


def _copy(
    first: TimedFrame,
    reader: SourceReader,
    writer: VideoWriter,
    *,
    limits: RecordingLimits,
    stop: threading.Event,
    on_frame: Callable[[VideoFrame], None] | None,
) -> tuple[EndReason, int, float]:
    """Why it ended, the number of frames written, and the time of the last."""
    timed: TimedFrame | None = first
    frames, seconds = 0, 0.0
    while not stop.is_set():
        if timed is not None:
            if limits.seconds is not None and timed.seconds >= limits.seconds:
                return EndReason.TIME_LIMIT, frames, seconds
            if not writer.add(timed.frame, timed.seconds):
                return EndReason.SIZE_LIMIT, frames, seconds
            frames, seconds = frames + 1, timed.seconds
            if on_frame is not None:
                on_frame(timed.frame)
        elif reader.exhausted:
            return (EndReason.SOURCE_LOST if reader.failure else EndReason.END_OF_FILE), frames, seconds
        timed = reader.take()
    return EndReason.STOPPED, frames, seconds


class Window:
    """A preview in tkinter of the standard library: the OpenCV that the edge needs is a build without windows."""

    def __init__(self, title: str, stop: threading.Event) -> None:
        """Open the window.

        Raises:
            SpecError: there is no screen, or no tkinter.
        """
        try:
            import tkinter
        except ImportError as error:
            raise SpecError(f"{NO_WINDOW} ({error})") from None
        self._tkinter = tkinter
        self._stop = stop
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise SpecError(f"{NO_WINDOW} ({error})") from None
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._ask_to_stop)
        for key in ("q", "<Escape>"):
            self._root.bind(key, self._ask_to_stop)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._image: object = None

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *details: object) -> None:
        self._root.destroy()

    def show(self, frame: VideoFrame) -> None:
        """Show a frame, and handle the keys that the user pressed."""
        height = max(1, frame.height * WINDOW_WIDTH // frame.width)
        pixels = frame.reformat(width=WINDOW_WIDTH, height=height, format="rgb24").to_ndarray()
        data = b"P6 %d %d 255 " % (WINDOW_WIDTH, height) + pixels.tobytes()
        # Tk forgets an image that no Python object holds.
        self._image = image = self._tkinter.PhotoImage(master=self._root, data=data, format="PPM")
        self._label.configure(image=image)
        self._root.update()

    def _ask_to_stop(self, _event: Any = None) -> None:
        self._stop.set()
