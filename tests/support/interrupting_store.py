"""A store at whose n-th operation something happens; it passes everything else to the real store."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from atoll_contract.store.base import ObjectInfo, Store, Transferred

T = TypeVar("T")


class InterruptingStore:
    """Calls `before(number, name, key)` ahead of each operation and `after(…)` behind it."""

    def __init__(
        self, store: Store, *, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
    ) -> None:
        self._store = store
        self._before = before or (lambda *_: None)
        self._after = after or (lambda *_: None)
        self.operations = 0

    @property
    def url(self) -> str:
        return self._store.url

    def head(self, key: str) -> ObjectInfo | None:
        return self._step("head", key, lambda: self._store.head(key))

    def get(self, key: str, **keywords: Any) -> bytes:
        return self._step("get", key, lambda: self._store.get(key, **keywords))

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        return self._step("get_if_changed", key, lambda: self._store.get_if_changed(key, etag))

    def put(self, key: str, data: bytes, **keywords: Any) -> ObjectInfo:
        return self._step("put", key, lambda: self._store.put(key, data, **keywords))

    def upload(self, key: str, path: Path, *, transferred: Transferred | None = None) -> ObjectInfo:
        return self._step("upload", key, lambda: self._store.upload(key, path, transferred=transferred))

    def download(self, key: str, path: Path, **keywords: Any) -> ObjectInfo:
        return self._step("download", key, lambda: self._store.download(key, path, **keywords))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._step("list", prefix, lambda: [*self._store.list(prefix)]))

    def delete(self, key: str) -> None:
        self._step("delete", key, lambda: self._store.delete(key))

    def _step(self, name: str, key: str, operation: Callable[[], T]) -> T:
        number = self.operations
        self.operations += 1
        self._before(number, name, key)
        try:
            return operation()
        finally:
            self._after(number, name, key)


def kill_at(step: int) -> Callable[..., None]:
    """Ends this process at operation `step` as `kill -9` does."""

    def act(number: int, *_: object) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process; its exit code, negative for a signal. POSIX."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
