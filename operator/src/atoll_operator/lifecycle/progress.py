"""`status.progress`: one percentage over all stages and a message on where the run is; and `status.usage`. Pure."""

from collections.abc import Iterable
from datetime import datetime

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress
from atoll_contract.text import duration
from atoll_operator.api.status import (
    DONE,
    CompileStatus,
    ProgressStatus,
    RunStatus,
    StagePhase,
    StageStatus,
    Usage,
    seconds_between,
)
from atoll_operator.lifecycle.model import JobView, PodView, RunView
from atoll_operator.lifecycle.transition import current_stage, pods_of

# Each write wakes every watcher: live progress is written at most this often.
INTERVAL_SECONDS = 30
# Percent of the whole run.
_SHARE = {Stage.CONVERT: 8, Stage.TRAIN: 76, Stage.EXPORT: 10, Stage.COMPILE: 3, Stage.PUBLISH: 3}


def with_progress(status: RunStatus, progress: Progress | None, now: datetime) -> RunStatus:
    """`status` with the newest progress of its current stage, if one is due to be written."""
    stage = current_stage(status)
    if stage is None or stage.reason is not Reason.RUNNING or stage.pending_since is not None:
        return status
    if progress is not None and progress.waiting:
        text = f"attempt {stage.attempts} waits: {progress.waiting}"
        return replace(_with_newest(status, stage, progress, now), message=bounded(text))
    return _with_newest(status, stage, progress, now)


def _with_newest(status: RunStatus, stage: StageStatus, progress: Progress | None, now: datetime) -> RunStatus:
    if progress is not None and stage.name is Stage.TRAIN:
        status = status.with_curve_point(progress.best_step, progress.ap50)
    old = status.progress
    if old is None or old.stage is not stage.name or old.updated_time is None:
        return _with_message(status, _progress_status(status, progress or Progress(0.0), stage.name, now))
    new = _progress_status(status, progress, stage.name, now) if progress else old
    is_fresh = seconds_between(old.updated_time, now) < INTERVAL_SECONDS
    is_same = (new.step, new.percent) == (old.step, old.percent)
    return _with_message(status, old if is_fresh or is_same else new)


def with_checkpoint(stage: StageStatus, newest: int | None) -> StageStatus:
    """`stage` with the step of its newest checkpoint, where that is known; one that is newer than the last known clears
    the count of failures."""
    step = _int32(newest)
    if step is None or step <= (stage.checkpoint_step or 0):
        return stage
    return replace(stage, checkpoint_step=step, failures=0)


def _progress_status(status: RunStatus, progress: Progress, stage: Stage, now: datetime) -> ProgressStatus:
    share = _SHARE[stage] * min(100.0, max(0.0, progress.percent)) / 100
    percent = min(99, int(_done_percent(status) + share))
    return ProgressStatus(
        percent=percent,
        display=f"{percent}%",
        stage=stage,
        step=_int32(progress.step),
        total_steps=_int32(progress.total_steps),
        loss=_decimal(progress.loss, 3),
        ap50=_decimal(progress.ap50, 2),
        eta_seconds=_int32(progress.eta_seconds),
        updated_time=rfc3339(now),
    )


def _done_percent(status: RunStatus) -> int:
    return sum(_SHARE[item.name] for item in status.stages if item.phase in DONE)


def _int32(value: float | None) -> int | None:
    """A count as the API's schema takes it; a stage's pod wrote the line in its log, so any number may stand there."""
    return None if value is None else int(max(0.0, min(2.0**31 - 1, value)))


def _decimal(value: float | None, digits: int) -> str | None:
    """A decimal of the API; None for NaN and for huge numbers, as of a loss that diverges."""
    return f"{value:.{digits}f}" if value is not None and abs(value) < 10**9 else None


def _with_message(status: RunStatus, progress: ProgressStatus) -> RunStatus:
    message = _describe(progress)
    return replace(status, progress=progress, message=bounded(message) if message else status.message)


def _describe(progress: ProgressStatus) -> str:
    """`step 450/1000, loss 0.61, AP50 0.71, about 3 min left`."""
    parts = []
    if progress.step is not None:
        total = f"/{progress.total_steps}" if progress.total_steps else ""
        parts.append(f"step {progress.step}{total}")
    parts += [f"loss {progress.loss}"] if progress.loss else []
    parts += [f"AP50 {progress.ap50}"] if progress.ap50 else []
    parts += [f"about {duration(progress.eta_seconds)} left"] if progress.eta_seconds is not None else []
    return ", ".join(parts)


def with_idle_progress(status: RunStatus) -> RunStatus:
    """`status` of a run in which no stage is running: the share of what is done."""
    percent = _done_percent(status)
    if status.progress and status.progress.percent == percent and status.progress.stage is None:
        return status
    return replace(status, progress=ProgressStatus(percent, f"{percent}%"))


def with_done_share(status: RunStatus) -> RunStatus:
    """`status` whose percentage is at least the share of what is done: the last word of a stage that has ended may be
    older than its end, and the next stage's pod is not read yet."""
    percent = _done_percent(status)
    if status.progress is None or status.progress.percent >= percent:
        return status
    return replace(status, progress=ProgressStatus(percent, f"{percent}%"))


def with_pod_seconds(
    before: RunStatus | None, after: RunStatus, jobs: Iterable[JobView], pods: tuple[PodView, ...], now: datetime
) -> RunStatus:
    """`after` with the seconds of the attempts that are over by `after` and were not by `before`."""
    for job in jobs:
        stage = after.stage_of(job.stage, job.target)
        old = before.stage_of(job.stage, job.target) if before else None
        if _is_over(stage, job) and not (old is not None and _is_over(old, job)):
            after = _with_seconds(after, job, _pod_seconds(job, pods, now))
    return after


def _with_seconds(status: RunStatus, job: JobView, seconds: int) -> RunStatus:
    """`status` with more seconds of the Job's stage, and of its compile target where the Job is for one."""
    whole = status.stage(job.stage)
    status = status.with_stage(replace(whole, pod_seconds=whole.pod_seconds + seconds))
    entries = tuple(
        _with_target_seconds(item, seconds) if item.target == job.target else item for item in status.compile
    )
    return replace(status, compile=entries) if job.target else status


def _with_target_seconds(entry: CompileStatus, seconds: int) -> CompileStatus:
    stage = entry.stage
    return replace(entry, stage=replace(stage, pod_seconds=stage.pod_seconds + seconds)) if stage else entry


def _is_over(stage: StageStatus, job: JobView) -> bool:
    if stage.phase in DONE or stage.phase is StagePhase.FAILED or job.attempt < stage.attempts:
        return True
    waits = stage.phase is StagePhase.PENDING and stage.job_ref is not None
    return waits and job.attempt == stage.attempts


def _pod_seconds(job: JobView, pods: Iterable[PodView], now: datetime) -> int:
    own = (pod for pod in pods_of(job, pods) if pod.started)
    return int(sum(seconds_between(pod.started, pod.finished or job.finished or now) for pod in own if pod.started))


def usage(run: RunView, status: RunStatus) -> Usage:
    """The seconds of all pods; the same times the CPUs that they requested, and times the GPUs that training had."""
    cpus = run.profile.cpus if run.profile else {}
    cpu = sum(cpus.get(item.name, 0.0) * item.pod_seconds for item in status.stages)
    on_gpu = status.resolved is not None and status.resolved.accelerator == "gpu"
    gpu = status.stage(Stage.TRAIN).pod_seconds * run.gpus if on_gpu else 0
    return Usage(sum(item.pod_seconds for item in status.stages), int(cpu), gpu)
