"""What a run used: the seconds that its pods ran, by the kubelet's own times. Pure.

An attempt is counted in the very status in which it is over, so once; the pods of a Job that vanished before anybody
looked are not in it.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from atoll_contract.stage import Stage
from atoll_operator.status import DONE, RunStatus, StagePhase, StageStatus, Usage, seconds_between
from atoll_operator.views import JobView, PodView, RunView


def counted(
    before: RunStatus | None, after: RunStatus, jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime
) -> RunStatus:
    """`after` with the seconds of the attempts that it says are over and `before` did not."""
    known = {item.name: item for item in before.stages} if before else {}
    pods = tuple(pods)
    for job in jobs:
        stage, old = after.stage(job.stage), known.get(job.stage)
        if _is_over(stage, job) and not (old is not None and _is_over(old, job)):
            seconds = stage.pod_seconds + _seconds(job, pods, now)
            after = after.with_stage(replace(stage, pod_seconds=seconds))
    return after


def usage(run: RunView, status: RunStatus) -> Usage:
    """The seconds of all pods, and times the CPUs that they asked for and the GPUs that training had."""
    cpus = run.profile.cpus if run.profile else {}
    cpu = sum(cpus.get(item.name, 0.0) * item.pod_seconds for item in status.stages)
    on_gpu = status.resolved is not None and status.resolved.accelerator == "gpu"
    gpu = status.stage(Stage.TRAIN).pod_seconds * run.gpus if on_gpu else 0
    return Usage(sum(item.pod_seconds for item in status.stages), int(cpu), gpu)


def _is_over(stage: StageStatus, job: JobView) -> bool:
    if stage.phase in DONE or stage.phase is StagePhase.FAILED or job.attempt < stage.attempts:
        return True
    waits = stage.phase is StagePhase.PENDING and stage.job_ref is not None
    return waits and job.attempt == stage.attempts


def _seconds(job: JobView, pods: Iterable[PodView], now: datetime) -> int:
    own = (pod for pod in pods if pod.job == job.name and pod.started is not None)
    return int(sum(seconds_between(pod.started, pod.finished or job.finished or now) for pod in own if pod.started))
