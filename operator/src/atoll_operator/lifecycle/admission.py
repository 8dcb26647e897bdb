"""What a run waits for before its next stage: suspension, a missing object, the queue; and what ends it. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import EDGETPU
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.text import duration
from atoll_operator.api.status import (
    DONE,
    Phase,
    QueueStatus,
    Resolved,
    RunStatus,
    StagePhase,
    StageStatus,
    seconds_between,
)
from atoll_operator.lifecycle.model import DEFAULT_PENDING_SECONDS, JobView, QueueView, RunView
from atoll_operator.lifecycle.targets import can_compile
from atoll_operator.lifecycle.transition import (
    Transition,
    active_seconds,
    current_stage,
    deletions,
    end,
    fail,
    stop_clock,
    unfinished,
)

HELD = "the model is trained and measured; spec.holdPublish keeps it from being published, set it to false to go on"
MISSING_REQUEUE_SECONDS = 15
QUEUED_REQUEUE_SECONDS = 60
# Estimates are rounded up to whole steps, so that the status of a queued run is not written every minute: below so many
# seconds, steps of so many. The steps are small beside the estimate, so that one more run ahead shows.
_ETA_STEPS = ((180, 30), (600, 60), (3600, 300))
_LONGEST_ETA_STEP = 900


def held_back(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Transition | None:
    """The transition of a run that may not work now; None where it may."""
    if run.cancel:
        return _ended(status, jobs, now, Reason.CANCELLED, "cancelled by spec.cancel")
    if run.suspend:
        text = run.suspend_reason or "suspended; resumed, it goes on from its last checkpoint"
        return Transition(_suspended(status, jobs, now, bounded(text)), delete=deletions(unfinished(jobs)))
    if run.hold_publish and _is_measured(status):
        # The Job that trained ends by itself, and uploads its log.
        return Transition(_suspended(status, jobs, now, HELD))
    return _refused(run, status, jobs, now) or _missing(run, status, jobs, now) or _queued(run, status, jobs)


def _ended(status: RunStatus, jobs: tuple[JobView, ...], now: datetime, reason: Reason, message: str) -> Transition:
    stage = current_stage(status)
    phase = Phase.CANCELLED if reason is Reason.CANCELLED else Phase.FAILED
    if stage is not None and (stage.attempts > 0 or phase is Phase.FAILED):
        status = fail(status, stage, reason=reason, message=message, now=now)
    return Transition(end(status, phase, reason=reason, message=message, now=now), delete=deletions(unfinished(jobs)))


def _is_measured(status: RunStatus) -> bool:
    """Whether the model is trained and measured, and nothing of compile and publish has begun."""
    begun = status.stage(Stage.COMPILE).attempts + status.stage(Stage.PUBLISH).attempts
    return status.stage(Stage.EXPORT).phase in DONE and not begun


def _suspended(status: RunStatus, jobs: tuple[JobView, ...], now: datetime, text: str) -> RunStatus:
    stage = current_stage(status)
    assert stage is not None
    stage = suspended_stage(stage)
    status = with_suspended_targets(status.with_stage(stage))
    stopped = stop_clock(with_unseen_publish(status, jobs), now)
    return replace(stopped, phase=Phase.SUSPENDED, reason=Reason.SUSPENDED, message=text, queue=None)


def with_unseen_publish(status: RunStatus, jobs: Iterable[JobView]) -> RunStatus:
    """`status` before Jobs are deleted: where publish follows in a pod, it may begin before the deletion reaches the
    node, and nobody would see it. That attempt counts as begun."""
    begun = [item.attempt for job in unfinished(jobs) for item in job.following if item.stage is Stage.PUBLISH]
    stage = status.stage(Stage.PUBLISH)
    if not begun or max(begun) <= stage.attempts:
        return status
    return status.with_stage(replace(stage, attempts=max(begun), job_ref=None))


def _refused(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Transition | None:
    """The end of a run that cannot be carried out, or whose time is used up."""
    if run.invalid:
        return _ended(status, jobs, now, Reason.INVALID_SPEC, run.invalid)
    if changed := _profile_change(run, status):
        return _ended(status, jobs, now, Reason.PROFILE_CHANGED, changed)
    if target := _lacks_compiler(run, status):
        of = "" if target == EDGETPU else f" of {target}"
        text = f"compile policy{of} Required, but the profile names no compile image (spec.images.compile)"
        return _ended(status, jobs, now, Reason.COMPILER_UNAVAILABLE, text)
    if active_seconds(status, now) >= run.active_limit:
        limit = "runPolicy.activeDeadlineSeconds or the profile's limit"
        text = f"the run was active for more than {run.active_limit} s ({limit})"
        return _ended(status, jobs, now, Reason.DEADLINE_EXCEEDED, text)
    return None


def _profile_change(run: RunView, status: RunStatus) -> str:
    """Why the profile is not the one that the run was accepted with, or nothing. A status that was edited to name
    another profile counts as a change."""
    if status.resolved is None:
        return ""
    if run.profile is None:
        return f"the snapshot {status.resolved.profile_revision!r} of the profile is gone"
    kept = (status.resolved.profile, status.resolved.profile_revision, status.resolved.profile_hash)
    if kept == (run.profile.name, run.profile.revision, run.profile.digest):
        return ""
    found = f"{run.profile.name} {run.profile.digest}"
    return f"the run was accepted with profile {kept[0]} {kept[2]}, its snapshot is {found}"


def _lacks_compiler(run: RunView, status: RunStatus) -> str:
    """The first target that must be compiled and has no image for it; empty where there is none."""
    if run.profile is None:
        return ""
    for choice in run.compile:
        stage = status.stage_of(Stage.COMPILE, choice.target if run.has_several_targets else None)
        required = choice.policy is CompilePolicy.REQUIRED and stage.phase is not StagePhase.SUCCEEDED
        if required and not can_compile(run.profile, choice.target):
            return choice.target
    return ""


def _missing(run: RunView, status: RunStatus, jobs: tuple[JobView, ...], now: datetime) -> Transition | None:
    if unfinished(jobs):
        # A Job holds all that it was made from; the objects are read again before the next one.
        return None
    if run.missing:
        reason, text = Reason.OBJECT_STORE_NOT_FOUND, run.missing
    elif run.profile is None:
        reason = Reason.PROFILE_NOT_FOUND
        text = f"TrainingProfile {run.profile_name}, which spec.profileRef names, does not exist"
    else:
        return None
    stage = current_stage(status)
    assert stage is not None
    since = stage.pending_since or rfc3339(now)
    if seconds_between(since, now) >= DEFAULT_PENDING_SECONDS:
        text = f"{text} (waited {DEFAULT_PENDING_SECONDS} s)"
        return Transition(fail(status, stage, reason=reason, message=text, now=now))
    waiting = status.with_stage(replace(stage, pending_since=since))
    phase = status.phase if status.active_since else Phase.PENDING
    waiting = replace(waiting, phase=phase, reason=reason, message=bounded(text))
    return Transition(waiting, requeue_after=MISSING_REQUEUE_SECONDS)


def _queued(run: RunView, status: RunStatus, jobs: tuple[JobView, ...]) -> Transition | None:
    if status.active_since or run.queue.ahead == 0:
        return None
    left = unfinished(jobs)
    # Where the status was lost, a Job at work goes on. One that outlived a suspension has no slot any more.
    if status.phase not in (Phase.SUSPENDED, Phase.QUEUED) and any(not job.deleting for job in left):
        return None
    text = f"Queued: {run.queue.ahead} ahead"
    if run.queue.eta_seconds is not None:
        text += f", about {duration(run.queue.eta_seconds)}"
    queue = QueueStatus(run.queue.ahead, run.queue.eta_seconds)
    queued = replace(status, phase=Phase.QUEUED, reason=Reason.QUEUED, message=text, queue=queue)
    return Transition(queued, delete=deletions(left), requeue_after=QUEUED_REQUEUE_SECONDS)


def accepted(run: RunView, status: RunStatus, now: datetime) -> RunStatus:
    """`status` of a run that may work: its active time counts from now, and its profile is the snapshot."""
    if not status.active_since:
        status = replace(status, active_since=rfc3339(now))
    if status.resolved is not None or run.profile is None:
        return status
    profile = run.profile
    return replace(status, resolved=Resolved(profile.name, profile.revision, profile.digest, run.runs_on))


@dataclass(frozen=True)
class QueueEntry:
    """A run of the profile that is neither terminal nor suspended. `active`: it was let in (`status.activeSince`)."""

    namespace: str
    name: str
    created: datetime
    active: bool = False
    remaining_seconds: int | None = None
    slots: int = 1

    @property
    def order(self) -> tuple[datetime, str, str]:
        return (self.created, self.namespace, self.name)


def queue_position(namespace: str, name: str, entries: Iterable[QueueEntry], *, slots: int) -> QueueView:
    """The position of one run among `entries` (its own entry included) where `slots` may be taken at once. A run that
    wants more than there are takes all."""
    listed = sorted(entries, key=lambda entry: entry.order)
    own = next(entry for entry in listed if (entry.namespace, entry.name) == (namespace, name))
    others = [entry for entry in listed if entry is not own]
    active = [entry for entry in others if entry.active]
    if own.active:
        return QueueView(others_active=bool(active))
    earlier = [entry for entry in others if not entry.active and entry.order < own.order]
    before = [*active, *earlier]
    taken, ahead = sum(entry.slots for entry in before), 0
    while ahead < len(before) and taken + min(own.slots, slots) > slots:
        taken -= before[ahead].slots
        ahead += 1
    return QueueView(ahead, _eta(before, slots) if ahead else None, bool(active))


def _eta(before: list[QueueEntry], slots: int) -> int | None:
    """Seconds until a slot is free for a run that has `before` ahead of it; None where one of them has no estimate."""
    remaining = [entry.remaining_seconds for entry in before]
    if any(seconds is None for seconds in remaining):
        return None
    total = sum(seconds for seconds in remaining if seconds is not None) / max(1, slots)
    step = next((step for below, step in _ETA_STEPS if total < below), _LONGEST_ETA_STEP)
    # A run that takes longer than it was estimated ends some day, too.
    return max(step, math.ceil(total / step) * step)


def with_suspended_targets(status: RunStatus) -> RunStatus:
    """`status` of a suspended run: none of its targets is at work."""
    entries = (
        replace(item, stage=suspended_stage(item.stage)) if item.stage and item.stage.phase not in DONE else item
        for item in status.compile
    )
    return replace(status, compile=tuple(entries))


def suspended_stage(stage: StageStatus) -> StageStatus:
    """`stage` of a suspended run, whose Job is deleted."""
    if stage.phase is StagePhase.RUNNING:
        stage = replace(stage, phase=StagePhase.PENDING, message=f"attempt {stage.attempts} was suspended")
    return replace(stage, reason=Reason.SUSPENDED, pending_since=None, next_retry_time=None)
