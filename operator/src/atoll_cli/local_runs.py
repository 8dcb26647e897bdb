"""Runs of the local engine, in the form of the API's objects, and what their stages wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from atoll_cli.cluster_access import Body
from atoll_cli.local.state import RunFolder, RunRecord, known_runs, read_record
from atoll_cli.store_access import local_run
from atoll_contract.document import replace
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress, parse_line
from atoll_operator.api.status import Phase, RunStatus, StagePhase, read_status, write_status
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
    with logs[-1].path.open("rb") as stream:
        stream.seek(max(0, logs[-1].path.stat().st_size - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    return next((found for line in reversed(lines) if (found := parse_line(line)) is not None), None)


@dataclass(frozen=True)
class StageLog:
    """The file with what one attempt of a stage wrote."""

    stage: Stage
    attempt: int
    path: Path


def stage_logs(folder: RunFolder) -> list[StageLog]:
    """The logs of all attempts of the run, in the order in which they were last written."""
    number = rf"({'|'.join(Stage)})-([1-9][0-9]*)"
    own = re.compile(rf"[^/]+/{number}\.log")
    # An earlier version gave each Job one stage, and its log another name.
    earlier = re.compile(rf"{re.escape(folder.name)}-{number}-[0-9a-f]{{8}}/output\.log")
    paths = [(path, f"{path.parent.name}/{path.name}") for path in folder.jobs.glob("*/*.log")]
    found = [
        (path.stat().st_mtime, StageLog(Stage(match[1]), int(match[2]), path))
        for path, name in paths
        if (match := own.fullmatch(name) or earlier.fullmatch(name))
    ]
    return [log for _, log in sorted(found, key=lambda item: (item[0], item[1].attempt))]


@dataclass
class LogReader:
    """Reads what the stages of a run write: the newest attempt of stage `first` and, unless `only`, all that follow."""

    folder: RunFolder
    first: Stage | None
    only: bool
    _offsets: dict[Path, int] = field(default_factory=dict)

    def new_lines(self, *, whole: bool = False) -> Iterator[str]:
        """The lines that have come since the last call. An unfinished last line is left for the next call, unless the
        log is `whole`. A heading on standard error names each attempt."""
        for log in self._chosen():
            if log.path not in self._offsets:
                click.echo(f"== {log.stage}, attempt {log.attempt}, {log.path}", err=True)
            with log.path.open("rb") as stream:
                stream.seek(self._offsets.get(log.path, 0))
                data = stream.read()
            end = len(data) if whole else data.rfind(b"\n") + 1
            self._offsets[log.path] = self._offsets.get(log.path, 0) + end
            yield from (line.decode(errors="replace") for line in data[:end].splitlines())

    def _chosen(self) -> list[StageLog]:
        logs = stage_logs(self.folder)
        wanted = [number for number, log in enumerate(logs) if self.first in (None, log.stage)]
        if self._offsets:
            # Attempts that begin after the first call, and those that it has read.
            start = min((number for number, log in enumerate(logs) if log.path in self._offsets), default=0)
        elif not wanted:
            return []
        else:
            start = wanted[-1]
        return [log for log in logs[start:] if not self.only or log.stage is self.first]
