"""An attempt whose Job is there and not finished: progress, trouble, and the deadline for coming to life. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from atoll_contract.progress import Progress
from atoll_contract.reasons import Reason
from atoll_operator.decide.results import MAX_DISRUPTIONS, Verdict
from atoll_operator.decide.trouble import Trouble, find_trouble, newest
from atoll_operator.status import JobRef, StagePhase, StageStatus, rfc3339, seconds_between, short
from atoll_operator.views import DEFAULT_PENDING_SECONDS, JobView, PodPhase, PodView, RunView

FIRST_LOOK_SECONDS = 3
PENDING_LOOK_SECONDS = 5
RUNNING_LOOK_SECONDS = 30
_NO_WORDS = frozenset({"ImagePullBackOff"})


@dataclass(frozen=True)
class RunningStep:
    """The stage as it shows now; `verdict` where the attempt has to be given up."""

    stage: StageStatus
    verdict: Verdict | None = None
    progress: Progress | None = None
    requeue_after: float = RUNNING_LOOK_SECONDS


def seen(stage: StageStatus, job: JobView) -> StageStatus:
    """`stage` with the Job of its newest attempt recorded."""
    start = stage.start_time or rfc3339(job.created)
    fresh = job.attempt != stage.attempts or stage.job_ref is None
    return replace(
        stage,
        phase=StagePhase.RUNNING,
        attempts=job.attempt,
        job_ref=JobRef(job.name, job.uid) if job.uid else None,
        start_time=start,
        next_retry_time=None,
        # The Job's own creation, not now: a restarted operator must not grant the time again.
        pending_since=rfc3339(job.created) if fresh else stage.pending_since,
        reason=Reason.RUNNING if fresh else stage.reason,
        message=f"attempt {job.attempt} waits for its pod" if fresh else stage.message,
    )


def running(run: RunView, stage: StageStatus, job: JobView, pods: Iterable[PodView], now: datetime) -> RunningStep:
    """The step for an unfinished Job; `stage` is as `seen` left it."""
    own = [pod for pod in pods if pod.job == job.name]
    disrupted = sum(1 for pod in own if pod.disruption)
    if disrupted > MAX_DISRUPTIONS:
        text = (
            f"pods of Job {job.name} were disrupted {disrupted} times (drain, preemption); last: {own[-1].disruption}"
        )
        return RunningStep(stage, Verdict(Reason.TOO_MANY_DISRUPTIONS, text))
    if job.deleting:
        return RunningStep(_with(stage, Reason.RUNNING, f"Job {job.name} is being deleted"), requeue_after=2)
    pod = newest(job, own)
    trouble = find_trouble(job, pod, others_active=run.queue.others_active)
    if trouble is not None:
        return _troubled(run, stage, trouble, now)
    if pod is not None and pod.phase is not PodPhase.PENDING:
        words = "is running" if disrupted == 0 else f"is running (after {disrupted} disruptions)"
        live = _with(replace(stage, pending_since=None), Reason.RUNNING, f"attempt {job.attempt} {words}")
        return RunningStep(live, progress=pod.progress)
    return _waiting(run, stage, job, pod, now)


def _waiting(run: RunView, stage: StageStatus, job: JobView, pod: PodView | None, now: datetime) -> RunningStep:
    if pod is not None:
        since = stage.pending_since or rfc3339(now)
        text = f"attempt {job.attempt}: pod {pod.name} is starting"
        stage = _with(replace(stage, pending_since=since), Reason.RUNNING, text)
    look = FIRST_LOOK_SECONDS if seconds_between(job.created, now) < FIRST_LOOK_SECONDS else PENDING_LOOK_SECONDS
    step = RunningStep(stage, requeue_after=look)
    if stage.pending_since is None or seconds_between(stage.pending_since, now) < _pending_limit(run):
        return step
    text = f"no pod of Job {job.name} has started within {_pending_limit(run)} s; see kubectl describe job {job.name}"
    return replace(step, verdict=Verdict(Reason.START_TIMEOUT, text))


def _troubled(run: RunView, stage: StageStatus, trouble: Trouble, now: datetime) -> RunningStep:
    since = None if trouble.held else stage.pending_since or rfc3339(now)
    keeps_words = trouble.reason is stage.reason and any(word in trouble.message for word in _NO_WORDS)
    # The kubelet alternates between the registry's answer and "back-off": the answer is worth keeping.
    text = stage.message if keeps_words and "ErrImagePull" in stage.message else trouble.message
    # A warning may pass by itself; it becomes the reason only when the deadline has passed.
    shown = Reason.PENDING if trouble.reason is Reason.START_TIMEOUT else trouble.reason
    stage = _with(replace(stage, pending_since=since), shown, text)
    limit = _pending_limit(run)
    if trouble.grace_seconds is not None:
        limit = min(limit, trouble.grace_seconds)
    step = RunningStep(stage, requeue_after=PENDING_LOOK_SECONDS)
    if since is None or seconds_between(since, now) < limit:
        return step
    return replace(step, verdict=Verdict(trouble.reason, f"{text} (waited {limit} s)" if limit else text))


def _pending_limit(run: RunView) -> int:
    return run.profile.pending_seconds if run.profile else DEFAULT_PENDING_SECONDS


def _with(stage: StageStatus, reason: Reason, message: str) -> StageStatus:
    return replace(stage, reason=reason, message=short(message))
