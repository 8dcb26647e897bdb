"""The interface of a stage's work: the context that it gets, and the outcome that it returns."""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_contract.document import replace
from atoll_contract.errors import AtollError, Reason
from atoll_contract.stage import StageInput
from atoll_contract.stage_result import RESULT_NAME, Artifact, Progress, emit
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_contract.store_spec import StoreSpec


class Interrupted(AtollError):
    """The stage was asked to end (SIGTERM, SIGINT, or the engine is gone), and has saved what it could."""

    def __init__(self, message: str = "ended on request; the next attempt goes on from what was saved") -> None:
        super().__init__(Reason.SUSPENDED, message)


@dataclass(frozen=True)
class StageOutcome:
    """The result of the work. A failure's `reason` (`QualityGateFailed`, …) fails the stage and, unlike a raised error,
    keeps the outputs and the summary."""

    message: str
    outputs: tuple[Artifact, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    reason: Reason = Reason.COMPLETED


class ProgressLines:
    """Prints progress lines, and in them what the stage waits for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = Progress(0.0)

    @property
    def last(self) -> Progress:
        """The newest of them."""
        return self._last

    def report(self, progress: Progress) -> None:
        with self._lock:
            self._emit(replace(progress, waiting=self._last.waiting))

    def wait_for(self, what: str | None) -> None:
        """The stage waits for this from now on; None: for nothing any more."""
        with self._lock:
            self._emit(replace(self._last, waiting=what))

    def _emit(self, progress: Progress) -> None:
        self._last = progress
        emit(progress, sys.stdout)


@dataclass(frozen=True)
class StageContext:
    """What the work reads and writes. `work` is an empty scratch folder that is removed afterwards; `stop` is set when
    the stage is to save and raise `Interrupted`. Of several processes that share the work only `worker` 0 leaves a
    result in the store."""

    input: StageInput
    store: Store
    work: Path
    pod_uid: str = "by-hand"
    stop: threading.Event = field(default_factory=threading.Event)
    progress: ProgressLines = field(default_factory=ProgressLines)
    worker: int = 0

    @property
    def prefix(self) -> str:
        """The key prefix that only this process writes."""
        return self.input.prefix(self.pod_uid)

    def report(self, progress: Progress) -> None:
        """Prints one progress line."""
        self.progress.report(progress)

    def open_store(self, spec: StoreSpec) -> Store:
        """Another store than the run's; the progress says when it does not answer."""
        return open_store(spec, self.progress.wait_for)

    def check_stop(self) -> None:
        """Raises Interrupted once the stage is asked to end."""
        if self.stop.is_set():
            raise Interrupted

    def save(self, name: str, path: Path) -> Artifact:
        """Uploads a file under the attempt's prefix, by its own file name, as the artifact `name`."""
        if path.name == RESULT_NAME:
            raise ValueError(f"{RESULT_NAME} is the runtime's own file")
        info = self.store.upload(self.prefix + path.name, path)
        if info.sha256 is None:
            raise ValueError(f"{self.store.url} did not hash {info.key} while it was written")
        return Artifact(name, info.key, info.sha256, info.size)

    def fetch(self, artifact: Artifact, path: Path) -> Path:
        """Downloads an artifact to the file `path` and checks its digest.

        Raises:
            ObjectNotFound: the store does not have it.
            IntegrityError: the store has other bytes.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.store.download(artifact.key, path, sha256=artifact.sha256)
        return path
