"""The addresses of the files that the page offers for download."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

DOWNLOAD_PREFIX = "/files/"
LINK_SECONDS = 600.0
MAX_LINKS = 100


@dataclass(frozen=True)
class LinkedFile:
    """A file for download. `sandboxed`: whether it is a page, which the browser shows without running its scripts."""

    name: str
    media_type: str
    read: Callable[[], bytes]
    sandboxed: bool = False


class DownloadLinks:
    """Addresses that cannot be guessed, each valid for ten minutes: a browser tab that opens a file sends no token, so
    the address is one. `clock` is a parameter for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._links: OrderedDict[str, tuple[float, LinkedFile]] = OrderedDict()

    def add(self, file: LinkedFile) -> str:
        """Return the path under which the file is served."""
        path = f"{DOWNLOAD_PREFIX}{secrets.token_urlsafe(24)}/{file.name}"
        with self._lock:
            self._links[path] = self._clock() + LINK_SECONDS, file
            while len(self._links) > MAX_LINKS:
                self._links.popitem(last=False)
        return path

    def find(self, path: str) -> LinkedFile | None:
        with self._lock:
            until, file = self._links.get(path, (0.0, None))
        return file if self._clock() < until else None
