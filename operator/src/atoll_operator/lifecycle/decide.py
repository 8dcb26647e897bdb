"""The whole life of a run as one pure function: `decide(run, jobs, pods, now) -> Plan`.

It has no clock, no input or output, and no memory: from what exists now follows what shall be done next. The operator
on a cluster and the embedded engine on a laptop call it again after every change and apply its plans (`plan.Plan`).

The stages are convert → train → export → compile → publish. A Job begins only after the success of the stage before it
is recorded in the status; a recorded success is trusted even when its Job is gone. Stages that share a Job follow one
another in its pod without a decision; everything here reads as if each had a Job of its own. Terminal phases are
final, with one exception: a new value of the annotation atoll.dev/retry reopens a failed run.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import CompileStatus, Phase, RunStatus, StageStatus, parse_time, seconds_between
from atoll_operator.lifecycle.admission import accepted, held_back
from atoll_operator.lifecycle.conditions import events, with_conditions
from atoll_operator.lifecycle.intended_end import delay_end, find_out
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView, RunView
from atoll_operator.lifecycle.plan import Plan
from atoll_operator.lifecycle.progress import usage, with_done_share, with_idle_progress, with_pod_seconds
from atoll_operator.lifecycle.results import record_successes
from atoll_operator.lifecycle.running import with_held_clock
from atoll_operator.lifecycle.stages import advance
from atoll_operator.lifecycle.transition import (
    Transition,
    active_seconds,
    current_stage,
    deletions,
    end,
    fail,
    retried,
    stage_views,
    unfinished,
    with_one_worker,
)

# After the end of a stage's container, the seconds in which another container of the pod may end by itself.
SIDECAR_GRACE_SECONDS = 30


def decide(run: RunView, jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime) -> Plan:
    """What follows from the run, its Jobs and their pods at this moment.

    `jobs` are all Jobs that exist for the run; a Job that the engine could not create (admission) is given as a
    REJECTED view. `pods` hold at least the pods of every finished Job whose end is not yet in the status.
    """
    pods, other_shards = _without_other_shards(pods)
    found, pods, kept_alive = _without_sidecars(jobs, pods, now)
    every_pod, pods = (*pods, *other_shards), with_one_worker(run, found, pods) if run.workers > 1 else pods
    own = (job for job in found if job.owner_uid == run.uid)
    jobs = tuple(view for job in own for view in stage_views(job, pods, run.status))
    foreign = tuple(job for job in found if job.owner_uid != run.uid)
    status = retried(run, _known_status(run, now))
    if status.is_terminal:
        return _after_end(run, status, jobs, now)
    if run.status is not None and run.status.is_terminal:
        # Reopened by a retry. The engine calls again with the profile of now, which may be what was corrected.
        transition = Transition(status, delete=deletions(unfinished(jobs)), requeue_after=0)
    else:
        transition = _next_transition(run, status, jobs, foreign, pods, now)
        # The end of these Jobs is recorded before they are deleted, and with them the sidecars that kept them running.
        delete = dict.fromkeys(transition.delete + deletions(kept_alive))
        status = with_pod_seconds(run.status, transition.status, jobs, every_pod, now)
        transition = replace(transition, status=status, delete=tuple(delete))
    return _plan(run, transition, now)


def _without_other_shards(pods: Iterable[PodView]) -> tuple[tuple[PodView, ...], tuple[PodView, ...]]:
    """The pods without those shards of a conversion for which index 0 speaks, and these. It does what they leave
    undone, so that their end decides nothing; only what they have used is counted."""
    pods = tuple(pods)
    others = tuple(pod for pod in pods if pod.stage is Stage.CONVERT and pod.index)
    left = (replace(pod, index=None) if pod.stage is Stage.CONVERT else pod for pod in pods if pod not in others)
    return tuple(left), others


def _without_sidecars(
    jobs: Iterable[JobView], pods: Iterable[PodView], now: datetime
) -> tuple[tuple[JobView, ...], tuple[PodView, ...], tuple[JobView, ...]]:
    """Jobs and pods as they would be without containers that others put into the pod, and the Jobs that this changes.

    A stage's container never starts again (restartPolicy Never), so its end is final. A pod that is being deleted or
    was disrupted is left to the Job controller, which replaces it.
    """
    pods = tuple(_ended(pod) if _is_kept_alive(pod, now) else pod for pod in pods)
    over = {pod.job: pod for pod in pods if pod.kept_by_another and pod.is_finished}
    jobs = tuple(jobs)
    changed = tuple(job for job in jobs if job.name in over and job.state is JobState.ACTIVE and not job.deleting)
    return tuple(_finished(job, over[job.name]) if job in changed else job for job in jobs), pods, changed


def _is_kept_alive(pod: PodView, now: datetime) -> bool:
    if not pod.kept_by_another or pod.deleting or pod.disruption or pod.node_lost or pod.finished is None:
        return False
    return seconds_between(pod.finished, now) >= SIDECAR_GRACE_SECONDS


def _ended(pod: PodView) -> PodView:
    return replace(pod, phase=PodPhase.SUCCEEDED if pod.exit_code == 0 else PodPhase.FAILED)


def _finished(job: JobView, pod: PodView) -> JobView:
    state = JobState.SUCCEEDED if pod.phase is PodPhase.SUCCEEDED else JobState.FAILED
    return replace(job, state=state, finished=pod.finished)


def _known_status(run: RunView, now: datetime) -> RunStatus:
    """The status so far, with every stage in it; that of an accepted run where there is none yet."""
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


def _after_end(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Plan:
    """The plan of a run that is over: its TTLs, and the deletion of Jobs that should have ended with it."""
    ended = parse_time(status.completion_time) if status.completion_time else now
    due = [(ended + timedelta(seconds=ttl)) for ttl in (run.job_ttl_seconds, run.ttl_seconds) if ttl is not None]
    keep_jobs = run.job_ttl_seconds is None or now < ended + timedelta(seconds=run.job_ttl_seconds)
    delete_run = run.ttl_seconds is not None and now >= ended + timedelta(seconds=run.ttl_seconds)
    return Plan(
        status=status,
        delete=deletions(unfinished(jobs) if keep_jobs else jobs),
        delete_run=delete_run,
        requeue_after=min(((moment - now).total_seconds() for moment in due if moment > now), default=None),
    )


def _next_transition(
    run: RunView,
    status: RunStatus,
    jobs: tuple[JobView, ...],
    foreign: tuple[JobView, ...],
    pods: tuple[PodView, ...],
    now: datetime,
) -> Transition:
    """The transition of a run that is not over. `foreign` are Jobs under the run's names that others own."""
    status, report = record_successes(run, status, jobs, pods, now)
    stage = current_stage(status)
    if stage is None:
        text = f"published as {status.release.name}" if status.release else "completed"
        if status.summary.assessment:
            text += f": {status.summary.assessment}"
        if status.intended_end:
            text += f" before the end came ({status.intended_end.message})"
        done = end(status, Phase.SUCCEEDED, reason=Reason.COMPLETED, message=text, now=now)
        return Transition(done, delete=deletions(unfinished(jobs)), release_status=report)
    if status.held_since or unfinished(jobs):
        status = with_held_clock(run, status, jobs, pods, now)
    if status.intended_end:
        return replace(find_out(run, status, jobs, pods, now), release_status=report)
    transition = (
        _name_conflict(status, stage, foreign, now)
        or held_back(run, status, jobs, now)
        or advance(run, accepted(run, status, now), jobs, pods, now)
    )
    if transition.status.is_terminal:
        transition = delay_end(status, transition, jobs, now) or transition
    return replace(transition, release_status=report)


def _name_conflict(
    status: RunStatus, stage: StageStatus, foreign: tuple[JobView, ...], now: datetime
) -> Transition | None:
    """The end of a run whose next Job's name another object has taken; that Job is left alone."""
    if not foreign or foreign[0].stage is not stage.name:
        return None
    text = f"Job {foreign[0].name} exists and belongs to another object; delete it, then retry the run"
    return Transition(fail(status, stage, reason=Reason.JOB_NAME_CONFLICT, message=text, now=now))


def _plan(run: RunView, transition: Transition, now: datetime) -> Plan:
    status = transition.status
    status = with_done_share(status) if status.active_since else with_idle_progress(status)
    if status.is_terminal:
        status = replace(status, usage=usage(run, status))
    status = with_conditions(run, status, now)
    old_resolved = run.status.resolved if run.status else None
    return Plan(
        status=status,
        snapshot_profile=status.resolved is not None and old_resolved is None,
        release_status=transition.release_status,
        reserve=transition.reserve,
        create=transition.create,
        delete=transition.delete,
        events=events(run.status, status),
        requeue_after=_requeue_after(run, status, transition, now),
    )


def _requeue_after(run: RunView, status: RunStatus, transition: Transition, now: datetime) -> float | None:
    if status.is_terminal:
        return _after_end(run, status, (), now).requeue_after
    waits = [] if transition.requeue_after is None else [transition.requeue_after]
    if status.active_since and not status.held_since and not status.intended_end:
        waits.append(max(0.0, run.active_limit - active_seconds(status, now)))
    return min(waits, default=None)
