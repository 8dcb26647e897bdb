"""What the parts of `decide` share: `Transition`, a Job and its pods as each of its stages sees them, the open attempt
of a stage, several workers as one pod, how a stage or a run ends, and how a failed run is reopened. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from atoll_contract.document import DecodeError, replace, rfc3339
from atoll_contract.errors import ExitCode, Reason, bounded
from atoll_contract.stage import Stage
from atoll_contract.stage_result import parse_result
from atoll_operator.api.status import (
    DONE,
    CompileStatus,
    JobRef,
    Phase,
    RunStatus,
    StagePhase,
    StageStatus,
    parse_time,
    seconds_between,
    short,
)
from atoll_operator.lifecycle.model import (
    AttemptNumber,
    JobState,
    JobView,
    PodPhase,
    PodView,
    RetryTiming,
    RunView,
    StageAttempt,
)
from atoll_operator.lifecycle.plan import JobToDelete, ReleaseReport, Reservation

# How much of the annotation's value is compared and recorded.
MAX_RETRY_VALUE = 256
# Reasons that a worker has of another one's end: a worker with a cause of its own comes before.
_CONSEQUENCES = {Reason.PEER_LOST: 1, Reason.SUSPENDED: 2}
_CODES = {int(ExitCode.PEER_LOST): 1, int(ExitCode.INTERRUPTED): 2}


@dataclass(frozen=True)
class Transition:
    """The status that follows, and what has to be done for it. `decide` makes the Plan of it."""

    status: RunStatus
    create: tuple[StageAttempt, ...] = ()
    delete: tuple[JobToDelete, ...] = ()
    reserve: Reservation | None = None
    release_status: ReleaseReport | None = None
    requeue_after: float | None = None


def current_stage(status: RunStatus) -> StageStatus | None:
    """The first stage that is neither succeeded nor skipped."""
    return next((item for item in status.stages if item.phase not in DONE), None)


def unfinished(jobs: Iterable[JobView], *, but: JobView | None = None) -> tuple[JobView, ...]:
    return tuple(job for job in jobs if not job.is_finished and (but is None or job.name != but.name))


def deletions(jobs: Iterable[JobView]) -> tuple[JobToDelete, ...]:
    """Each Job once, whichever of its stages are given."""
    found: dict[str, JobToDelete] = {}
    for job in (job for job in jobs if not job.deleting):
        known = found.get(job.name)
        with_pods = job.publishes or (known is not None and known.with_pods)
        found[job.name] = JobToDelete(job.name, job.uid, with_pods=with_pods)
    return tuple(found.values())


def pods_of(job: JobView, pods: Iterable[PodView]) -> list[PodView]:
    """The pods of the Job as the stage of this view sees them."""
    return [pod for pod in pods if pod.job == job.name and pod.stage in (None, job.stage)]


def with_one_worker(run: RunView, jobs: Iterable[JobView], pods: tuple[PodView, ...]) -> tuple[PodView, ...]:
    """The pods with one for each Job of several workers: the first worker, or one that is in trouble in its place."""
    finished = {job.name: job.state for job in jobs if job.is_finished}
    workers: dict[str, list[PodView]] = {}
    for pod in pods:
        if pod.index is not None:
            workers.setdefault(pod.job, []).append(pod)
    chosen = (
        _of_finished(own, finished[job]) if job in finished else _of_unfinished(own, run.workers)
        for job, own in workers.items()
    )
    return (*(pod for pod in pods if pod.index is None), *(pod for pod in chosen if pod is not None))


def _of_unfinished(pods: list[PodView], count: int) -> PodView:
    first = min(pods, key=_order)
    lost = next((pod for pod in pods if pod.node_lost), None)
    pending = sorted((pod for pod in pods if pod.phase is PodPhase.PENDING), key=_order)
    failing = (pod for pod in pending if pod.unschedulable or pod.waiting_reason or pod.warning)
    if slowest := lost or next(failing, None) or next(iter(pending), None):
        return slowest
    if len({pod.index for pod in pods}) < count:
        # It waits for workers that have no pod yet.
        return replace(first, phase=PodPhase.PENDING, started=None, progress=None)
    return first


def _of_finished(pods: list[PodView], state: JobState) -> PodView | None:
    """The pod whose end is that of the Job: the first worker if it succeeded, else one with a cause of its own. None
    where that pod is gone: no other has the result."""
    succeeded = [pod for pod in pods if pod.index == 0 and pod.phase is PodPhase.SUCCEEDED]
    if state is JobState.SUCCEEDED and not succeeded:
        return None
    failed = [pod for pod in pods if pod.phase is PodPhase.FAILED]
    return min(succeeded or failed or pods, key=lambda pod: (_rank(pod), pod.finished or pod.created, pod.name))


def _order(pod: PodView) -> tuple[int, str]:
    return (pod.index or 0, pod.name)


def _rank(pod: PodView) -> int:
    try:
        return _CONSEQUENCES.get(parse_result(pod.termination_message).reason, 0)
    except DecodeError:
        return _CODES.get(pod.exit_code or 0, 0)


def stage_views(job: JobView, pods: tuple[PodView, ...], status: RunStatus | None) -> tuple[JobView, ...]:
    """A view of each stage of the Job that has begun. Only the last of them can be unfinished or have failed.

    A stage other than the last one has succeeded where its container has ended with exit code 0, where the Job has
    succeeded as a whole, or where the status says so of this Job. Its successor begins with its end.
    """
    views: list[JobView] = []
    numbers = (AttemptNumber(job.stage, job.attempt), *job.following)
    begun = job.created
    for index, number in enumerate(numbers):
        view = replace(
            job,
            stage=number.stage,
            attempt=number.attempt,
            created=begun,
            following=numbers[index + 1 :],
            is_following=index > 0,
        )
        ended = _success_time(view, pods, status) if view.following else None
        if ended is None:
            return (*views, view)
        succeeded = replace(view, state=JobState.SUCCEEDED, finished=ended, create_error="")
        views.append(replace(succeeded, failure_reason="", failure_message=""))
        begun = ended
    return tuple(views)


def _success_time(view: JobView, pods: tuple[PodView, ...], status: RunStatus | None) -> datetime | None:
    """When the stage succeeded within this Job; None where it has not."""
    ended = [pod.finished or pod.created for pod in pods_of(view, pods) if pod.phase is PodPhase.SUCCEEDED]
    if ended:
        return max(ended)
    for item in status.stages if status else ():
        is_recorded = item.name is view.stage and item.phase is StagePhase.SUCCEEDED
        if is_recorded and item.job_ref is not None and item.job_ref.uid == view.uid:
            return parse_time(item.completion_time) if item.completion_time else view.created
    return (view.finished or view.created) if view.state is JobState.SUCCEEDED else None


def newest_attempt(stage: StageStatus, jobs: Iterable[JobView]) -> JobView | None:
    return max(open_attempts(stage, jobs), key=lambda job: job.attempt, default=None)


def open_attempts(stage: StageStatus, jobs: Iterable[JobView]) -> list[JobView]:
    """The Jobs of the stage's attempt that is announced or running, and of later ones, whose status write was lost.
    Attempts that are over do not count."""
    is_open = stage.phase is StagePhase.RUNNING or stage.job_ref is None
    own = [job for job in jobs if job.stage is stage.name]
    return [job for job in own if job.attempt > stage.attempts or (is_open and job.attempt == stage.attempts)]


def with_job(stage: StageStatus, job: JobView) -> StageStatus:
    """`stage` with the Job of its newest attempt recorded."""
    is_new = job.attempt != stage.attempts or stage.job_ref is None
    return replace(
        stage,
        phase=StagePhase.RUNNING,
        attempts=job.attempt,
        job_ref=JobRef(job.name, job.uid) if job.uid else None,
        start_time=stage.start_time or rfc3339(job.created),
        next_retry_time=None,
        # The Job's own creation, not now: a restarted operator must not grant the time again.
        pending_since=rfc3339(job.created) if is_new else stage.pending_since,
        reason=Reason.RUNNING if is_new else stage.reason,
        message=f"attempt {job.attempt} waits for its pod" if is_new else stage.message,
    )


def skip(status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` after a stage that is left out."""
    return status.with_stage(_closed(stage, StagePhase.SKIPPED, reason=reason, message=message, now=now))


def fail(status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` of a run that ends in Failed because `stage` does."""
    failed = _closed(stage, StagePhase.FAILED, reason=reason, message=message, now=now)
    return end(status.with_stage(failed), Phase.FAILED, reason=reason, message=message, now=now)


def _closed(stage: StageStatus, phase: StagePhase, *, reason: Reason, message: str, now: datetime) -> StageStatus:
    return replace(
        stage,
        phase=phase,
        reason=reason,
        message=short(message),
        completion_time=rfc3339(now),
        next_retry_time=None,
        pending_since=None,
    )


def end(status: RunStatus, phase: Phase, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` of a run that is over."""
    stopped = stop_clock(status, now)
    text = bounded(message)
    over = replace(stopped, phase=phase, reason=reason, message=text, completion_time=rfc3339(now))
    return replace(over, queue=None, intended_end=None)


def stop_clock(status: RunStatus, now: datetime) -> RunStatus:
    """`status` with the open interval of active time closed, as the run is suspended or over."""
    return replace(status, active_seconds=int(active_seconds(status, now)), active_since=None, held_since=None)


def active_seconds(status: RunStatus, now: datetime) -> float:
    """Seconds in which the run was neither suspended nor queued, and its Job not held."""
    until = parse_time(status.held_since) if status.held_since else now
    open_interval = seconds_between(status.active_since, until) if status.active_since else 0.0
    return status.active_seconds + open_interval


def retried(run: RunView, status: RunStatus) -> RunStatus:
    """`status` with the annotation acted on, if its value is new.

    The value is `<anything>` or `<anything>:<stage>`; with a stage the run goes back to it and does all from there on
    anew, otherwise the failed one goes on. On an active run the value is only recorded, so that it has no effect later;
    succeeded and cancelled runs ignore it.
    """
    if not run.retry or run.retry[:MAX_RETRY_VALUE] == status.last_handled_retry:
        return status
    if status.phase in (Phase.SUCCEEDED, Phase.CANCELLED):
        return status
    recorded = replace(status, last_handled_retry=run.retry[:MAX_RETRY_VALUE])
    if status.phase is not Phase.FAILED:
        return recorded
    return _reopened(recorded, _requested_stage(run.retry))


def _requested_stage(value: str) -> Stage | None:
    suffix = value.rsplit(":", 1)[-1]
    return Stage(suffix) if suffix in tuple(Stage) else None


def _reopened(status: RunStatus, requested: Stage | None) -> RunStatus:
    order = list(Stage)
    failed = current_stage(status)
    first = order.index(failed.name if failed else Stage.PUBLISH)
    anew = requested is not None and order.index(requested) <= first
    if requested is not None and anew:
        first = order.index(requested)
    if first <= order.index(Stage.EXPORT):
        unmeasured = replace(status.summary, ap50="", assessment=None)
        status = replace(status, metrics=None, per_class=(), summary=unmeasured)
    if first <= order.index(Stage.COMPILE):
        status = replace(status, compile=tuple(_reset_target(item, anew=anew) for item in status.compile))
    return replace(
        status,
        phase=Phase.PENDING,
        reason=Reason.PENDING,
        message="the run goes on after a retry was asked for",
        completion_time=None,
        # The time for the deadline starts anew: the deadline may be what ended the run.
        active_seconds=0,
        active_since=None,
        held_since=None,
        usage=None,
        resolved=None,
        stages=tuple(_reset(item, anew=anew) if order.index(item.name) >= first else item for item in status.stages),
        # A failed publish keeps its version, and its retry uses it.
        release=replace(status.release, manifest=None) if status.release else None,
    )


def _reset_target(entry: CompileStatus, *, anew: bool) -> CompileStatus:
    """`entry` without its verdict, where it has Jobs of its own."""
    if entry.stage is None:
        return entry
    predicted = entry.predicted_mapped_percent
    stage = _reset(entry.stage, anew=anew)
    return CompileStatus(entry.target, predicted_mapped_percent=predicted, stage=stage)


def _reset(stage: StageStatus, *, anew: bool) -> StageStatus:
    """`stage` as pending; its attempts are numbered on. `anew`: they take nothing over from those so far."""
    return replace(
        stage,
        phase=StagePhase.PENDING,
        reason=Reason.PENDING,
        message="",
        failures=0,
        adopt_from=stage.attempts + 1 if anew and stage.attempts else stage.adopt_from,
        checkpoint_step=None if anew else stage.checkpoint_step,
        completion_time=None,
        next_retry_time=None,
        pending_since=None,
        storage_failing_since=None,
        outputs=(),
    )


def retry_delay(timing: RetryTiming, failures: int) -> float:
    """The seconds after the `failures`-th failure: 5, 10, 20 … at most 5 minutes; none without a failure."""
    return min(timing.first * 2 ** min(failures - 1, 32), timing.longest) if failures > 0 else 0.0
