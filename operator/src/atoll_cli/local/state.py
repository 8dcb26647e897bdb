"""Where the embedded engine keeps things, and the lock that keeps a second engine out."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, replace, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.files import written_whole
from atoll_operator.api.status import read_status
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION

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


T = TypeVar("T")


class Reserved(Document, frozen=True):
    """A version that the run has taken."""

    version: int
    published: bool = False


class RunRecord(Document, frozen=True):
    """What must survive the engine: who the run is, what it was started with, and its status."""

    uid: str
    created: str
    # The run's object as it was started, with its defaults.
    document: Mapping[str, Any]
    # sha256 over everything that the result depends on; another one under the same name is another run.
    identity: str
    # The resolved profile, as the operator keeps it in a ControllerRevision.
    profile: Mapping[str, Any]
    status: Mapping[str, Any] = field(default_factory=dict)
    releases: tuple[Reserved, ...] = ()
    retry: str | None = None
    schema_version: int = 1

    @property
    def body(self) -> dict[str, Any]:
        """The run's object as an API server would show it now."""
        metadata = dict(self.document["metadata"]) | {"uid": self.uid, "creationTimestamp": self.created}
        if self.retry is not None:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), RETRY_ANNOTATION: self.retry}
        return {**self.document, "metadata": metadata, "status": dict(self.status)}


class JobRecord(Document, frozen=True):
    """One Job. `pid` and `started` (the process's own start time) are written before its work begins."""

    name: str
    uid: str
    stage: str
    attempt: int
    created: float
    deadline_seconds: int
    pid: int | None = None
    started: str = ""
    finished: float | None = None
    # As a shell has it: 128 + the signal.
    exit_code: int | None = None
    timed_out: bool = False
    schema_version: int = 1


def read_record(folder: RunFolder) -> RunRecord | None:
    """The run's state, or None where there is none.

    Raises:
        IntegrityError: the file is damaged.
    """
    record = _read(RunRecord, folder.record)
    if record is not None:
        try:
            read_status(record.status)
        except DecodeError as error:
            raise _damaged(folder.record, error) from None
    return record


def write_record(folder: RunFolder, record: RunRecord) -> None:
    _write(folder.record, record)


def read_jobs(folder: RunFolder) -> list[JobRecord]:
    """Every Job that exists."""
    found = (_read(JobRecord, path) for path in sorted(folder.jobs.glob("*/job.json")))
    return [record for record in found if record is not None]


def write_job(folder: RunFolder, job: JobRecord) -> None:
    job_folder(folder, job.name).mkdir(parents=True, exist_ok=True)
    _write(job_folder(folder, job.name) / "job.json", job)


def remove_job(folder: RunFolder, name: str) -> None:
    """The Job is no more; its output stays for the reader."""
    (job_folder(folder, name) / "job.json").unlink(missing_ok=True)
    shutil.rmtree(job_folder(folder, name) / "work", ignore_errors=True)


def job_folder(folder: RunFolder, name: str) -> Path:
    return folder.jobs / name


def set_aside(folder: RunFolder, record: RunRecord) -> None:
    """Move the state of an earlier run of this name out of the way. Its releases and files in the store stay."""
    history = folder.path.parent.parent / "history" / folder.namespace / f"{folder.name}-{record.uid[:8]}"
    shutil.rmtree(history, ignore_errors=True)
    history.mkdir(parents=True)
    # The record goes last: until then the run is still there, and a second try does the same.
    for item in sorted(folder.path.iterdir(), key=lambda path: path.name == folder.record.name):
        if item.name not in ("lock", "engine.pid"):
            item.replace(history / item.name)


def with_release(record: RunRecord, release: Reserved) -> RunRecord:
    others = tuple(item for item in record.releases if item.version != release.version)
    return replace(record, releases=(*others, release))


def _read(cls: type[T], path: Path) -> T | None:
    try:
        return from_json(cls, path.read_bytes())
    except FileNotFoundError:
        return None
    except DecodeError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: DecodeError) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: {error}; remove {path.parent} to start over")


def _write(path: Path, document: Any) -> None:
    with written_whole(path) as stream:
        stream.write(to_json(document))


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy in plain JSON types."""
    copied: dict[str, Any] = json.loads(to_json(document))
    return copied
