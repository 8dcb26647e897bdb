"""The Events of a transition, from the status before and the status after. Pure."""

from collections.abc import Iterator

from atoll_contract.errors import bounded
from atoll_contract.reasons import Reason
from atoll_operator.plan import EventType, RunEvent
from atoll_operator.status import Phase, RunStatus, StagePhase, StageStatus

_ENDS = {
    Phase.SUCCEEDED: (EventType.NORMAL, "Completed"),
    Phase.FAILED: (EventType.WARNING, "Failed"),
    Phase.CANCELLED: (EventType.NORMAL, "Cancelled"),
}
_TROUBLE = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.UNSCHEDULABLE,
        Reason.QUOTA_EXCEEDED,
        Reason.NODE_LOST,
        Reason.PROFILE_NOT_FOUND,
        Reason.OBJECT_STORE_NOT_FOUND,
    }
)


def events(before: RunStatus | None, after: RunStatus) -> tuple[RunEvent, ...]:
    """One Event for each thing that `after` says and `before` did not."""
    old = before or RunStatus()
    return tuple(
        RunEvent(kind, reason, bounded(message))
        for kind, reason, message in (*_of_begin(old, after), *_of_stages(old, after), *_of_end(old, after))
    )


def _of_begin(old: RunStatus, new: RunStatus) -> Iterator[tuple[EventType, str, str]]:
    """What has to be told before the stages."""
    if new.phase is not old.phase:
        if new.phase in (Phase.QUEUED, Phase.SUSPENDED):
            yield EventType.NORMAL, str(new.phase), new.message
        elif old.is_terminal:
            yield EventType.NORMAL, "Retried", f"the run goes on, asked for by {new.last_handled_retry}"
    if new.active_since and not old.active_since:
        yield EventType.NORMAL, "Resumed" if old.phase is Phase.SUSPENDED else "Admitted", "the run may work"
    if new.reason is not old.reason and new.reason in _TROUBLE and not new.is_terminal:
        yield EventType.WARNING, str(new.reason), new.message


def _of_end(old: RunStatus, new: RunStatus) -> Iterator[tuple[EventType, str, str]]:
    """What follows from the stages."""
    if new.release and new.release.manifest and not (old.release and old.release.manifest):
        yield EventType.NORMAL, "ReleasePublished", f"published {new.release.name}"
    if new.phase is not old.phase and new.phase in _ENDS:
        kind, reason = _ENDS[new.phase]
        yield kind, reason, f"{new.reason}: {new.message}" if new.phase is Phase.FAILED else new.message


def _of_stages(old: RunStatus, new: RunStatus) -> Iterator[tuple[EventType, str, str]]:
    before = {item.name: item for item in old.stages}
    for stage in new.stages:
        yield from _of_stage(before.get(stage.name) or StageStatus(stage.name), stage)


def _of_stage(old: StageStatus, new: StageStatus) -> Iterator[tuple[EventType, str, str]]:
    if new.last_failure != old.last_failure and new.last_failure and new.phase is StagePhase.PENDING:
        yield EventType.WARNING, "StageRetried", f"{new.name}: {new.last_failure.reason}: {new.message}"
    if new.phase is StagePhase.RUNNING and (old.phase is not new.phase or old.attempts != new.attempts):
        yield EventType.NORMAL, "StageStarted", f"{new.name}: attempt {new.attempts}"
    if new.phase is old.phase:
        return
    if new.phase is StagePhase.SUCCEEDED:
        yield EventType.NORMAL, "StageSucceeded", f"{new.name}: {new.message}"
    elif new.phase is StagePhase.SKIPPED:
        yield EventType.NORMAL, "StageSkipped", f"{new.name}: {new.reason}: {new.message}"
    elif new.phase is StagePhase.FAILED:
        yield EventType.WARNING, "StageFailed", f"{new.name}: {new.reason}: {new.message}"
