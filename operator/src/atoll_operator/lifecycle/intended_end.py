"""The end of a run whose version may be published already: it is found out before the end is final. Pure.

Cancelled or out of time while its pod may publish, a run cannot know whether the stage has put the manifest. Its Job is
deleted, and when the pod is gone another attempt looks: where the manifest is there it completes the publication, and
the run has succeeded; otherwise the run ends as it was to. So it is with a publish stage that fails by itself, which
may have put the manifest before; what fails for good there ends the run at once.
"""

from datetime import datetime, timedelta

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.status import (
    DONE,
    IntendedEnd,
    Phase,
    RunStatus,
    StagePhase,
    StageStatus,
    parse_time,
    seconds_between,
)
from atoll_operator.lifecycle.admission import with_unseen_publish
from atoll_operator.lifecycle.model import JobView, PodView, RunView, StageAttempt
from atoll_operator.lifecycle.results import evaluate
from atoll_operator.lifecycle.running import check_running
from atoll_operator.lifecycle.transition import (
    Transition,
    current_stage,
    deletions,
    end,
    fail,
    newest_attempt,
    retry_delay,
    skip,
    unfinished,
    with_job,
)

# After this long the run ends, and says that it is not known.
FIND_OUT_SECONDS = 3600
# The same where the publish stage has failed by itself: what it failed of may well last.
AFTER_FAILURE_SECONDS = 600
_REQUEUE_SECONDS = 2
_REASONS = frozenset({Reason.CANCELLED, Reason.DEADLINE_EXCEEDED})
# Ends of an attempt whose container has run, though its exit code is not known.
_RAN = frozenset(
    {
        Reason.EVICTED,
        Reason.EPHEMERAL_STORAGE_EXCEEDED,
        Reason.JOB_DELETED_EXTERNALLY,
        Reason.NODE_LOST,
        Reason.RESULT_MISSING,
        Reason.TOO_MANY_DISRUPTIONS,
    }
)


def delay_end(status: RunStatus, transition: Transition, jobs: tuple[JobView, ...], now: datetime) -> Transition | None:
    """What comes before the end that `transition` is, where the run of `status` may have published; None elsewhere."""
    over = transition.status
    if _failed_after_work(over):
        return _delay_failure(status, transition, now)
    stage = with_unseen_publish(status, jobs).stage(Stage.PUBLISH)
    current = current_stage(status)
    # An attempt without a Job may have begun unseen.
    may_run = stage.job_ref is None or (current is not None and current.name is Stage.PUBLISH)
    attempts = stage.attempts if may_run else 0
    began = attempts > 0 and stage.phase not in DONE and status.release is not None
    if not began or over.phase not in (Phase.CANCELLED, Phase.FAILED) or over.reason not in _REASONS:
        return None
    intended = IntendedEnd(over.phase, over.reason, over.message, since=rfc3339(now), attempt=attempts + 1)
    closed = replace(stage, phase=StagePhase.PENDING, attempts=attempts, next_retry_time=None)
    compiling = status.stage(Stage.COMPILE)
    if compiling.phase not in DONE:
        text = "the run was to end before its result was read"
        status = skip(status, compiling, reason=over.reason, message=text, now=now)
    delayed = _with_stage(replace(status, intended_end=intended), closed)
    return Transition(delayed, delete=transition.delete, requeue_after=0)


def _failed_after_work(over: RunStatus) -> bool:
    """Whether the run fails with an attempt of publish that may have published. A result that was refused is none, and
    a version that another run has is not published by this one."""
    stage, failure = over.stage(Stage.PUBLISH), over.stage(Stage.PUBLISH).last_failure
    if stage.phase is not StagePhase.FAILED or failure is None or failure.reason is not over.reason:
        return False
    is_known = failure.reason is Reason.VERSION_CONFLICT or (
        failure.exit_code == 0 and failure.reason is Reason.INTEGRITY_MISMATCH
    )
    return over.release is not None and not is_known and (failure.exit_code is not None or failure.reason in _RAN)


def _delay_failure(status: RunStatus, transition: Transition, now: datetime) -> Transition:
    over, stage = transition.status, transition.status.stage(Stage.PUBLISH)
    intended = IntendedEnd(over.phase, over.reason, over.message, since=rfc3339(now), attempt=stage.attempts + 1)
    closed = replace(stage, phase=StagePhase.PENDING, completion_time=None)
    delayed = _with_stage(replace(status, intended_end=intended, release=over.release), closed)
    return Transition(delayed, delete=transition.delete, requeue_after=0)


def find_out(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> Transition:
    """The next transition of a run that has an `intended_end`."""
    intended, stage = status.intended_end, status.stage(Stage.PUBLISH)
    assert intended is not None
    limit = FIND_OUT_SECONDS if intended.reason in _REASONS else AFTER_FAILURE_SECONDS
    if run.invalid or run.missing or run.profile is None or seconds_between(intended.since, now) >= limit:
        return _over(status, jobs, "whether it was published could not be found out", now)
    job = newest_attempt(stage, jobs)
    if job is None or job.attempt < intended.attempt:
        if leftovers := unfinished(jobs):
            return Transition(_with_stage(status, stage), delete=deletions(leftovers), requeue_after=_REQUEUE_SECONDS)
        if stage.next_retry_time and parse_time(stage.next_retry_time) > now:
            wait = (parse_time(stage.next_retry_time) - now).total_seconds()
            return Transition(_with_stage(status, stage), requeue_after=wait)
        return _begin(run, status, stage, intended)
    stage = with_job(stage, job)
    if job.is_finished:
        outcome = evaluate(run, status, job, pods)
        if outcome.reason is Reason.CANCELLED:
            return _over(status.with_stage(stage), jobs, "it was not published", now)
        if intended.reason not in _REASONS and not outcome.retry:
            found = f"whether it was published could not be found out: {outcome.message}"
            return _over(status.with_stage(stage), jobs, bounded(found, 300), now)
        return Transition(_later(run, status, stage, now), requeue_after=0)
    check = check_running(run, stage, job, pods, now)
    if check.outcome is not None:
        return Transition(_later(run, status, stage, now), delete=deletions([job]), requeue_after=0)
    return Transition(_with_stage(status, check.stage), requeue_after=check.requeue_after)


def _begin(run: RunView, status: RunStatus, stage: StageStatus, intended: IntendedEnd) -> Transition:
    is_announced = stage.attempts >= intended.attempt and stage.job_ref is None
    attempt = stage.attempts if is_announced else stage.attempts + 1
    begun = replace(stage, attempts=attempt, job_ref=None, next_retry_time=None, completion_time=None)
    request = StageAttempt(
        stage=Stage.PUBLISH,
        attempt=attempt,
        upstream={item.name: item.outputs for item in status.stages if item.outputs},
        active_deadline_seconds=FIND_OUT_SECONDS + run.pending_limit,
        version=status.release.version if status.release else None,
        adopt_only=True,
        adopt_from=stage.adopt_from,
    )
    return Transition(_with_stage(status, begun), create=(request,), requeue_after=0)


def _later(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> RunStatus:
    """`status` in which another attempt follows."""
    assert status.intended_end is not None
    at = now + timedelta(seconds=retry_delay(run.retries, stage.attempts - status.intended_end.attempt + 1))
    return _with_stage(status, replace(stage, phase=StagePhase.PENDING, next_retry_time=rfc3339(at)))


def _with_stage(status: RunStatus, stage: StageStatus) -> RunStatus:
    """`status` with the publish stage in it, and a message that says what the run waits for."""
    assert status.intended_end is not None
    text = f"{status.intended_end.message}; finding out whether {_release(status)} is published already"
    changed = status.with_stage(replace(stage, message=bounded(text, 400)))
    return replace(changed, phase=Phase.PUBLISHING, reason=Reason.RUNNING, message=bounded(text), queue=None)


def _over(status: RunStatus, jobs: tuple[JobView, ...], found: str, now: datetime) -> Transition:
    """The end that was to come, with what was found out."""
    intended = status.intended_end
    assert intended is not None
    text = f"{intended.message} ({_release(status)}: {found})"
    failed = fail(status, status.stage(Stage.PUBLISH), reason=intended.reason, message=text, now=now)
    over = end(failed, intended.phase, reason=intended.reason, message=text, now=now)
    return Transition(over, delete=deletions(unfinished(jobs)))


def _release(status: RunStatus) -> str:
    return status.release.name if status.release else "the release"
