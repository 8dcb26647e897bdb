"""The whole life of a run as one pure function: `decide(run, jobs, pods, now) -> Plan`.

No clock, no input or output, no memory: what is, and what shall be done next. Both engines, the operator on a
cluster and the embedded one on a laptop, call it again after every change and carry its plans out (`plan.py`).

The stages are convert → train → export → compile → publish. A stage begins only after the success of the one before
is recorded in the status; a recorded success is trusted over the absence of its Job. Terminal phases are absorbing
but for one thing: a new value of the annotation atoll.dev/retry on a failed run.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import CompileStatus, Phase, RunStatus, StageStatus, parse_time, rfc3339
from atoll_operator.lifecycle.admission import accepted, held_back
from atoll_operator.lifecycle.conditions import events
from atoll_operator.lifecycle.model import JobState, JobToDelete, JobView, Plan, PodView, ReleaseReport, RunView
from atoll_operator.lifecycle.progress import at_rest, counted, usage
from atoll_operator.lifecycle.results import judge
from atoll_operator.lifecycle.retry import retried
from atoll_operator.lifecycle.running import seen, without_sidecars
from atoll_operator.lifecycle.stages import (
    active_limit,
    advance,
    newest_attempt,
    open_attempts,
    record_success,
    unpublished,
)
from atoll_operator.lifecycle.step import (
    Step,
    active_seconds,
    current_stage,
    deletions,
    end,
    fail,
    hindered,
    skip,
    unfinished,
)
from atoll_operator.lifecycle.summaries import without_compile


def decide(run: RunView, jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime) -> Plan:
    """What follows from the run, its Jobs and their pods at this moment.

    `jobs` are all Jobs that exist for the run; a Job that the engine could not create (admission) is given as a
    REJECTED view. `pods` hold at least the pods of every finished Job whose end is not yet in the status.
    """
    found, pods, outlived = without_sidecars(jobs, pods, now)
    jobs = tuple(job for job in found if job.owner_uid == run.uid)
    status = retried(run, _opened(run, now))
    if status.is_terminal:
        return _after_end(run, status, jobs, now)
    if run.status is not None and run.status.is_terminal:
        # Reopened by a retry: the engine comes again with the profile as it is now, which is what may have been mended.
        return _plan(run, Step(status, delete=deletions(unfinished(jobs)), requeue_after=0), now)
    status, report = _collect(run, status, jobs, pods, now)
    status = _noticed(status, jobs)
    step = _conflict(run, status, found, now) or _step(run, status, jobs, pods, now)
    spent = counted(run.status, step.status, jobs, pods, now)
    # Their end is on record before they go; whatever kept their pods goes with them.
    gone = tuple(item for item in deletions(outlived) if item not in step.delete)
    step = replace(step, status=spent, release_status=report or step.release_status, delete=step.delete + gone)
    return _plan(run, step, now)


def _noticed(status: RunStatus, jobs: tuple[JobView, ...]) -> RunStatus:
    """`status` with the Job of the open attempt in it, whatever comes next: a Job that a suspension is about to
    delete must not look like one that was never created."""
    stage = current_stage(status)
    if stage is None:
        return status
    job = newest_attempt(stage, jobs)
    return status.with_stage(seen(stage, job)) if job else status


def _conflict(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Step | None:
    """The end of a run whose next Job's name is taken by somebody else; that Job is left alone."""
    stage = current_stage(status)
    foreign = next((job for job in jobs if job.owner_uid != run.uid), None)
    if stage is None or foreign is None or foreign.stage is not stage.name:
        return None
    text = f"Job {foreign.name} exists and belongs to another object; delete it, then retry the run"
    return Step(fail(status, stage, reason=Reason.JOB_NAME_CONFLICT, message=text, now=now))


def _opened(run: RunView, now: datetime) -> RunStatus:
    """The status so far, or that of a run nobody has looked at yet."""
    status = run.status or RunStatus(
        start_time=rfc3339(now),
        message="the run was accepted",
        reason=Reason.ACCEPTED,
        compile=tuple(CompileStatus(choice.target) for choice in run.compile),
        last_handled_retry=run.retry,
    )
    known = {item.name: item for item in status.stages}
    if len(known) < len(Stage) or len(status.stages) != len(Stage):
        status = replace(status, stages=tuple(known.get(name) or StageStatus(name) for name in Stage))
    if status.estimate is None and run.estimate is not None and not status.is_terminal:
        status = replace(status, estimate=run.estimate)
    return replace(status, observed_generation=run.generation)


def _collect(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> tuple[RunStatus, ReleaseReport | None]:
    """Records every success that is there to be seen, and leaves out what shall not run."""
    report = None
    while (stage := current_stage(status)) is not None:
        if stage.name is Stage.COMPILE and (skipped := _skip_compile(run, status, stage, now)) is not None:
            status = skipped
            continue
        recorded = _success(run, status, stage, jobs, pods, now)
        if recorded is None:
            break
        status, report = recorded
    return status, report


def _success(
    run: RunView,
    status: RunStatus,
    stage: StageStatus,
    jobs: tuple[JobView, ...],
    pods: tuple[PodView, ...],
    now: datetime,
) -> tuple[RunStatus, ReleaseReport | None] | None:
    for job in open_attempts(stage, jobs):
        if job.state is not JobState.SUCCEEDED:
            continue
        verdict = judge(run, job, pods)
        if verdict.succeeded and not (stage.name is Stage.PUBLISH and unpublished(run, status, verdict)):
            return record_success(run, status, job, verdict, now)
    return None


def _skip_compile(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> RunStatus | None:
    policies = {choice.policy for choice in run.compile}
    if policies <= {CompilePolicy.DISABLED}:
        skipped = skip(status, stage, reason=Reason.COMPLETED, message="compile is Disabled", now=now)
        return without_compile(run, skipped, Reason.COMPLETED)
    if CompilePolicy.REQUIRED in policies or run.profile is None or run.profile.has_compiler or stage.attempts > 0:
        return None
    text = "no Edge TPU compiler is available (the profile names no compile image; locally: edgetpu_compiler)"
    skipped = skip(status, stage, reason=Reason.COMPILER_UNAVAILABLE, message=text, now=now)
    return without_compile(run, skipped, Reason.COMPILER_UNAVAILABLE)


def _step(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime) -> Step:
    if current_stage(status) is None:
        text = f"published as {status.release.name}" if status.release else "completed"
        done = end(status, Phase.SUCCEEDED, reason=Reason.COMPLETED, message=text, now=now)
        return Step(done, delete=deletions(unfinished(jobs)))
    held = held_back(run, status, jobs, now)
    if held is not None:
        return held
    return advance(run, accepted(run, status, now), jobs, pods, now)


def _plan(run: RunView, step: Step, now: datetime) -> Plan:
    status = at_rest(step.status) if not step.status.active_since else step.status
    if status.is_terminal:
        status = replace(status, usage=usage(run, status))
    status = hindered(run, status, now)
    old_resolved = run.status.resolved if run.status else None
    return Plan(
        status=status,
        pin_profile=status.resolved is not None and old_resolved is None,
        release_status=step.release_status,
        reserve=step.reserve,
        create=step.create,
        delete=step.delete,
        events=events(run.status, status),
        requeue_after=_look_again(run, status, step, now),
    )


def _look_again(run: RunView, status: RunStatus, step: Step, now: datetime) -> float | None:
    if status.is_terminal:
        return _after_end(run, status, (), now).requeue_after
    waits = [] if step.requeue_after is None else [step.requeue_after]
    if status.active_since:
        waits.append(max(0.0, active_limit(run) - active_seconds(status, now)))
    return min(waits, default=None)


def _after_end(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Plan:
    """A run that is over: nothing but its time to live, and Jobs that should have ended with it."""
    assert status.is_terminal
    ended = parse_time(status.completion_time) if status.completion_time else now
    due = [(ended + timedelta(seconds=ttl)) for ttl in (run.job_ttl_seconds, run.ttl_seconds) if ttl is not None]
    keep_jobs = run.job_ttl_seconds is None or now < ended + timedelta(seconds=run.job_ttl_seconds)
    delete: tuple[JobToDelete, ...] = deletions(unfinished(jobs) if keep_jobs else jobs)
    delete_run = run.ttl_seconds is not None and now >= ended + timedelta(seconds=run.ttl_seconds)
    waits = [(moment - now).total_seconds() for moment in due if moment > now]
    return Plan(status=status, delete=delete, delete_run=delete_run, requeue_after=min(waits, default=None))
