"""An unfinished Job: what its pod does, what keeps the pod from running, and for how long that is accepted. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason
from atoll_contract.stage_result import Progress
from atoll_operator.api.status import RunStatus, StageStatus, parse_time, seconds_between, short
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView, RunView
from atoll_operator.lifecycle.results import AttemptOutcome
from atoll_operator.lifecycle.transition import pods_of

MAX_DISRUPTIONS = 20
# GitOps may create a Secret some moments after the run that needs it.
MISSING_OBJECT_SECONDS = 120
_PULL = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"}
)
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
# No registry has such an image; the kubelet removes it from a node whose disk fills up.
_IMPORTED_IMAGE = '"localhost/'
_MISSING_IMPORT = "images of localhost/ are imported into each node, and this node has it no longer: `make load` there"


@dataclass(frozen=True)
class RunningCheck:
    """The stage as its Job shows it now; `outcome` is set where the attempt has to be given up."""

    stage: StageStatus
    outcome: AttemptOutcome | None = None
    progress: Progress | None = None
    requeue_after: float | None = None


def check_running(
    run: RunView, stage: StageStatus, job: JobView, pods: tuple[PodView, ...], now: datetime
) -> RunningCheck:
    """The state of an unfinished Job; `stage` has it recorded (`with_job`)."""
    own = pods_of(job, pods)
    disrupted = sum(1 for pod in own if pod.disruption)
    if disrupted > MAX_DISRUPTIONS:
        last = own[-1].disruption
        text = f"pods of Job {job.name} were disrupted {disrupted} times (drain, preemption); last: {last}"
        return RunningCheck(stage, AttemptOutcome(Reason.TOO_MANY_DISRUPTIONS, text))
    if job.deleting:
        return RunningCheck(_explained(stage, Reason.RUNNING, f"Job {job.name} is being deleted"), requeue_after=2)
    pod = _newest(own)
    problem = _find_problem(job, pod, others_active=run.queue.others_active)
    if problem is not None:
        return _with_problem(run, stage, problem, now)
    if pod is not None and pod.phase is not PodPhase.PENDING:
        text = f"attempt {job.attempt} is running" + (f" (after {disrupted} disruptions)" if disrupted else "")
        live = _explained(replace(stage, pending_since=None), Reason.RUNNING, text)
        return RunningCheck(live, progress=pod.progress, requeue_after=run.poll.running)
    return _starting(run, stage, job, pod, now)


def with_held_clock(
    run: RunView, status: RunStatus, jobs: Iterable[JobView], pods: tuple[PodView, ...], now: datetime
) -> RunStatus:
    """`status` whose clock stands still while an unfinished Job is held."""
    held, released = False, now
    for job in jobs:
        own = pods_of(job, pods)
        if not job.is_finished and not job.deleting:
            problem = _find_problem(job, _newest(own), others_active=run.queue.others_active)
            held = held or (problem is not None and problem.held)
        # Nobody may have looked when the Job was released.
        released = min([released, *(pod.started for pod in own if pod.started and _after_hold(pod.started, status))])
    return _with_hold(status, held=held, released=released, now=now)


def _with_hold(status: RunStatus, *, held: bool, released: datetime, now: datetime) -> RunStatus:
    """`status` with the clock stopped while the Job is `held`, and going on as of `released` once it is not."""
    if status.active_since is None or held is (status.held_since is not None):
        return status
    if held:
        return replace(status, held_since=rfc3339(now))
    assert status.held_since is not None
    pause = timedelta(seconds=seconds_between(status.held_since, released))
    return replace(status, active_since=rfc3339(parse_time(status.active_since) + pause), held_since=None)


def _after_hold(moment: datetime, status: RunStatus) -> bool:
    return status.held_since is not None and moment >= parse_time(status.held_since)


def _newest(pods: Iterable[PodView]) -> PodView | None:
    """The newest pod, one that is not finished first."""
    return max(pods, key=lambda pod: (not pod.is_finished, pod.created, pod.name), default=None)


def _explained(stage: StageStatus, reason: Reason, message: str) -> StageStatus:
    return replace(stage, reason=reason, message=short(message))


@dataclass(frozen=True)
class PodProblem:
    """Why a Job's work does not go on. After `grace_seconds` (None: the profile's pending deadline) the stage fails
    with this reason; `no_deadline`: it waits as long as it takes, as the run cannot help it; `held`: others have what
    it waits for, so that the run's own deadline stands still too; `ends_with_event`: nothing needs to be read until an
    event says that it is over."""

    reason: Reason
    message: str
    grace_seconds: int | None = None
    no_deadline: bool = False
    held: bool = False
    ends_with_event: bool = False


def _find_problem(job: JobView, pod: PodView | None, *, others_active: bool) -> PodProblem | None:
    if job.state is JobState.SUSPENDED:
        text = f"Job {job.name} {job.queue_message or 'is held by its queue'}"
        return PodProblem(Reason.QUEUED, text, no_deadline=True, held=True, ends_with_event=True)
    if pod is None:
        return _creation_problem(job)
    if pod.node_lost:
        text = f"NodeLost: {pod.node_lost}; waiting for the node, or for its out-of-service taint"
        return PodProblem(Reason.NODE_LOST, text, no_deadline=True)
    if pod.phase is not PodPhase.PENDING:
        return None
    if pod.unschedulable:
        text = f"pod {pod.name}: {pod.unschedulable}"
        return PodProblem(Reason.UNSCHEDULABLE, text, no_deadline=others_active, held=others_active)
    return _container_problem(pod) or _warning_problem(pod)


def _creation_problem(job: JobView) -> PodProblem | None:
    if not job.create_error:
        return None
    if "exceeded quota" in job.create_error:
        return PodProblem(Reason.QUOTA_EXCEEDED, job.create_error)
    text = f"admission denied: {job.create_error}{_admission_hint(job)}"
    return PodProblem(Reason.INVALID_SPEC, text, MISSING_OBJECT_SECONDS)


def _admission_hint(job: JobView) -> str:
    """What to change where the namespace's own limits refuse the pod."""
    stages = " and ".join(f"resources.{stage}" for stage in (job.stage, *(number.stage for number in job.following)))
    if "failed quota" in job.create_error:
        return f"; have the profile's {stages} name that, or give the namespace a LimitRange with defaults"
    if " usage per " in job.create_error or "limit to request ratio" in job.create_error:
        return f"; the namespace's LimitRange and the profile's {stages} do not go together: have one of them changed"
    return ""


def _container_problem(pod: PodView) -> PodProblem | None:
    text = f"pod {pod.name}: {pod.waiting_reason}: {pod.waiting_message or pod.warning or 'no message'}"
    if pod.waiting_reason in _NEVER:
        return PodProblem(Reason.IMAGE_PULL_FAILED, text, 0)
    if pod.waiting_reason in _PULL:
        imported = _IMPORTED_IMAGE in text
        return PodProblem(Reason.IMAGE_PULL_FAILED, f"{text}; {_MISSING_IMPORT}" if imported else text)
    if pod.waiting_reason == "CreateContainerConfigError" and _names_missing_object(pod.waiting_message):
        return PodProblem(Reason.SECRET_NOT_FOUND, text, MISSING_OBJECT_SECONDS)
    if pod.waiting_reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return PodProblem(Reason.START_TIMEOUT, text)
    return None


def _warning_problem(pod: PodView) -> PodProblem | None:
    if not pod.warning:
        return None
    text = f"pod {pod.name}: {pod.warning}"
    if _names_missing_object(pod.warning):
        # Secrets and the CA bundle are mounted as files: a missing one shows only as FailedMount.
        return PodProblem(Reason.SECRET_NOT_FOUND, text, MISSING_OBJECT_SECONDS)
    return PodProblem(Reason.START_TIMEOUT, text)


def _names_missing_object(message: str) -> bool:
    lowered = message.lower()
    named = "secret" in lowered or "configmap" in lowered
    return named and ("not found" in lowered or "non-existent" in lowered or "couldn't find key" in lowered)


def _with_problem(run: RunView, stage: StageStatus, problem: PodProblem, now: datetime) -> RunningCheck:
    since = None if problem.no_deadline else stage.pending_since or rfc3339(now)
    text = problem.message
    # The kubelet alternates between the registry's error and "back-off", which says nothing: the error is kept.
    if problem.reason is stage.reason and "ImagePullBackOff" in text and "ErrImagePull" in stage.message:
        text = stage.message
    # A warning may pass by itself; it becomes the reason only after the deadline.
    reason = Reason.PENDING if problem.reason is Reason.START_TIMEOUT else problem.reason
    again = None if problem.ends_with_event else run.poll.starting
    check = RunningCheck(_explained(replace(stage, pending_since=since), reason, text), requeue_after=again)
    grace = problem.grace_seconds
    limit = run.pending_limit if grace is None else min(run.pending_limit, grace)
    if since is None or seconds_between(since, now) < limit:
        return check
    return replace(check, outcome=AttemptOutcome(problem.reason, f"{text} (waited {limit} s)" if limit else text))


def _starting(run: RunView, stage: StageStatus, job: JobView, pod: PodView | None, now: datetime) -> RunningCheck:
    if pod is not None:
        since = stage.pending_since or rfc3339(now)
        text = f"attempt {job.attempt}: pod {pod.name} is starting"
        stage = _explained(replace(stage, pending_since=since), Reason.RUNNING, text)
    is_new = seconds_between(job.created, now) < run.poll.first
    check = RunningCheck(stage, requeue_after=run.poll.first if is_new else run.poll.starting)
    limit = run.pending_limit
    if stage.pending_since is None or seconds_between(stage.pending_since, now) < limit:
        return check
    text = f"no pod of Job {job.name} has started within {limit} s; see kubectl describe job {job.name}"
    return replace(check, outcome=AttemptOutcome(Reason.START_TIMEOUT, text))
