"""The local engine of a sweep: carries out what `decide` says, with an engine for each trial that is at work."""

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from atoll_cli.local.engine import Engine, RunObserver
from atoll_cli.local.identity import describe_changes, differences
from atoll_cli.local.jobs import StageCommand, with_own_python
from atoll_cli.local.launch import LaunchRequest, end_cancelled, launch
from atoll_cli.local.runfile import RunFile, recorded_run_file
from atoll_cli.local.state import RunFolder, RunRecord, read_record, write_record
from atoll_cli.local.sweep_state import SweepFolder, SweepRecord, read_sweep, runs_of, write_sweep
from atoll_cli.local.sweepfile import SweepFile
from atoll_contract.document import replace, rfc3339, to_dict
from atoll_contract.errors import Reason, SpecError
from atoll_operator.api.status import Phase
from atoll_operator.api.sweep import Pruning, SweepPhase, SweepStatus, read_sweep_status
from atoll_operator.lifecycle.inputs import SUSPEND_REASON_ANNOTATION
from atoll_operator.lifecycle.model import PollIntervals
from atoll_operator.sweeps.decide import SpecChange, SweepPlan, SweepView, decide
from atoll_operator.sweeps.trials import Trial, trials_of

# A request to cancel is a file, and a trial's progress is in its record; both are looked at this often.
POLL_SECONDS = 1.0
_MAY_CHANGE = ("suspend", "cancel")


class SweepObserver(Protocol):
    """Shows the sweep to the user."""

    def say(self, text: str) -> None: ...

    def run(self, name: str) -> RunObserver:
        """What shows this trial. It is called from the trial's own thread."""
        ...


@dataclass(frozen=True)
class SweepRequest:
    """The arguments of `atoll sweep`; as those of `LaunchRequest`."""

    file: SweepFile
    data: tuple[Path, ...] = ()
    weights: tuple[Path, ...] = ()


@dataclass
class _TrialThread:
    """An engine at work on a trial."""

    thread: threading.Thread
    engine: Engine | None = None
    error: Exception | None = None


@dataclass
class SweepEngine:
    """Drives one sweep. A signal handler may call `suspend` and `kill`."""

    request: SweepRequest
    observer: SweepObserver
    command: StageCommand = with_own_python
    _suspended: bool = False
    _changed: threading.Event = field(default_factory=threading.Event)
    _at_work: dict[str, _TrialThread] = field(default_factory=dict)
    _message: str = ""

    @property
    def folder(self) -> SweepFolder:
        file = self.request.file
        return SweepFolder(file.store.resolve(), file.namespace, file.name)

    def run(self) -> SweepStatus:
        """Go on with the sweep until it has ended or is suspended.

        Raises:
            SpecError: a sweep of this name exists with other settings, or another engine works on it.
            AtollError: a trial could not be started.
        """
        with self.folder.locked():
            record = self._record()
            try:
                while True:
                    record, plan = self._step(record)
                    status = plan.status
                    if status.is_terminal or (status.phase is SweepPhase.SUSPENDED and not self._at_work):
                        return status
                    self._changed.wait(POLL_SECONDS)
                    self._changed.clear()
            finally:
                self._stop_all()

    def suspend(self) -> None:
        """Stop the trials, which save their checkpoints, and return from `run`."""
        self._suspended = True
        for item in list(self._at_work.values()):
            if item.engine is not None:
                item.engine.suspend()
        self._changed.set()

    def kill(self) -> None:
        """Kill the stages of the trials."""
        for item in list(self._at_work.values()):
            if item.engine is not None:
                item.engine.kill()

    def _record(self) -> SweepRecord:
        file, known = self.request.file, read_sweep(self.folder)
        if known is None:
            self.folder.cancel_request.unlink(missing_ok=True)
            known = SweepRecord(str(uuid.uuid4()), rfc3339(datetime.now(UTC)), to_dict(file.document))
        elif found := list(differences("spec", _fixed(known.document), _fixed(file.document))):
            raise SpecError(
                f"a sweep {file.name} with other settings is in {file.store.resolve()} already: "
                f"{describe_changes(found)}; another metadata.name keeps both"
            )
        else:
            self.observer.say(f"going on with sweep {file.name}")
        known = replace(known, document=to_dict(file.document))
        write_sweep(self.folder, known)
        return known

    def _step(self, record: SweepRecord) -> tuple[SweepRecord, SweepPlan]:
        """Decide once, and do what follows."""
        self._collect()
        document = record.manifest
        spec = self.request.file.spec
        cancel = spec.cancel or self.folder.cancel_request.exists()
        spec = replace(spec, cancel=cancel, suspend=spec.suspend or (self._suspended and not cancel))
        trials = self._trials(document)
        plan = decide(SweepView(document, spec, read_sweep_status(record.status)), trials, datetime.now(UTC))
        for run in plan.create:
            if not spec.suspend:
                self._start(run["metadata"]["name"], self.request.file.run_file(run))
        for change in plan.change:
            self._change(change)
        if not spec.suspend and not cancel:
            self._continue(self._trials(document))
        if plan.status.message != self._message:
            self._message = plan.status.message
            counts = plan.status.trials
            self.observer.say(f"{counts.display if counts else ''} {plan.status.message}".strip())
        written = to_dict(plan.status)
        if written != record.status:
            record = replace(record, status=written)
            write_sweep(self.folder, record)
        return record, plan

    def _trials(self, document: dict[str, Any]) -> list[Trial]:
        return trials_of(document, runs_of(self.folder).values())

    def _continue(self, trials: Sequence[Trial]) -> None:
        """Start an engine for each trial that has work to do and none that does it."""
        for trial in trials:
            waits = trial.suspended or (trial.has_ended and trial.held)
            if waits or trial.status.is_terminal or trial.cancelled or trial.name in self._at_work:
                continue
            run = self._run_folder(trial.name)
            record = read_record(run)
            if record is not None:
                self._start(trial.name, recorded_run_file(run, record))

    def _start(self, name: str, file: RunFile) -> None:
        if name in self._at_work:
            return
        request = LaunchRequest(
            file,
            self.request.file.store,
            data=self.request.data,
            weights=self.request.weights,
            command="atoll sweep",
            poll=PollIntervals(running=POLL_SECONDS),
        )
        item = _TrialThread(threading.Thread(target=self._launch, args=(name, request), name=name, daemon=True))
        self._at_work[name] = item
        item.thread.start()

    def _launch(self, name: str, request: LaunchRequest) -> None:
        item = self._at_work[name]

        def on_start(engine: Engine) -> None:
            item.engine = engine
            if self._suspended:
                engine.suspend()

        try:
            launch(request, observer=self.observer.run(name), on_start=on_start, command=self.command)
        except Exception as error:  # noqa: BLE001 (raised again in the thread of the sweep)
            item.error = error
        self._changed.set()

    def _collect(self) -> None:
        """Forget the engines that are done; raises what one of them raised."""
        for name, item in list(self._at_work.items()):
            if not item.thread.is_alive():
                del self._at_work[name]
                if item.error is not None:
                    raise item.error

    def _change(self, change: SpecChange) -> None:
        folder = self._run_folder(change.run)
        if change.spec.get("cancel"):
            folder.cancel_request.touch()
            if change.run not in self._at_work:
                end_cancelled(folder)
        elif change.run not in self._at_work:
            with folder.locked():
                record = read_record(folder)
                if record is not None:
                    write_record(folder, changed_record(record, change))
        elif change.spec.get("suspend") and (engine := self._at_work[change.run].engine) is not None:
            # Its record belongs to its engine until that has saved the checkpoint; then the change is made.
            engine.suspend()

    def _run_folder(self, name: str) -> RunFolder:
        return RunFolder(self.folder.store, self.folder.namespace, name)

    def _stop_all(self) -> None:
        """Stop what is still at work, as the sweep ends or an error ends it."""
        self.suspend()
        for item in list(self._at_work.values()):
            item.thread.join()


def changed_record(record: RunRecord, change: SpecChange) -> RunRecord:
    """The record of a run on which no engine works, with a change. What suspends it stands in its status, too."""
    spec = {**record.document["spec"], **change.spec}
    metadata = record.document["metadata"]
    noted = {**(metadata.get("annotations") or {}), **change.annotations}
    metadata = {**metadata, "annotations": {key: text for key, text in noted.items() if text is not None}}
    status, reason = record.status, change.annotations.get(SUSPEND_REASON_ANNOTATION)
    if reason and status.get("phase") == Phase.SUSPENDED:
        status = {**status, "message": reason}
    return replace(record, document={**record.document, "metadata": metadata, "spec": spec}, status=status)


def _fixed(document: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change while the sweep goes on, with `pruning` under its newest name."""
    spec = {name: value for name, value in document["spec"].items() if name not in _MAY_CHANGE}
    return {**spec, "pruning": Pruning.HALVING} if spec.get("pruning") == Pruning.ASHA else spec


def end_cancelled_sweep(folder: SweepFolder, record: SweepRecord) -> None:
    """End a sweep on which no engine works, and its runs. Raises as `end_cancelled` of a run does."""
    with folder.locked():
        for trial in trials_of(record.manifest, runs_of(folder).values()):
            if not trial.status.is_terminal:
                run = RunFolder(folder.store, folder.namespace, trial.name)
                run.cancel_request.touch()
                end_cancelled(run)
        status = read_sweep_status(record.status) or SweepStatus()
        text = "cancelled by atoll cancel"
        ended = replace(status, phase=SweepPhase.CANCELLED, reason=Reason.CANCELLED, message=text)
        write_sweep(folder, replace(record, status=to_dict(ended)))
