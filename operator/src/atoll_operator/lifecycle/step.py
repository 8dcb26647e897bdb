"""What the parts of `decide` hand to each other: a `Step`, and the small moves that every part makes. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from atoll_contract.document import replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.status import (
    DONE,
    PHASE_OF_STAGE,
    Phase,
    ReleaseStatus,
    RunStatus,
    StagePhase,
    StageStatus,
    rfc3339,
    seconds_between,
    short,
)
from atoll_operator.lifecycle.conditions import conditions
from atoll_operator.lifecycle.model import JobToDelete, JobView, ReleaseReport, Reservation, RunView, StageAttempt


@dataclass(frozen=True)
class Step:
    """A part of a plan: the status that follows, and what to do for it."""

    status: RunStatus
    create: tuple[StageAttempt, ...] = ()
    delete: tuple[JobToDelete, ...] = ()
    reserve: Reservation | None = None
    release_status: ReleaseReport | None = None
    requeue_after: float | None = None


def current_stage(status: RunStatus) -> StageStatus | None:
    """The first stage that is neither succeeded nor skipped."""
    return next((item for item in status.stages if item.phase not in DONE), None)


def unfinished(jobs: Iterable[JobView], *, but: JobView | None = None) -> tuple[JobView, ...]:
    return tuple(job for job in jobs if not job.is_finished and job is not but)


def deletions(jobs: Iterable[JobView]) -> tuple[JobToDelete, ...]:
    return tuple(JobToDelete(job.name, job.uid) for job in jobs if not job.deleting)


def working(status: RunStatus, stage: StageStatus) -> RunStatus:
    """`status` with `stage` in it, and the run's phase, reason and message taken from it."""
    phase = PHASE_OF_STAGE[stage.name]
    changed = status.with_stage(stage)
    return replace(changed, phase=phase, reason=stage.reason, message=bounded(stage.message), queue=None)


def end(status: RunStatus, phase: Phase, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` of a run that is over."""
    stopped = stop_clock(status, now)
    text = bounded(message)
    return replace(stopped, phase=phase, reason=reason, message=text, completion_time=rfc3339(now), queue=None)


def fail(status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` of a run that ends in Failed because `stage` does."""
    failed = _closed(stage, StagePhase.FAILED, reason=reason, message=message, now=now)
    return end(status.with_stage(failed), Phase.FAILED, reason=reason, message=message, now=now)


def skip(status: RunStatus, stage: StageStatus, *, reason: Reason, message: str, now: datetime) -> RunStatus:
    """`status` after a stage that is left out."""
    return status.with_stage(_closed(stage, StagePhase.SKIPPED, reason=reason, message=message, now=now))


def _closed(stage: StageStatus, phase: StagePhase, *, reason: Reason, message: str, now: datetime) -> StageStatus:
    return replace(
        stage,
        phase=phase,
        reason=reason,
        message=short(message),
        completion_time=rfc3339(now),
        next_retry_time=None,
        pending_since=None,
    )


def start_clock(status: RunStatus, now: datetime) -> RunStatus:
    """The run is let in: its active time counts from now."""
    return status if status.active_since else replace(status, active_since=rfc3339(now))


def stop_clock(status: RunStatus, now: datetime) -> RunStatus:
    """The run is suspended or over: the open interval of active time is closed."""
    return replace(status, active_seconds=int(active_seconds(status, now)), active_since=None)


def active_seconds(status: RunStatus, now: datetime) -> float:
    """Seconds that the run was neither suspended nor queued."""
    running = seconds_between(status.active_since, now) if status.active_since else 0.0
    return status.active_seconds + running


def hindered(run: RunView, status: RunStatus, now: datetime) -> RunStatus:
    """`status` with its conditions, and while `run.hindrance` stands with that as reason and message."""
    if run.hindrance and not status.is_terminal:
        status = replace(status, reason=Reason.INTERNAL_ERROR, message=bounded(run.hindrance))
    return replace(status, conditions=conditions(run, status, now))


def with_reserved_version(run: RunView, status: RunStatus) -> RunStatus | None:
    """`status` with the run's own version, or None while it has none that is high enough.

    After a VersionConflict `status.release` already names the next free number, which is still to be reserved.
    """
    wanted = status.release.version if status.release else 1
    if run.release is None or run.release.version < wanted:
        return None
    return replace(status, release=ReleaseStatus(run.release.name, run.release.version))


def reservation(run: RunView, status: RunStatus) -> Reservation:
    """The ModelRelease to create: one more than the highest known version, or what a conflict has shown to be free."""
    wanted = status.release.version if status.release else 1
    version = max(run.highest_version + 1, wanted)
    model = next((item for item in status.stage(Stage.EXPORT).outputs if item.name == "model"), None)
    digest = f"sha256:{model.sha256}" if model else ""
    return Reservation(f"{run.model}-v{version}", run.model, version, run.channel, digest)
