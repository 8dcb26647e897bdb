"""The files of the local engine: a folder for each run, with its record, its Jobs and the lock of its engine."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, replace, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.files import written_whole
from atoll_contract.stage import Stage
from atoll_operator.api.status_codec import read_status
from atoll_operator.jobs.manifest import parse_following
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION
from atoll_operator.lifecycle.model import AttemptNumber

T = TypeVar("T")

DEFAULT_STORE = Path("atoll-store")
# The folder store keeps its locks here, too: no key begins with it.
INTERNAL = ".atoll"
# `is_locked` holds the lock for an instant; an engine that starts then tries again for this long.
_LOCK_SECONDS = 0.5


@dataclass(frozen=True)
class RunFolder:
    """The state of one run. `store` is the folder store; where the store is a bucket, it is the state's folder only."""

    store: Path
    namespace: str
    name: str

    @property
    def path(self) -> Path:
        return self.store / INTERNAL / "engine" / self.namespace / self.name

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    def job(self, name: str) -> Path:
        """The folder of a Job: its record, and the output, result and work folder of each of its stages."""
        return self.jobs / name

    @property
    def cancel_request(self) -> Path:
        return self.path / "cancel"

    @property
    def suspend_request(self) -> Path:
        return self.path / "suspend"

    @property
    def results(self) -> Path:
        """Where the user finds the bundle, the report and `result.json`."""
        return self.store / "results" / self.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other engines from this run. The kernel frees the lock of an engine that is killed.

        Raises:
            SpecError: another engine holds the lock.
        """
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock.open("ab") as lock:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise SpecError(f"run {self.name} is at work in {self.store} already{self._holder()}")
                time.sleep(0.01)
            self._pid.write_text(f"{os.getpid()}\n")
            yield

    def is_locked(self) -> bool:
        """Whether an engine works on this run. A process id does not show it: the kernel reuses ids."""
        try:
            import fcntl
        except ImportError:  # Windows, where no engine runs
            return False
        try:
            with self._lock.open("rb") as lock:
                return not _try_lock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _pid(self) -> Path:
        """The process id of the newest engine, for messages only."""
        return self.path / "engine.pid"

    def _holder(self) -> str:
        try:
            return f" (process {int(self._pid.read_text())})"
        except (OSError, ValueError):
            return ""


def _try_lock(file: IO[bytes], kind: int) -> bool:
    import fcntl

    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def known_runs(store: Path) -> list[RunFolder]:
    """Every run that has state below `store`."""
    found = (store / INTERNAL / "engine").glob("*/*/run.json")
    return sorted((RunFolder(store, path.parts[-3], path.parts[-2]) for path in found), key=lambda item: item.name)


class ReservedVersion(Document, frozen=True):
    """A version that the run has taken for its release."""

    version: int
    published: bool = False


class RunRecord(Document, frozen=True):
    """The state that must survive the engine: the run's identity, the objects it was started with, and its status."""

    uid: str
    created: str
    # The run's object as it was started, with its defaults.
    document: Mapping[str, Any]
    # The resolved profile, which the operator keeps in a ControllerRevision.
    profile: Mapping[str, Any]
    # By this sha256 an earlier version recognised the run; `local.identity` compares what the other fields hold.
    identity: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    releases: tuple[ReservedVersion, ...] = ()
    retry: str | None = None
    # The ObjectStores of its file, by name; None in a record of an earlier version, which kept none.
    stores: Mapping[str, Any] | None = None
    # The file of --signing-key.
    signing_key: str | None = None
    # The digest of what each key of its data sets held, by `<ObjectStore>/<key>`; None as with `stores`.
    inputs: Mapping[str, str] | None = None
    schema_version: int = 1

    @property
    def manifest(self) -> dict[str, Any]:
        """The run's object as an API server would return it now."""
        metadata = dict(self.document["metadata"]) | {"uid": self.uid, "creationTimestamp": self.created}
        if self.retry is not None:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), RETRY_ANNOTATION: self.retry}
        return {**self.document, "metadata": metadata, "status": dict(self.status)}

    def with_release(self, release: ReservedVersion) -> "RunRecord":
        others = tuple(item for item in self.releases if item.version != release.version)
        return replace(self, releases=(*others, release))


class EndedStage(Document, frozen=True):
    """A stage that has succeeded in a Job in which another follows. Times in seconds since 1970."""

    began: float
    finished: float


class JobRecord(Document, frozen=True):
    """A Job: a process for `stage`, and then one for each stage of `following`, as the label of the manifest has them.

    `ended` has the stages that have handed on to the next. The other fields are about the process of the stage after
    them: `pid` and `started`, its start time, are written before it begins its work.
    """

    name: str
    uid: str
    stage: str
    attempt: int
    created: float
    deadline_seconds: int
    pid: int | None = None
    started: str = ""
    finished: float | None = None
    # 128 + the signal for a process that a signal ended, as in a shell.
    exit_code: int | None = None
    timed_out: bool = False
    following: str = ""
    ended: tuple[EndedStage, ...] = ()
    # The compile target, where each has a Job of its own.
    target: str | None = None
    schema_version: int = 1

    @property
    def numbers(self) -> tuple[AttemptNumber, ...]:
        """The stages of the Job and their attempts."""
        return (AttemptNumber(Stage(self.stage), self.attempt), *(parse_following(self.following) or ()))

    @property
    def at_work(self) -> AttemptNumber:
        """The stage whose process runs, or ran last."""
        return self.numbers[len(self.ended)]

    @property
    def began(self) -> float:
        """When that stage began."""
        return self.ended[-1].finished if self.ended else self.created

    def seconds(self, stage: Stage) -> float:
        """How long the stage has run in this Job."""
        spans = [(ended.began, ended.finished) for ended in self.ended] + [(self.began, self.finished or time.time())]
        stages = (number.stage for number in self.numbers)
        return sum(end - start for own, (start, end) in zip(stages, spans, strict=False) if own is stage)


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def read_record(folder: RunFolder) -> RunRecord | None:
    """The state of the run; None if there is none.

    Raises:
        IntegrityError: the file is damaged.
    """
    record = read_document(RunRecord, folder.record)
    if record is not None:
        try:
            read_status(record.status)
        except DecodeError as error:
            raise _damaged(folder.record, error) from None
    return record


def write_record(folder: RunFolder, record: RunRecord) -> None:
    write_document(folder.record, record)


def read_jobs(folder: RunFolder) -> list[JobRecord]:
    """Every Job of the run."""
    found = (read_document(JobRecord, path) for path in sorted(folder.jobs.glob("*/job.json")))
    return [record for record in found if record is not None]


def write_job(folder: RunFolder, job: JobRecord) -> None:
    folder.job(job.name).mkdir(parents=True, exist_ok=True)
    write_document(folder.job(job.name) / "job.json", job)


def remove_job(folder: RunFolder, name: str) -> None:
    """Forget the Job, but keep its output for the user."""
    (folder.job(name) / "job.json").unlink(missing_ok=True)
    for part in ("work", "handover"):
        shutil.rmtree(folder.job(name) / part, ignore_errors=True)


def move_to_history(folder: RunFolder, record: RunRecord) -> None:
    """Make way for a new run of this name. The releases and files of the old one stay in the store."""
    history = folder.path.parent.parent / "history" / folder.namespace / f"{folder.name}-{record.uid[:8]}"
    shutil.rmtree(history, ignore_errors=True)
    history.mkdir(parents=True)
    # The record goes last: until then the run still exists, and a second try does the same.
    for item in sorted(folder.path.iterdir(), key=lambda path: path.name == folder.record.name):
        if item.name not in ("lock", "engine.pid"):
            item.replace(history / item.name)


def read_document(cls: type[T], path: Path) -> T | None:
    """The document in a file of the state; None if there is no file. Raises IntegrityError where it is damaged."""
    try:
        return from_json(cls, path.read_bytes())
    except FileNotFoundError:
        return None
    except DecodeError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: DecodeError) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: {error}; remove {path.parent} to start over")


def write_document(path: Path, document: Any) -> None:
    """Writes a file of the state, whole or not at all."""
    with written_whole(path) as stream:
        stream.write(to_json(document))
