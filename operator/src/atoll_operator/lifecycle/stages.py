"""The end of an attempt: its success recorded, another attempt scheduled, or the stage given up. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from atoll_contract import keys
from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import (
    LastFailure,
    ReleaseStatus,
    RunStatus,
    StagePhase,
    StageStatus,
    parse_time,
    rfc3339,
    seconds_between,
    short,
)
from atoll_operator.lifecycle.model import (
    DEFAULT_ACTIVE_SECONDS,
    JobView,
    PodView,
    ReleaseReport,
    RunView,
    StageAttempt,
)
from atoll_operator.lifecycle.progress import with_progress
from atoll_operator.lifecycle.results import Verdict, judge
from atoll_operator.lifecycle.retry_policy import MAX_ATTEMPTS, STORAGE
from atoll_operator.lifecycle.running import running, seen
from atoll_operator.lifecycle.step import (
    Step,
    active_seconds,
    current_stage,
    deletions,
    fail,
    reservation,
    skip,
    unfinished,
    with_reserved_version,
    working,
)
from atoll_operator.lifecycle.summaries import next_version, with_summary, without_compile


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


LEFTOVER_LOOK_SECONDS = 2


def advance(run: RunView, status: RunStatus, jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime) -> Step:
    """The next step of the current stage of a run that is let in and may work."""
    stage = current_stage(status)
    assert stage is not None
    jobs, pods = tuple(jobs), tuple(pods)
    job = newest_attempt(stage, jobs)
    if job is None:
        return _without_job(run, status, stage, jobs, now)
    recorded = seen(stage, job)
    if job.is_finished:
        return close_attempt(run, status, recorded, _failure(run, status, job, pods), now)
    step = running(run, recorded, job, pods, now)
    if step.verdict is not None:
        closed = close_attempt(run, status, step.stage, step.verdict, now)
        return replace(closed, delete=deletions([job]))
    live = with_progress(working(status, step.stage), step.progress, now)
    return Step(live, delete=deletions(unfinished(jobs, but=job)), requeue_after=step.requeue_after)


def open_attempts(stage: StageStatus, jobs: Iterable[JobView]) -> list[JobView]:
    """The stage's Jobs of the attempt that is announced or under way (and of later ones, where a status write was
    lost); attempts that are over do not count."""
    is_open = stage.phase is StagePhase.RUNNING or stage.job_ref is None
    own = [job for job in jobs if job.stage is stage.name]
    return [job for job in own if job.attempt > stage.attempts or (is_open and job.attempt == stage.attempts)]


def newest_attempt(stage: StageStatus, jobs: Iterable[JobView]) -> JobView | None:
    return max(open_attempts(stage, jobs), key=lambda job: job.attempt, default=None)


def _failure(run: RunView, status: RunStatus, job: JobView, pods: Iterable[PodView]) -> Verdict:
    """The verdict on a finished Job whose success, if it had any, is not to be believed."""
    verdict = judge(run, job, pods)
    if not verdict.succeeded:
        return verdict
    return Verdict(Reason.INTEGRITY_MISMATCH, unpublished(run, status, verdict), exit_code=0)


def _without_job(run: RunView, status: RunStatus, stage: StageStatus, jobs: tuple[JobView, ...], now: datetime) -> Step:
    if stage.phase is StagePhase.RUNNING:
        name = stage.job_ref.name if stage.job_ref else "of the stage"
        text = f"Job {name} was deleted by somebody else"
        verdict = Verdict(Reason.JOB_DELETED_EXTERNALLY, text, retry=True)
        return close_attempt(run, status, stage, verdict, now)
    leftovers = unfinished(jobs)
    if leftovers:
        waiting = replace(stage, message=f"waiting for the end of Job {leftovers[0].name}")
        return Step(working(status, waiting), delete=deletions(leftovers), requeue_after=LEFTOVER_LOOK_SECONDS)
    if stage.next_retry_time and parse_time(stage.next_retry_time) > now:
        wait = (parse_time(stage.next_retry_time) - now).total_seconds()
        return Step(working(status, stage), requeue_after=wait)
    if stage.name is Stage.PUBLISH:
        return _publish(run, status, stage, now)
    return _open(run, status, stage, now)


def _publish(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> Step:
    reserved = with_reserved_version(run, status)
    if reserved is not None:
        return _open(run, reserved, stage, now)
    wanted = reservation(run, status)
    waiting = replace(stage, message=f"reserving {wanted.name}")
    return Step(working(status, waiting), reserve=wanted, requeue_after=0)


def _open(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> Step:
    announced = stage.attempts > 0 and stage.job_ref is None
    attempt = stage.attempts if announced else stage.attempts + 1
    if attempt > MAX_ATTEMPTS:
        text = f"{stage.message} ({MAX_ATTEMPTS} attempts)"
        return Step(fail(status, stage, reason=stage.reason, message=text, now=now))
    opened = replace(
        stage,
        phase=StagePhase.PENDING,
        reason=Reason.PENDING,
        message=f"attempt {attempt} starts",
        attempts=attempt,
        job_ref=None,
        next_retry_time=None,
        completion_time=None,
    )
    request = StageAttempt(
        stage=stage.name,
        attempt=attempt,
        upstream={item.name: item.outputs for item in status.stages if item.outputs},
        active_deadline_seconds=_deadline_belt(run, status, now),
        accelerator=status.resolved.accelerator if status.resolved else "auto",
        version=status.release.version if stage.name is Stage.PUBLISH and status.release else None,
    )
    return Step(working(status, opened), create=(request,), requeue_after=0)


def active_limit(run: RunView) -> int:
    """The run's deadline in seconds of active time: its own, at most the profile's."""
    highest = run.profile.active_seconds if run.profile else DEFAULT_ACTIVE_SECONDS
    return min(run.active_deadline_seconds or highest, highest)


def _deadline_belt(run: RunView, status: RunStatus, now: datetime) -> int:
    """More than the run has left, by the time that a pod may take to start: `decide` ends a run before its Job ends."""
    left = max(0.0, active_limit(run) - active_seconds(status, now))
    return int(left) + (run.profile.pending_seconds if run.profile else 0) + 60
