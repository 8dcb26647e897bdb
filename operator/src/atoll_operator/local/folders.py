"""Where the embedded engine keeps things, and the lock that keeps a second engine out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.errors import SpecError

DEFAULT_STORE = Path("atoll-store")
# Beside the locks of the folder store: no key begins with it.
_INTERNAL = ".atoll"


@dataclass(frozen=True)
class RunFolder:
    """The state of one run. `store` is the folder store, or, with a bucket as the store, the state's folder only."""

    store: Path
    namespace: str
    name: str

    @property
    def path(self) -> Path:
        return self.store / _INTERNAL / "engine" / self.namespace / self.name

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def cancel_request(self) -> Path:
        return self.path / "cancel"

    @property
    def results(self) -> Path:
        """Where the bundle, the report and `result.json` are put for the user."""
        return self.store / "results" / self.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other engines from this run; the kernel frees the lock of one that is killed.

        Raises:
            SpecError: another engine holds it.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SpecError(f"run {self.name} is at work in {self.store} already{_holder(self.path)}") from None
            (self.path / "engine.pid").write_text(f"{os.getpid()}\n")
            yield


def _holder(path: Path) -> str:
    try:
        return f" (process {int((path / 'engine.pid').read_text())})"
    except (OSError, ValueError):
        return ""


def known_runs(store: Path) -> list[RunFolder]:
    """Every run that has state below `store`."""
    found = (store / _INTERNAL / "engine").glob("*/*/run.json")
    return sorted((RunFolder(store, path.parts[-3], path.parts[-2]) for path in found), key=lambda item: item.name)
