"""What keeps an unfinished Job from running, in the words of its pod. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from atoll_contract.reasons import Reason
from atoll_operator.views import JobState, JobView, PodPhase, PodView

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
    return _waiting(pod) or _warned(pod)


def _not_created(job: JobView) -> Trouble | None:
    if not job.create_error:
        return None
    if "exceeded quota" in job.create_error:
        return Trouble(Reason.QUOTA_EXCEEDED, job.create_error)
    return Trouble(Reason.INVALID_SPEC, f"admission denied: {job.create_error}", MISSING_OBJECT_SECONDS)


def _waiting(pod: PodView) -> Trouble | None:
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
