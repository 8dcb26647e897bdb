"""What keeps an unfinished Job from running, in the words of its pod. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import JobRef, StagePhase, StageStatus, rfc3339, seconds_between, short
from atoll_operator.lifecycle.model import DEFAULT_PENDING_SECONDS, JobState, JobView, PodPhase, PodView, RunView
from atoll_operator.lifecycle.results import MAX_DISRUPTIONS, Verdict

# GitOps may bring a Secret some moments after the run that needs it.
MISSING_OBJECT_SECONDS = 120
_PULL = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"}
)
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True)
class Trouble:
    """Why a Job's work does not go on. After `grace_seconds` (None: the profile's pending deadline) the stage fails
    with this reason; `held`: no deadline runs, as what is waited for is not this run's fault."""

    reason: Reason
    message: str
    grace_seconds: int | None = None
    held: bool = False


def newest(job: JobView, pods: Iterable[PodView]) -> PodView | None:
    """The Job's newest pod, one that is not finished first."""
    own = [pod for pod in pods if pod.job == job.name]
    return max(own, key=lambda pod: (not pod.is_finished, pod.created, pod.name), default=None)


def find_trouble(job: JobView, pod: PodView | None, *, others_active: bool) -> Trouble | None:
    if job.state is JobState.SUSPENDED:
        return Trouble(Reason.QUEUED, f"Job {job.name} is held by its queue", held=True)
    if pod is None:
        return _not_created(job)
    if pod.node_lost:
        text = f"NodeLost: {pod.node_lost}; waiting for the node, or for its out-of-service taint"
        return Trouble(Reason.NODE_LOST, text, held=True)
    if pod.phase is not PodPhase.PENDING:
        return None
    if pod.unschedulable:
        return Trouble(Reason.UNSCHEDULABLE, f"pod {pod.name}: {pod.unschedulable}", held=others_active)
    return _waiting_trouble(pod) or _warned(pod)


def _not_created(job: JobView) -> Trouble | None:
    if not job.create_error:
        return None
    if "exceeded quota" in job.create_error:
        return Trouble(Reason.QUOTA_EXCEEDED, job.create_error)
    return Trouble(Reason.INVALID_SPEC, f"admission denied: {job.create_error}", MISSING_OBJECT_SECONDS)


def _waiting_trouble(pod: PodView) -> Trouble | None:
    text = f"pod {pod.name}: {pod.waiting_reason}: {pod.waiting_message or pod.warning or 'no message'}"
    if pod.waiting_reason in _NEVER:
        return Trouble(Reason.IMAGE_PULL_FAILED, text, 0)
    if pod.waiting_reason in _PULL:
        return Trouble(Reason.IMAGE_PULL_FAILED, text)
    if pod.waiting_reason == "CreateContainerConfigError" and _names_missing_object(pod.waiting_message):
        return Trouble(Reason.SECRET_NOT_FOUND, text, MISSING_OBJECT_SECONDS)
    if pod.waiting_reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Trouble(Reason.START_TIMEOUT, text)
    return None


def _warned(pod: PodView) -> Trouble | None:
    if not pod.warning:
        return None
    text = f"pod {pod.name}: {pod.warning}"
    if _names_missing_object(pod.warning):
        # Secrets and the CA bundle are mounted as files: a missing one shows as FailedMount only.
        return Trouble(Reason.SECRET_NOT_FOUND, text, MISSING_OBJECT_SECONDS)
    return Trouble(Reason.START_TIMEOUT, text)


def _names_missing_object(words: str) -> bool:
    lowered = words.lower()
    named = "secret" in lowered or "configmap" in lowered
    return named and ("not found" in lowered or "non-existent" in lowered or "couldn't find key" in lowered)


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


# Time for a container that ends by itself once it sees that the stage is gone.
GRACE_SECONDS = 30


def without_sidecars(
    jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime
) -> tuple[tuple[JobView, ...], tuple[PodView, ...], tuple[JobView, ...]]:
    """Jobs and pods as they would be without the other container, and the Jobs that were changed: they have to be
    deleted once their end is on record.

    A stage's container never starts again (restartPolicy Never), so that its end is final. A pod that is being
    deleted or was disrupted is the Job controller's to replace.
    """
    seen = tuple(_ended(pod) if _is_over(pod, now) else pod for pod in pods)
    over = {pod.job: pod for pod in seen if pod.kept_by_another and pod.is_finished}
    found = tuple(jobs)
    changed = tuple(job for job in found if job.name in over and job.state is JobState.ACTIVE and not job.deleting)
    return tuple(_finished(job, over[job.name]) if job in changed else job for job in found), seen, changed


def _is_over(pod: PodView, now: datetime) -> bool:
    if not pod.kept_by_another or pod.deleting or pod.disruption or pod.node_lost or pod.finished is None:
        return False
    return seconds_between(pod.finished, now) >= GRACE_SECONDS


def _ended(pod: PodView) -> PodView:
    return replace(pod, phase=PodPhase.SUCCEEDED if pod.exit_code == 0 else PodPhase.FAILED)


def _finished(job: JobView, pod: PodView) -> JobView:
    state = JobState.SUCCEEDED if pod.phase is PodPhase.SUCCEEDED else JobState.FAILED
    return replace(job, state=state, finished=pod.finished)
