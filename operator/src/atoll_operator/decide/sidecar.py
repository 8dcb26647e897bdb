"""A stage that has ended in a pod that has not: something put another container into it, which nobody ends. Pure.

Containers that belong to Kubernetes' own kind of sidecar (init containers that restart) are ended by the kubelet, and
need nothing of this.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from atoll_operator.status import seconds_between
from atoll_operator.views import JobState, JobView, PodPhase, PodView

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
