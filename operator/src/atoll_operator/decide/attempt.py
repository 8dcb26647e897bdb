"""The end of an attempt: its success recorded, another attempt scheduled, or the stage given up. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from atoll_contract import keys
from atoll_contract.errors import bounded
from atoll_contract.reasons import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.decide.results import Verdict
from atoll_operator.decide.running import seen
from atoll_operator.decide.step import Step, fail, skip, working
from atoll_operator.decide.summaries import next_version, with_summary, without_compile
from atoll_operator.plan import ReleaseReport
from atoll_operator.retries import MAX_ATTEMPTS, STORAGE
from atoll_operator.status import (
    LastFailure,
    ReleaseStatus,
    RunStatus,
    StagePhase,
    StageStatus,
    rfc3339,
    seconds_between,
    short,
)
from atoll_operator.views import JobView, RunView


def record_success(
    run: RunView, status: RunStatus, job: JobView, verdict: Verdict, now: datetime
) -> tuple[RunStatus, ReleaseReport | None]:
    """The status in which the Job's stage has succeeded, and what the ModelRelease has to say where it is publish."""
    stage = seen(status.stage(job.stage), job)
    done = replace(
        stage,
        phase=StagePhase.SUCCEEDED,
        reason=verdict.reason,
        message=short(verdict.message),
        completion_time=rfc3339(job.finished or now),
        pending_since=None,
        storage_failing_since=None,
        outputs=verdict.outputs,
    )
    status = with_summary(run, status.with_stage(done), job.stage, verdict)
    release = status.release
    if job.stage is not Stage.PUBLISH or release is None or release.manifest is None:
        return status, None
    if run.release is not None and run.release.published:
        return status, None
    return status, ReleaseReport(release.name, release.manifest, status.summary.ap50, status.summary.tpu)


def unpublished(run: RunView, status: RunStatus, verdict: Verdict) -> str:
    """Why a publish stage's success is none: its manifest is not that of the reserved version. Empty: it is."""
    manifest = next((item for item in verdict.outputs if item.name == "manifest"), None)
    wanted = keys.manifest(run.namespace, run.model, status.release.version) if status.release else "a reserved version"
    if manifest is not None and manifest.key == wanted:
        return ""
    return f"the publish stage reports {manifest.key if manifest else 'no manifest'!r}, {wanted!r} was reserved"


def close_attempt(run: RunView, status: RunStatus, stage: StageStatus, verdict: Verdict, now: datetime) -> Step:
    """The step after an attempt that did not succeed: another one later, or the end."""
    failed = _count(run, _remember(stage, verdict, now), verdict, now)
    status = _take_next_version(run, status, stage, verdict)
    conflict = verdict.reason is Reason.VERSION_CONFLICT and _is_next_version_known(status, verdict)
    may_retry = (verdict.retry or conflict) and failed.attempts < MAX_ATTEMPTS
    if may_retry and failed.failures <= run.backoff_limit:
        return _wait(run, status, failed, verdict, now)
    if stage.name is Stage.COMPILE and _best_effort(run):
        text = f"not compiled: {verdict.message}"
        status = skip(status, failed, reason=verdict.reason, message=text, now=now)
        return Step(without_compile(run, status, verdict.reason), requeue_after=0)
    return Step(fail(status, failed, reason=verdict.reason, message=_final_words(run, failed, verdict), now=now))


def _remember(stage: StageStatus, verdict: Verdict, now: datetime) -> StageStatus:
    last = LastFailure(verdict.reason, short(verdict.message), rfc3339(now), verdict.exit_code)
    return replace(stage, last_failure=last, pending_since=None)


def _count(run: RunView, stage: StageStatus, verdict: Verdict, now: datetime) -> StageStatus:
    """`stage` with this failure counted, or, while the store is waited for, with the window's begin kept."""
    if verdict.reason in STORAGE and run.backoff_limit > 0:
        since = stage.storage_failing_since or rfc3339(now)
        waiting = replace(stage, storage_failing_since=since)
        if seconds_between(since, now) < run.retries.storage_window:
            return waiting
        return replace(waiting, failures=run.backoff_limit + 1)
    stage = replace(stage, storage_failing_since=None)
    return replace(stage, failures=stage.failures + 1) if verdict.counts else stage


def _wait(run: RunView, status: RunStatus, stage: StageStatus, verdict: Verdict, now: datetime) -> Step:
    storage = stage.storage_failing_since is not None
    delay = run.retries.delay(stage.attempts if storage else stage.failures if verdict.counts else 1)
    at = now + timedelta(seconds=delay)
    text = f"{verdict.message}; attempt {stage.attempts + 1} follows at {at:%H:%M:%S} UTC"
    waiting = replace(
        stage,
        phase=StagePhase.PENDING,
        reason=verdict.reason,
        message=bounded(text, 400) if len(text) <= 400 else short(verdict.message),
        next_retry_time=rfc3339(at),
    )
    return Step(working(status, waiting), requeue_after=delay)


def _final_words(run: RunView, stage: StageStatus, verdict: Verdict) -> str:
    if not verdict.retry or run.backoff_limit == 0:
        return verdict.message
    return f"{verdict.message} (attempt {stage.attempts}; runPolicy.backoffLimit {run.backoff_limit} is used up)"


def _best_effort(run: RunView) -> bool:
    return all(choice.policy is not CompilePolicy.REQUIRED for choice in run.compile)


def _take_next_version(run: RunView, status: RunStatus, stage: StageStatus, verdict: Verdict) -> RunStatus:
    """The version to reserve after a conflict, remembered in `status.release` until it is the run's."""
    free = next_version(verdict.summary)
    if stage.name is not Stage.PUBLISH or verdict.reason is not Reason.VERSION_CONFLICT or free is None:
        return status
    taken = status.release.version if status.release else 0
    if free <= taken:
        return status
    return replace(status, release=ReleaseStatus(f"{run.model}-v{free}", free))


def _is_next_version_known(status: RunStatus, verdict: Verdict) -> bool:
    free = next_version(verdict.summary)
    return free is not None and status.release is not None and status.release.version == free
