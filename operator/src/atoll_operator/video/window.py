"""A window that shows what is being recorded; q, Esc or the close button end the recording."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from atoll_contract.errors import SpecError

if TYPE_CHECKING:
    from av import VideoFrame

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
