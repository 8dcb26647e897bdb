"""Runs of the local engine, in the form of the API's objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from atoll_cli.cluster_access import Body
from atoll_cli.local.logs import progress_in, stage_logs
from atoll_cli.local.state import RunFolder, RunRecord, known_runs, read_record
from atoll_cli.store_access import local_run
from atoll_contract.document import replace
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import Phase, RunStatus, StagePhase
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.lifecycle.admission import HELD
from atoll_operator.lifecycle.progress import with_progress

_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class LocalRuns:
    """The runs below the folder `store` of the local engine, each with its status as it is now."""

    store: Path

    @property
    def location(self) -> str:
        """The folder, for messages."""
        return str(self.store.resolve())

    def run(self, name: str) -> Body:
        """The TrainingRun.

        Raises:
            SpecError: there is none of this name.
            IntegrityError: its state is damaged.
        """
        return self.read(name)[1]

    def read(self, name: str) -> tuple[RunFolder, Body]:
        """The run's folder and the TrainingRun; raises as `run` does."""
        folder, record = self.record(name)
        return folder, _body(folder, record)

    def record(self, name: str) -> tuple[RunFolder, RunRecord]:
        """The run's folder and its record; raises as `run` does."""
        folder = local_run(self.store, name)
        record = read_record(folder)
        if record is None:
            raise SpecError(f"run {name} was removed from {self.location} just now")
        return folder, record

    def runs(self) -> list[Body]:
        """Every run; one whose state is damaged is reported on standard error and left out."""
        found = []
        for folder in known_runs(self.store.resolve()):
            try:
                record = read_record(folder)
            except IntegrityError as error:
                click.echo(f"warning: run {folder.name} is left out: {error.message}", err=True)
                continue
            if record is not None:
                found.append(_body(folder, record))
        return found


def _body(folder: RunFolder, record: RunRecord) -> Body:
    return {**record.manifest, "status": write_status(_status(folder, record))}


def _status(folder: RunFolder, record: RunRecord) -> RunStatus:
    """The status as it is now: the record has the progress of up to half a minute ago, and the phase of a run whose
    engine was killed."""
    status = read_status(record.status) or RunStatus(message="its engine has yet to begin")
    if status.is_terminal:
        return status
    if folder.is_locked():
        progress = _newest_progress(folder, status)
        # Without the recorded progress the newest one is taken at once.
        return with_progress(replace(status, progress=None), progress, datetime.now(UTC)) if progress else status
    advice = f"atoll resume {folder.name} goes on with it"
    if status.phase is Phase.SUSPENDED and status.message == HELD:
        return status
    if status.phase is Phase.SUSPENDED:
        return replace(status, message=f"suspended; {advice}")
    message = f"interrupted ({status.phase}): no engine works on it; {advice}"
    stages = tuple(
        replace(stage, phase=StagePhase.PENDING, reason=Reason.SUSPENDED, message="interrupted")
        if stage.phase is StagePhase.RUNNING
        else stage
        for stage in status.stages
    )
    return replace(status, phase=Phase.SUSPENDED, reason=Reason.SUSPENDED, message=message, stages=stages)


def _newest_progress(folder: RunFolder, status: RunStatus) -> Progress | None:
    stage = next((item for item in status.stages if item.reason is Reason.RUNNING), None)
    logs = [log for log in stage_logs(folder) if stage is not None and log.stage is stage.name]
    if not logs:
        return None
    found = list(progress_in(logs[-1].path, _TAIL_BYTES))
    return found[-1] if found else None
