"""A run's Jobs and their pods in the form that `decide` takes, from their records and what the processes left."""

from collections.abc import Iterator
from pathlib import Path

from atoll_cli.local.process import read_message
from atoll_cli.local.state import JobRecord, RunFolder, utc
from atoll_cli.local.workers import OtherWorkers
from atoll_contract.document import DecodeError, replace
from atoll_contract.errors import ExitCode, Reason, exit_code
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Progress, parse_result
from atoll_operator.lifecycle.model import AttemptNumber, JobState, JobView, PodPhase, PodView

# Kubernetes takes this much of the log where a pod has left no termination message.
_LOG_TAIL_BYTES = 2048


def job_view(job: JobRecord, *, run_uid: str) -> JobView:
    state = JobState.ACTIVE
    if job.finished is not None:
        done = job.exit_code == ExitCode.OK and job.at_work == job.numbers[-1] and not job.timed_out
        state = JobState.SUCCEEDED if done else JobState.FAILED
    return JobView(
        name=job.name,
        uid=job.uid,
        owner_uid=run_uid,
        stage=Stage(job.stage),
        attempt=job.attempt,
        state=state,
        created=utc(job.created),
        finished=utc(job.finished) if job.finished is not None else None,
        failure_reason="DeadlineExceeded" if job.timed_out else "",
        failure_message=f"it ran for more than {job.deadline_seconds} s" if job.timed_out else "",
        following=job.numbers[1:],
        target=job.target,
    )


def pod_views(
    folder: RunFolder, job: JobRecord, *, progress: Progress | None, others: OtherWorkers | None
) -> Iterator[PodView]:
    """The Job's pod as each of the stages sees it that have begun, and those of the `others`. `progress` is that of the
    stage at work."""
    base = PodView(job.name, job.uid, job.name, PodPhase.RUNNING, utc(job.created), index=0 if others else None)
    for number, ended in zip(job.numbers, job.ended, strict=False):
        yield _ended(folder, base, number, (ended.began, ended.finished), int(ExitCode.OK))
    stage = job.at_work.stage
    if job.finished is not None:
        view = _ended(folder, base, job.at_work, (job.began, job.finished), job.exit_code)
        yield replace(view, progress=progress)
    else:
        yield replace(base, stage=stage, started=utc(job.began), progress=progress)
    if others:
        yield from others.pods(replace(base, stage=stage))


def reported_exit_code(folder: RunFolder, job: JobRecord) -> int | None:
    """The exit code that follows from the termination message, for a process whose parent is gone."""
    try:
        reason = parse_result(_termination_message(folder, job.name, job.at_work.stage)).reason
    except DecodeError:
        return None
    return None if reason is Reason.SUSPENDED else int(exit_code(reason))


def log_path(folder: RunFolder, job: str, number: AttemptNumber) -> Path:
    """The file with what an attempt of the Job's stages writes."""
    return folder.job(job) / f"{number.stage}-{number.attempt}.log"


def _ended(
    folder: RunFolder, view: PodView, number: AttemptNumber, times: tuple[float, float], code: int | None
) -> PodView:
    """The pod as a stage sees it that began and finished at these `times`."""
    message = _termination_message(folder, view.job, number.stage) or _log_tail(log_path(folder, view.job, number))
    return replace(
        view,
        stage=number.stage,
        phase=PodPhase.SUCCEEDED if code == ExitCode.OK else PodPhase.FAILED,
        started=utc(times[0]),
        finished=utc(times[1]),
        exit_code=code,
        termination_message=message,
    )


def _termination_message(folder: RunFolder, job: str, stage: Stage) -> str:
    return read_message(folder.job(job) / f"{stage}.json")


def _log_tail(path: Path) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
