"""The local engine: reconciles one run, as the operator does on a cluster, until the run has ended or is suspended."""

import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from atoll_cli.local.jobs import LocalJobs, StageCommand, with_own_python
from atoll_cli.local.state import ReservedVersion, RunFolder, RunRecord, write_record
from atoll_contract import keys
from atoll_contract.document import replace
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_contract.store.base import Store
from atoll_operator.api.status import Phase, RunStatus
from atoll_operator.api.status_codec import write_status
from atoll_operator.jobs.manifest import build_job
from atoll_operator.jobs.stage_input import Work
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.inputs import run_view
from atoll_operator.lifecycle.model import PollIntervals, ProfileView, ReleaseView, RunView, StageAttempt
from atoll_operator.lifecycle.plan import Plan, ReleaseReport, Reservation, RunEvent

# A request to cancel or to suspend is a file; the engine checks for it this often.
MAX_WAIT_SECONDS = 1.0
_MANIFEST = re.compile(r"v([1-9][0-9]{0,8})/manifest\.json")


class RunObserver(Protocol):
    """Shows the run to the user. The engine calls it from its own thread."""

    def say(self, text: str) -> None: ...

    def status(self, status: RunStatus) -> None: ...

    def progress(self, stage: Stage, progress: Progress) -> None: ...

    def event(self, event: RunEvent) -> None: ...


class SilentObserver:
    """Shows nothing."""

    def say(self, text: str) -> None: ...

    def status(self, status: RunStatus) -> None: ...

    def progress(self, stage: Stage, progress: Progress) -> None: ...

    def event(self, event: RunEvent) -> None: ...


@dataclass(frozen=True)
class ReferencedObjects:
    """What the run refers to: its store, and the profile and the inputs from which its Jobs are built."""

    work: Work
    profile: ProfileView
    store: Store


class Engine:
    """Drives one run whose folder is locked. A signal handler may call `suspend` and `kill`."""

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        refs: ReferencedObjects,
        *,
        observer: RunObserver,
        command: StageCommand = with_own_python,
        poll: PollIntervals | None = None,
    ) -> None:
        self._poll = poll or PollIntervals()
        self._folder = folder
        self._record = record
        self._refs = refs
        self._observer = observer
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._jobs = LocalJobs(folder, run_uid=record.uid, on_change=self._on_job_change, command=command)
        self._suspend = False
        self._highest_version = 0
        self._shown_progress: Progress | None = None

    def run(self) -> RunStatus:
        """Continue the run until it has ended or is suspended; return its status."""
        try:
            self._jobs.recover()
            self._close_interrupted_attempts()
            while True:
                self._ended.clear()
                plan = self._reconcile()
                if plan.status.is_terminal or (plan.status.phase is Phase.SUSPENDED and not plan.delete):
                    return plan.status
                if not _requeues_at_once(plan):
                    self._wait(plan.requeue_after)
        finally:
            self._jobs.kill_all()

    def suspend(self) -> None:
        """Stop the running stage, which saves its checkpoint, and return from `run`."""
        self._suspend = True
        self._on_job_change(ended=True)

    def kill(self) -> None:
        """Kill the running stage."""
        self._jobs.kill_all()

    def stage_seconds(self) -> dict[Stage, float]:
        """How long the attempts of each stage have run, in all."""
        return {stage: spent for stage in Stage if (spent := self._jobs.seconds(stage))}

    def _close_interrupted_attempts(self) -> None:
        """Reconcile once as suspended, so that attempts that an earlier engine left open use up no retry."""
        if self._record.status and not self._suspend:
            self._suspend = True
            self._reconcile()
            self._suspend = False

    def _suspend_is_requested(self) -> bool:
        """Whether `atoll suspend` has left a request that the engine has yet to follow."""
        return not self._suspend and self._folder.suspend_request.exists()

    def _reconcile(self) -> Plan:
        if self._suspend_is_requested():
            self._observer.say("asked to suspend by another command: the stage saves its checkpoint")
            self._suspend = True
        jobs, pods = self._jobs.views()
        plan = decide(self._run_view(), jobs, pods, datetime.now(UTC))
        self._apply(plan)
        return plan

    def _run_view(self) -> RunView:
        document = {**self._record.document, "status": self._record.status}
        view = run_view(document, self._refs.work.spec)
        own = max(self._record.releases, key=lambda item: item.version, default=None)
        return replace(
            view,
            suspend=view.suspend or self._suspend,
            cancel=view.cancel or self._folder.cancel_request.exists(),
            retry=self._record.retry,
            profile=self._refs.profile,
            release=ReleaseView(f"{view.model}-v{own.version}", own.version, own.published) if own else None,
            highest_version=self._highest_version,
            # The run's folder is its history: no TTL removes anything from it.
            ttl_seconds=None,
            job_ttl_seconds=None,
            poll=self._poll,
        )

    def _apply(self, plan: Plan) -> None:
        """Carries out the plan, in the order that `Plan` gives."""
        if plan.release_status:
            self._record_release(plan.release_status)
        self._write_status(plan.status)
        if plan.reserve:
            self._reserve_version(plan.reserve)
        for attempt in plan.create:
            self._create_job(attempt)
        for job in plan.delete:
            self._jobs.delete(job.name)
        for event in plan.events:
            self._observer.event(event)

    def _record_release(self, report: ReleaseReport) -> None:
        version = int(report.name.rpartition("-v")[2])
        self._save(self._record.with_release(ReservedVersion(version, published=True)))

    def _write_status(self, status: RunStatus) -> None:
        written = write_status(status)
        if written != self._record.status:
            self._save(replace(self._record, status=written))
            self._observer.status(status)

    def _reserve_version(self, wanted: Reservation) -> None:
        """Take the version, unless the store has it: then the next reconcile asks for a higher one. The
        store's conditional put in the publish stage excludes other engines."""
        prefix = keys.model_prefix(self._refs.work.run.namespace, wanted.model)
        matches = (_MANIFEST.fullmatch(info.key, len(prefix)) for info in self._refs.store.list(prefix))
        self._highest_version = max((int(match[1]) for match in matches if match), default=0)
        if wanted.version > self._highest_version:
            self._save(self._record.with_release(ReservedVersion(wanted.version)))

    def _create_job(self, attempt: StageAttempt) -> None:
        dataset = self._record.status.get("dataset") or {}
        provenance = {**self._refs.work.provenance, "datasetDigest": str(dataset.get("digest", ""))}
        work = replace(self._refs.work, provenance=provenance)
        self._jobs.create(build_job(work, attempt))

    def _save(self, record: RunRecord) -> None:
        write_record(self._folder, record)
        self._record = record

    def _on_job_change(self, ended: bool) -> None:
        """Called from the Jobs' threads when a Job has made progress or ended."""
        if ended:
            self._ended.set()
        self._changed.set()

    def _wait(self, requeue_after: float | None) -> None:
        """Wait until a Job ends, the user stops the run, or `requeue_after` seconds have passed; show progress."""
        until = time.monotonic() + (MAX_WAIT_SECONDS if requeue_after is None else requeue_after)
        while (left := until - time.monotonic()) > 0 and not self._ended.is_set():
            left = min(left, MAX_WAIT_SECONDS, self._jobs.check_deadlines())
            if self._changed.wait(max(left, 0.01)):
                self._changed.clear()
                self._show_progress()
            if self._folder.cancel_request.exists() or self._suspend_is_requested():
                return

    def _show_progress(self) -> None:
        """Show new progress at once; the status takes it every 30 s."""
        newest = self._jobs.progress()
        if newest is not None and newest[1] is not self._shown_progress:
            self._shown_progress = newest[1]
            self._observer.progress(*newest)


def _requeues_at_once(plan: Plan) -> bool:
    """Whether the plan changed something that the next reconcile has to see."""
    return bool(plan.create or plan.delete or plan.reserve or plan.release_status) or plan.requeue_after == 0
