"""One stage, one attempt after the other: what its Job's state means for the run. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from atoll_contract.reasons import Reason
from atoll_contract.stage import Stage
from atoll_operator.decide.attempt import close_attempt, unpublished
from atoll_operator.decide.progress import with_progress
from atoll_operator.decide.release import reservation, with_reserved_version
from atoll_operator.decide.results import Verdict, judge
from atoll_operator.decide.running import running, seen
from atoll_operator.decide.step import Step, active_seconds, current_stage, deletions, fail, unfinished, working
from atoll_operator.plan import StageAttempt
from atoll_operator.retries import MAX_ATTEMPTS
from atoll_operator.status import RunStatus, StagePhase, StageStatus, parse_time
from atoll_operator.views import DEFAULT_ACTIVE_SECONDS, JobView, PodView, RunView

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
