"""What follows in the current stage of a run that may work: an attempt begins, continues, is retried or fails. Pure."""

from datetime import datetime, timedelta

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import CompilePolicy, Stage
from atoll_operator.api.status import (
    DONE,
    PHASE_OF_STAGE,
    LastFailure,
    ReleaseStatus,
    RunStatus,
    StagePhase,
    StageStatus,
    parse_time,
    seconds_between,
    short,
)
from atoll_operator.api.summaries import with_metrics
from atoll_operator.lifecycle.model import AttemptNumber, JobView, PodView, RunView, StageAttempt
from atoll_operator.lifecycle.plan import Reservation
from atoll_operator.lifecycle.progress import with_checkpoint, with_progress
from atoll_operator.lifecycle.results import AttemptOutcome, evaluate
from atoll_operator.lifecycle.running import check_running
from atoll_operator.lifecycle.targets import of_target, skip_compile, with_target
from atoll_operator.lifecycle.transition import (
    Transition,
    active_seconds,
    current_stage,
    deletions,
    end,
    fail,
    newest_attempt,
    retry_delay,
    unfinished,
    with_job,
)

# Attempts whose end does not count against backoffLimit (a lost result, a version that was taken) end here too.
MAX_ATTEMPTS = 100
LEFTOVER_REQUEUE_SECONDS = 2
# The stages of one Job are containers of its pod, which the kubelet runs one after the other: nothing has to be
# decided, written or scheduled between them. Conversion has a Job of its own, so that a GPU does not wait for it.
_TOGETHER = ((Stage.CONVERT,), (Stage.TRAIN, Stage.EXPORT), (Stage.COMPILE, Stage.PUBLISH))
_STORAGE = frozenset({Reason.STORAGE_UNAVAILABLE, Reason.STORAGE_THROTTLED})


def advance(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> Transition:
    """The next transition of the current stage."""
    stage = current_stage(status)
    assert stage is not None
    if stage.name is Stage.COMPILE and run.has_several_targets:
        return _advance_targets(run, status, jobs, pods, now)
    job = newest_attempt(stage, jobs)
    if job is None:
        return _without_job(run, status, stage, jobs, now)
    stage = with_job(stage, job)
    if job.is_finished:
        # A success was recorded before: this one failed, or its result is refused. Then a later stage may be at work.
        closed = _close_attempt(run, status, stage, evaluate(run, status, job, pods), now, following=job.is_following)
        return replace(closed, delete=deletions(unfinished(jobs)))
    check = check_running(run, stage, job, pods, now)
    if check.outcome is not None:
        return replace(_close_attempt(run, status, check.stage, check.outcome, now), delete=deletions([job]))
    moved_on = with_checkpoint(check.stage, check.progress.checkpoint_step if check.progress else None)
    live = with_progress(_with_current(status, moved_on), check.progress, now)
    return Transition(live, delete=deletions(unfinished(jobs, but=job)), requeue_after=check.requeue_after)


def _advance_targets(
    run: RunView, status: RunStatus, jobs: tuple[JobView, ...], pods: tuple[PodView, ...], now: datetime
) -> Transition:
    """The next transitions of all compile targets at once. The first that the run cannot do without, and that fails,
    ends it."""
    if leftovers := unfinished(job for job in jobs if job.target is None):
        return _waiting(status, status.stage(Stage.COMPILE), leftovers)
    steps: list[Transition] = []
    progress = None
    for choice in run.compile:
        own_run, own_status, own_jobs = of_target(run, status, choice, jobs)
        if own_status.stage(Stage.COMPILE).phase in DONE:
            continue
        step = advance(own_run, own_status, own_jobs, pods, now)
        status = with_target(status, step.status)
        if step.status.is_terminal:
            text = f"{choice.target}: {step.status.message}"
            over = end(status, step.status.phase, reason=step.status.reason, message=text, now=now)
            return Transition(over, delete=deletions(unfinished(jobs)))
        steps.append(step)
        progress = progress or step.status.progress
    whole = status.stage(Stage.COMPILE)
    if whole.phase not in DONE:
        status = replace(_with_current(status, whole), progress=progress)
    return Transition(
        status,
        create=tuple(request for step in steps for request in step.create),
        delete=tuple(dict.fromkeys(job for step in steps for job in step.delete)),
        requeue_after=min((step.requeue_after for step in steps if step.requeue_after is not None), default=0),
    )


def _waiting(status: RunStatus, stage: StageStatus, leftovers: tuple[JobView, ...]) -> Transition:
    waiting = _with_current(status, replace(stage, message=f"waiting for the end of Job {leftovers[0].name}"))
    return Transition(waiting, delete=deletions(leftovers), requeue_after=LEFTOVER_REQUEUE_SECONDS)


def _without_job(
    run: RunView, status: RunStatus, stage: StageStatus, jobs: tuple[JobView, ...], now: datetime
) -> Transition:
    if stage.phase is StagePhase.RUNNING:
        name = stage.job_ref.name if stage.job_ref else "of the stage"
        text = f"Job {name} was deleted by somebody else"
        outcome = AttemptOutcome(Reason.JOB_DELETED_EXTERNALLY, text, retry=True)
        return _close_attempt(run, status, stage, outcome, now)
    if leftovers := unfinished(jobs):
        return _waiting(status, stage, leftovers)
    if stage.next_retry_time and parse_time(stage.next_retry_time) > now:
        wait = (parse_time(stage.next_retry_time) - now).total_seconds()
        return Transition(_with_current(status, stage), requeue_after=wait)
    if Stage.PUBLISH in _stages_of_next_job(run, stage.name):
        return _publish(run, status, stage, now)
    return _begin_attempt(run, status, stage, now)


def _stages_of_next_job(run: RunView, stage: Stage) -> tuple[Stage, ...]:
    """The stages of the Job that begins with `stage`: those that share a Job with it and are not over before it."""
    if run.target is not None:
        return (stage,)
    together = next(stages for stages in _TOGETHER if stage in stages)
    stages = together[together.index(stage) :]
    if stage is Stage.TRAIN and run.workers > 1:
        # The pods of all workers are alike. Export in a Job of its own leaves their nodes as soon as training is over.
        return (stage,)
    if run.profile is not None and run.profile.has_publish_service_account:
        # A pod has one service account, and publish's is for publish alone.
        return stages if stage is Stage.PUBLISH else tuple(item for item in stages if item is not Stage.PUBLISH)
    return stages


def _publish(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> Transition:
    """Begins an attempt, of publish or of a stage that publish follows, once the run has a version that is high enough;
    reserves one otherwise."""
    # After a VersionConflict `status.release` names the next free version, which is not reserved yet.
    wanted = status.release.version if status.release else 1
    if run.release is not None and run.release.version >= wanted:
        reserved = replace(status, release=ReleaseStatus(run.release.name, run.release.version))
        return _begin_attempt(run, reserved, stage, now)
    version = max(run.highest_version + 1, wanted)
    model = next((item for item in status.stage(Stage.EXPORT).outputs if item.name == "model"), None)
    digest = f"sha256:{model.sha256}" if model else ""
    reservation = Reservation(f"{run.model}-v{version}", run.model, version, run.channel, digest)
    waiting = _with_current(status, replace(stage, message=f"reserving {reservation.name}"))
    return Transition(waiting, reserve=reservation, requeue_after=0)


def _begin_attempt(run: RunView, status: RunStatus, stage: StageStatus, now: datetime) -> Transition:
    is_announced = stage.attempts > 0 and stage.job_ref is None
    attempt = stage.attempts if is_announced else stage.attempts + 1
    if attempt > MAX_ATTEMPTS:
        text = f"{stage.message} ({MAX_ATTEMPTS} attempts)"
        return Transition(fail(status, stage, reason=stage.reason, message=text, now=now))
    begun = replace(
        stage,
        phase=StagePhase.PENDING,
        reason=Reason.PENDING,
        message=f"attempt {attempt} starts",
        attempts=attempt,
        job_ref=None,
        next_retry_time=None,
        completion_time=None,
    )
    following = _stages_of_next_job(run, stage.name)[1:]
    publishes = Stage.PUBLISH in (stage.name, *following)
    request = StageAttempt(
        stage=stage.name,
        attempt=attempt,
        upstream={item.name: item.outputs for item in status.stages if item.outputs},
        active_deadline_seconds=_deadline_guard(run, status, now),
        accelerator=status.resolved.accelerator if status.resolved else "auto",
        version=status.release.version if publishes and status.release else None,
        adopt_from=stage.adopt_from,
        following=tuple(_next_attempt(status.stage(name)) for name in following),
        target=run.target,
    )
    return Transition(_with_current(status, begun), create=(request,), requeue_after=0)


def _next_attempt(stage: StageStatus) -> AttemptNumber:
    return AttemptNumber(stage.name, stage.attempts + 1, stage.adopt_from)


def _deadline_guard(run: RunView, status: RunStatus, now: datetime) -> int:
    """The Job's own deadline in seconds: what the run has left, and the time that a pod may take to start, so that
    `decide` ends the run before Kubernetes ends the Job."""
    left = max(0.0, run.active_limit - active_seconds(status, now))
    return int(left) + (run.profile.pending_seconds if run.profile else 0) + 60


def _with_current(status: RunStatus, stage: StageStatus) -> RunStatus:
    """`status` with `stage` in it, and the run's phase, reason and message taken from it."""
    phase = PHASE_OF_STAGE[stage.name]
    changed = status.with_stage(stage)
    return replace(changed, phase=phase, reason=stage.reason, message=bounded(stage.message), queue=None)


def _close_attempt(
    run: RunView,
    status: RunStatus,
    stage: StageStatus,
    outcome: AttemptOutcome,
    now: datetime,
    *,
    following: bool = False,
) -> Transition:
    """The transition after an attempt that did not succeed: another one later, or the end of the stage. `following`:
    its input came from an earlier stage of the same pod."""
    if following and outcome.reason is Reason.INVALID_SPEC:
        # An image of an earlier version knows of no results within the pod; by itself the stage is given them all.
        outcome = replace(outcome, retry=True, counts=False)
    failed = _with_failure(run, stage, outcome, now)
    status = _with_next_version(run, status, stage, outcome)
    renumbered = status.release is not None and status.release.version == _free_version(outcome)
    may_retry = outcome.retry or (outcome.reason is Reason.VERSION_CONFLICT and renumbered)
    if may_retry and failed.attempts < MAX_ATTEMPTS and failed.failures <= run.backoff_limit:
        return _schedule_retry(run, status, failed, outcome, now)
    if stage.name is Stage.COMPILE and all(choice.policy is not CompilePolicy.REQUIRED for choice in run.compile):
        text = f"not compiled: {outcome.message}"
        skipped = skip_compile(run, status, failed, reason=outcome.reason, message=text, now=now)
        return Transition(skipped, requeue_after=0)
    if outcome.outputs:
        failed, status = replace(failed, outputs=outcome.outputs), with_metrics(status, outcome.summary)
    text = outcome.message
    if outcome.retry and run.backoff_limit > 0:
        since = "" if failed.checkpoint_step is None else f" since the checkpoint of step {failed.checkpoint_step}"
        text += f" (attempt {failed.attempts}; runPolicy.backoffLimit {run.backoff_limit} is used up{since})"
    return Transition(fail(status, failed, reason=outcome.reason, message=text, now=now))


def _with_failure(run: RunView, stage: StageStatus, outcome: AttemptOutcome, now: datetime) -> StageStatus:
    """`stage` with this failure recorded and counted, from 1 where the attempt got past the newest checkpoint. While a
    store does not answer, the failures do not count, but the time since the first of them does."""
    last = LastFailure(outcome.reason, short(outcome.message), rfc3339(now), outcome.exit_code)
    stage = with_checkpoint(replace(stage, last_failure=last, pending_since=None), outcome.checkpoint_step)
    if outcome.reason not in _STORAGE or run.backoff_limit == 0:
        failures = stage.failures + 1 if outcome.counts else stage.failures
        return replace(stage, storage_failing_since=None, failures=failures)
    since = stage.storage_failing_since or rfc3339(now)
    if seconds_between(since, now) < run.retries.storage_window:
        return replace(stage, storage_failing_since=since)
    return replace(stage, storage_failing_since=since, failures=run.backoff_limit + 1)


def _with_next_version(run: RunView, status: RunStatus, stage: StageStatus, outcome: AttemptOutcome) -> RunStatus:
    """After a VersionConflict, `status.release` has the version to reserve next until the run owns it."""
    free = _free_version(outcome)
    if stage.name is not Stage.PUBLISH or outcome.reason is not Reason.VERSION_CONFLICT or free is None:
        return status
    taken = status.release.version if status.release else 0
    if free <= taken:
        return status
    return replace(status, release=ReleaseStatus(f"{run.model}-v{free}", free))


def _free_version(outcome: AttemptOutcome) -> int | None:
    """The version that a publish stage found free when its own was taken."""
    value = outcome.summary.get("nextVersion")
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else None


def _schedule_retry(
    run: RunView, status: RunStatus, stage: StageStatus, outcome: AttemptOutcome, now: datetime
) -> Transition:
    failures = stage.failures if outcome.counts else 1
    delay = retry_delay(run.retries, stage.attempts if stage.storage_failing_since else failures)
    at = now + timedelta(seconds=delay)
    text = f"{outcome.message}; attempt {stage.attempts + 1} follows at {at:%H:%M:%S} UTC"
    if stage.checkpoint_step is not None:
        text += f" and goes on from step {stage.checkpoint_step}"
    waiting = replace(
        stage,
        phase=StagePhase.PENDING,
        reason=outcome.reason,
        message=bounded(text, 400) if len(text) <= 400 else short(outcome.message),
        next_retry_time=rfc3339(at),
    )
    return Transition(_with_current(status, waiting), requeue_after=delay)
