"""The files of a sweep of the local engine: its record. What its trials did, their runs' records tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import field

from atoll_cli.local.state import INTERNAL, RunFolder, known_runs, read_document, read_record, write_document
from atoll_contract.document import DecodeError, Document
from atoll_contract.errors import IntegrityError, SpecError
from atoll_operator.api.sweep import read_sweep_status
from atoll_operator.sweeps.space import SWEEP_LABEL


@dataclass(frozen=True)
class SweepFolder(RunFolder):
    """The state of one sweep; lock, requests and results are as those of a run."""

    @property
    def path(self) -> Path:
        return self.store / INTERNAL / "sweeps" / self.namespace / self.name

    @property
    def record(self) -> Path:
        return self.path / "sweep.json"


class SweepRecord(Document, frozen=True):
    """The state that must survive the engine. `document` is the sweep's object as it was started."""

    uid: str
    created: str
    document: Mapping[str, Any]
    status: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = 1

    @property
    def manifest(self) -> dict[str, Any]:
        """The sweep's object as an API server would return it now."""
        metadata = dict(self.document["metadata"]) | {"uid": self.uid, "creationTimestamp": self.created}
        return {**self.document, "metadata": metadata, "status": dict(self.status)}


def read_sweep(folder: SweepFolder) -> SweepRecord | None:
    """The state of the sweep; None if there is none. Raises IntegrityError where the file is damaged."""
    record = read_document(SweepRecord, folder.record)
    if record is not None:
        try:
            read_sweep_status(record.status)
        except DecodeError as error:
            raise IntegrityError(f"{folder.record} is damaged: {error}; remove {folder.path} to start over") from None
    return record


def write_sweep(folder: SweepFolder, record: SweepRecord) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    write_document(folder.record, record)


def known_sweeps(store: Path) -> list[SweepFolder]:
    """Every sweep that has state below `store`."""
    found = (store / INTERNAL / "sweeps").glob("*/*/sweep.json")
    return sorted((SweepFolder(store, path.parts[-3], path.parts[-2]) for path in found), key=lambda item: item.name)


def local_sweep(store: Path, name: str) -> tuple[SweepFolder, SweepRecord]:
    """The sweep of this name. Raises SpecError if there is none."""
    for folder in known_sweeps(store.resolve()):
        record = read_sweep(folder) if folder.name == name else None
        if record is not None:
            return folder, record
    raise SpecError(f"there is no sweep {name} in {store.resolve()}")


def runs_of(folder: SweepFolder) -> dict[str, dict[str, Any]]:
    """The runs that bear the sweep's label, by name, with what was asked of them since they were started."""
    found = {}
    for run in known_runs(folder.store):
        if run.namespace != folder.namespace or not run.name.startswith(f"{folder.name}-t"):
            continue
        record = read_record(run)
        if record is None or (record.document["metadata"].get("labels") or {}).get(SWEEP_LABEL) != folder.name:
            continue
        body = record.manifest
        cancel = body["spec"].get("cancel") or run.cancel_request.exists()
        found[run.name] = {**body, "spec": {**body["spec"], "cancel": bool(cancel)}}
    return found
