"""Addresses of files that a browser tab opens by itself: it sends no token, so the address is one."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LIFE_SECONDS = 600.0
MOST = 100
PREFIX = "/files/"


@dataclass(frozen=True)
class Linked:
    """A file to hand out once or again while its address lives. `sandboxed`: it is a page that may run nothing."""

    name: str
    kind: str
    read: Callable[[], bytes]
    sandboxed: bool = False


class Links:
    """Addresses that nobody can guess, each for ten minutes; `clock` is a parameter for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Linked]] = OrderedDict()

    def add(self, linked: Linked) -> str:
        """The path under which the file can be had."""
        path = f"{PREFIX}{secrets.token_urlsafe(24)}/{linked.name}"
        with self._lock:
            self._known[path] = self._clock() + LIFE_SECONDS, linked
            while len(self._known) > MOST:
                self._known.popitem(last=False)
        return path

    def find(self, path: str) -> Linked | None:
        with self._lock:
            until, linked = self._known.get(path, (0.0, None))
        return linked if self._clock() < until else None
