"""The conditions of a run, derived from its phase, reason and stages, and the Events on its changes. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import MAX_MESSAGE, Reason, advice, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.status import Condition, Phase, RunStatus, StagePhase, StageStatus
from atoll_operator.lifecycle.model import RunView
from atoll_operator.lifecycle.plan import EventType, RunEvent

# Reasons that somebody has to fix. kstatus (Helm, Flux, Argo CD) reads the condition Stalled as failed.
STALLING = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.PROFILE_NOT_FOUND,
        Reason.OBJECT_STORE_NOT_FOUND,
        Reason.INVALID_SPEC,
    }
)
_DATASET = frozenset(
    {
        Reason.DATASET_NOT_FOUND,
        Reason.DATASET_CHANGED,
        Reason.DATASET_UNSAFE,
        Reason.DATASET_TOO_LARGE,
        Reason.DATASET_MALFORMED,
        Reason.ANNOTATION_INVALID,
        Reason.NO_USABLE_EXAMPLES,
        Reason.INTEGRITY_MISMATCH,
    }
)
_QUALITY = frozenset({Reason.QUALITY_GATE_FAILED, Reason.OPS_NOT_MAPPED})
# Reasons that become a Warning while the run continues.
_WARNED = STALLING | {Reason.UNSCHEDULABLE, Reason.QUOTA_EXCEEDED, Reason.NODE_LOST}
_END_EVENTS = {
    Phase.SUCCEEDED: (EventType.NORMAL, "Completed"),
    Phase.FAILED: (EventType.WARNING, "Failed"),
    Phase.CANCELLED: (EventType.NORMAL, "Cancelled"),
}
# Leaves room in an Event for the page that helps, as the URL that the path becomes.
_MAX_BEFORE_ADVICE = MAX_MESSAGE - 320

# Type, status, reason and message of a condition.
_State = tuple[str, str, Reason, str]
_Event = tuple[EventType, str, str]


def with_conditions(run: RunView, status: RunStatus, now: datetime) -> RunStatus:
    """`status` with its conditions. While `run.blocked` says something, that is the reason and the message of a run
    that is not over."""
    if run.blocked and not status.is_terminal:
        status = replace(status, reason=Reason.INTERNAL_ERROR, message=bounded(run.blocked))
    before = {item.type: (item.status, item.last_transition_time) for item in status.conditions}
    conditions = []
    for kind, value, reason, message in _states(run, status):
        since = transition_time(kind, value, before, rfc3339(now))
        conditions.append(Condition(kind, value, reason, bounded(message), since, run.generation))
    return replace(status, conditions=tuple(conditions))


def transition_time(kind: str, value: str, before: Mapping[str, tuple[str, str]], now: str) -> str:
    """The lastTransitionTime of a condition, which changes only with the condition's status. `before` has the former
    status and lastTransitionTime by type."""
    old_value, since = before.get(kind, ("", now))
    return since if old_value == value else now


def _states(run: RunView, status: RunStatus) -> Iterator[_State]:
    root = {Phase.SUCCEEDED: "True", Phase.FAILED: "False", Phase.CANCELLED: "False"}.get(status.phase, "Unknown")
    yield "Succeeded", root, status.reason, status.message
    if status.phase in (Phase.FAILED, Phase.CANCELLED):
        yield "Stalled", "True", status.reason, status.message
    elif status.phase not in (Phase.SUCCEEDED, Phase.SUSPENDED):
        kind = "Stalled" if status.reason in STALLING or run.blocked else "Reconciling"
        yield kind, "True", status.reason, status.message
    if status.stages:
        yield _dataset_valid(status)
        yield _quality_passed(run, status)
        yield _published(status)


def _dataset_valid(status: RunStatus) -> _State:
    stage = status.stage(Stage.CONVERT)
    if stage.phase is StagePhase.SUCCEEDED:
        return "DatasetValid", "True", stage.reason, stage.message
    if stage.phase is StagePhase.FAILED and stage.reason in _DATASET:
        return "DatasetValid", "False", stage.reason, stage.message
    return "DatasetValid", "Unknown", Reason.PENDING, "the data set is not converted yet"


def _quality_passed(run: RunView, status: RunStatus) -> _State:
    failed = next((item for item in status.stages if item.phase is StagePhase.FAILED and item.reason in _QUALITY), None)
    if failed:
        return "QualityPassed", "False", failed.reason, failed.message
    if status.stage(Stage.EXPORT).phase is not StagePhase.SUCCEEDED:
        return "QualityPassed", "Unknown", Reason.PENDING, "the model is not measured yet"
    if not run.quality_gated:
        return "QualityPassed", "True", Reason.COMPLETED, "no quality gate is set"
    return "QualityPassed", "True", Reason.COMPLETED, f"int8 AP50 is {status.summary.ap50 or 'unknown'}"


def _published(status: RunStatus) -> _State:
    stage = status.stage(Stage.PUBLISH)
    if stage.phase is StagePhase.SUCCEEDED and status.release:
        return "Published", "True", Reason.COMPLETED, f"published as {status.release.name}"
    if stage.phase is StagePhase.FAILED:
        return "Published", "False", stage.reason, stage.message
    return "Published", "Unknown", Reason.PENDING, "nothing is published yet"


def events(before: RunStatus | None, after: RunStatus) -> tuple[RunEvent, ...]:
    """One Event for each change from `before` to `after`."""
    changes = _changes(before or RunStatus(), after)
    return tuple(RunEvent(kind, reason, bounded(message)) for kind, reason, message in changes)


def _with_advice(message: str, reason: Reason) -> str:
    """The message, cut where the page that helps would not fit beside it."""
    return f"{bounded(message, _MAX_BEFORE_ADVICE)}; {advice(reason)}"


def _changes(old: RunStatus, new: RunStatus) -> Iterator[_Event]:
    if new.phase is not old.phase:
        if new.phase in (Phase.QUEUED, Phase.SUSPENDED):
            yield EventType.NORMAL, str(new.phase), new.message
        elif old.is_terminal:
            yield EventType.NORMAL, "Retried", f"the run goes on, asked for by {new.last_handled_retry}"
    if new.active_since and not old.active_since:
        yield EventType.NORMAL, "Resumed" if old.phase is Phase.SUSPENDED else "Admitted", "the run may work"
    if new.reason is not old.reason and new.reason in _WARNED and not new.is_terminal:
        yield EventType.WARNING, str(new.reason), _with_advice(new.message, new.reason)
    for stage in new.stages:
        yield from _stage_changes(old.stage_of(stage.name, None), stage, str(stage.name))
    for target, part in ((item.target, item.stage) for item in new.compile if item.stage is not None):
        yield from _stage_changes(old.stage_of(Stage.COMPILE, target), part, f"compile {target}")
    if new.release and new.release.manifest and not (old.release and old.release.manifest):
        yield EventType.NORMAL, "ReleasePublished", f"published {new.release.name}"
    if new.phase is not old.phase and new.phase in _END_EVENTS:
        kind, reason = _END_EVENTS[new.phase]
        failed = new.phase is Phase.FAILED
        yield kind, reason, _with_advice(f"{new.reason}: {new.message}", new.reason) if failed else new.message


def _stage_changes(old: StageStatus, new: StageStatus, name: str) -> Iterator[_Event]:
    """`name` is what the Events call the stage."""
    if new.last_failure != old.last_failure and new.last_failure and new.phase is StagePhase.PENDING:
        yield EventType.WARNING, "StageRetried", f"{name}: {new.last_failure.reason}: {new.message}"
    if new.phase is StagePhase.RUNNING and (old.phase is not new.phase or old.attempts != new.attempts):
        yield EventType.NORMAL, "StageStarted", f"{name}: attempt {new.attempts}"
    if new.phase is old.phase:
        return
    if new.phase is StagePhase.SUCCEEDED:
        yield EventType.NORMAL, "StageSucceeded", f"{name}: {new.message}"
    elif new.phase is StagePhase.SKIPPED:
        yield EventType.NORMAL, "StageSkipped", f"{name}: {new.reason}: {new.message}"
    elif new.phase is StagePhase.FAILED:
        yield EventType.WARNING, "StageFailed", f"{name}: {new.reason}: {new.message}"
