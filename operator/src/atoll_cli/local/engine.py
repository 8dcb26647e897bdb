"""The loop: look, decide, carry out, wait for a change. One run, until it has ended or is suspended."""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from atoll_cli.local.jobs import LocalJobs
from atoll_cli.local.state import ReservedVersion, RunFolder, RunRecord, write_record
from atoll_contract import keys
from atoll_contract.document import replace
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_contract.store.base import Store
from atoll_operator.api.status import Phase, RunStatus, write_status
from atoll_operator.jobs.manifest import build_job
from atoll_operator.jobs.stage_input import Work
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.inputs import run_view
from atoll_operator.lifecycle.model import (
    Plan,
    ProfileView,
    ReleaseReport,
    ReleaseView,
    Reservation,
    RunEvent,
    RunView,
    StageAttempt,
)

logger = logging.getLogger(__name__)

# A cancel request is a file; it is looked for this often.
LONGEST_WAIT_SECONDS = 1.0
_VERSION = re.compile(r"v([1-9][0-9]{0,8})/manifest\.json")


class Audience(Protocol):
    """Who watches the run: the command line. Called from the engine's own thread."""

    def status(self, status: RunStatus) -> None: ...

    def progress(self, stage: Stage, progress: Progress) -> None: ...

    def event(self, event: RunEvent) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """What a look needs beside the record and the Jobs."""

    work: Work
    profile: ProfileView
    store: Store


class Engine:
    """Drives one run whose folder is locked. `suspend` may be called from a signal handler."""

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        surroundings: Surroundings,
        *,
        audience: Audience,
        jobs: Callable[[Callable[[bool], None]], LocalJobs],
    ) -> None:
        self._folder = folder
        self._record = record
        self._around = surroundings
        self._audience = audience
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._jobs = jobs(self._note)
        self._suspend = False
        self._highest = 0
        self._shown: Progress | None = None

    @property
    def record(self) -> RunRecord:
        return self._record

    def suspend(self) -> None:
        """End the stage that runs, with its checkpoint, and stop."""
        self._suspend = True
        self._note(ended=True)

    def kill(self) -> None:
        """End the stage that runs at once."""
        self._jobs.kill_all()

    def seconds(self) -> dict[Stage, float]:
        """How long the attempts of each stage have worked."""
        return {stage: spent for stage in Stage if (spent := self._jobs.seconds(stage))}

    def run(self) -> RunStatus:
        """Go on from where the run is, until it has ended or is suspended; the status then."""
        try:
            self._jobs.take_over()
            self._look_once_suspended()
            while True:
                self._ended.clear()
                plan = self._look()
                if plan.status.is_terminal or (plan.status.phase is Phase.SUSPENDED and not plan.delete):
                    return plan.status
                if not _acts(plan):
                    self._wait(plan.requeue_after)
        finally:
            self._jobs.kill_all()

    def _look_once_suspended(self) -> None:
        """Close the attempts that an earlier engine left open: they were interrupted, and cost no try."""
        if self._record.status and not self._suspend:
            self._suspend = True
            self._look()
            self._suspend = False

    def _look(self) -> Plan:
        jobs, pods = self._jobs.views()
        plan = decide(self._view(), jobs, pods, datetime.now(UTC))
        self._carry_out(plan)
        return plan

    def _view(self) -> RunView:
        document = {**self._record.document, "status": self._record.status}
        view = run_view(document, self._around.work.spec)
        own = max(self._record.releases, key=lambda item: item.version, default=None)
        return replace(
            view,
            suspend=view.suspend or self._suspend,
            cancel=view.cancel or self._folder.cancel_request.exists(),
            retry=self._record.retry,
            profile=self._around.profile,
            release=ReleaseView(f"{view.model}-v{own.version}", own.version, own.published) if own else None,
            highest_version=self._highest,
            # The engine's own folder shows what was; nothing here removes it by the clock.
            ttl_seconds=None,
            job_ttl_seconds=None,
        )

    def _carry_out(self, plan: Plan) -> None:
        """In the order that `plan.py` asks for."""
        if plan.release_status:
            self._publish(plan.release_status)
        self._write_status(plan.status)
        if plan.reserve:
            self._reserve(plan.reserve)
        for attempt in plan.create:
            self._create(attempt)
        for job in plan.delete:
            self._jobs.delete(job.name)
        for event in plan.events:
            self._audience.event(event)

    def _write_status(self, status: RunStatus) -> None:
        written = write_status(status)
        if written != self._record.status:
            self._save(replace(self._record, status=written))
            self._audience.status(status)

    def _reserve(self, wanted: Reservation) -> None:
        """Take the version, unless the store has it already: then the next look asks for a higher one. The lock
        itself is the store's conditional put in the publish stage."""
        run = self._around.work.run
        prefix = keys.model_prefix(run.namespace, wanted.model)
        matches = (_VERSION.fullmatch(info.key, len(prefix)) for info in self._around.store.list(prefix))
        self._highest = max((int(match[1]) for match in matches if match), default=0)
        if wanted.version > self._highest:
            self._save(self._record.with_release(ReservedVersion(wanted.version)))

    def _publish(self, report: ReleaseReport) -> None:
        version = int(report.name.rpartition("-v")[2])
        self._save(self._record.with_release(ReservedVersion(version, published=True)))

    def _create(self, attempt: StageAttempt) -> None:
        dataset = self._record.status.get("dataset") or {}
        provenance = {**self._around.work.provenance, "datasetDigest": str(dataset.get("digest", ""))}
        work = replace(self._around.work, provenance=provenance)
        self._jobs.create(build_job(work, attempt))

    def _save(self, record: RunRecord) -> None:
        write_record(self._folder, record)
        self._record = record

    def _note(self, ended: bool) -> None:
        """A Job has made progress, or has ended. Called from the Jobs' threads."""
        if ended:
            self._ended.set()
        self._changed.set()

    def _wait(self, requeue_after: float | None) -> None:
        """Until a Job ends, or `requeue_after` has passed; progress is shown meanwhile."""
        until = time.monotonic() + (LONGEST_WAIT_SECONDS if requeue_after is None else requeue_after)
        while (left := until - time.monotonic()) > 0 and not self._ended.is_set():
            left = min(left, LONGEST_WAIT_SECONDS, self._jobs.check_deadlines())
            if self._changed.wait(max(left, 0.01)):
                self._changed.clear()
                self._show_progress()
            if self._folder.cancel_request.exists():
                return

    def _show_progress(self) -> None:
        """Live progress goes to the audience as it comes; the status takes it every 30 s."""
        newest = self._jobs.progress()
        if newest is not None and newest[1] is not self._shown:
            self._shown = newest[1]
            self._audience.progress(*newest)


def _acts(plan: Plan) -> bool:
    """Whether the next look should come at once: something was done that it has to see."""
    return bool(plan.create or plan.delete or plan.reserve or plan.release_status) or plan.requeue_after == 0
