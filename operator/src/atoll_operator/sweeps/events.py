"""The Events of a sweep: what becomes of its trials, the best of them, and how it ends. Pure."""

from collections.abc import Iterator

from atoll_contract.errors import bounded
from atoll_operator.api.sweep import SweepPhase, SweepStatus
from atoll_operator.api.types import Body
from atoll_operator.lifecycle.inputs import SUSPEND_REASON_ANNOTATION
from atoll_operator.lifecycle.plan import EventType, RunEvent
from atoll_operator.sweeps.decide import SweepPlan
from atoll_operator.sweeps.space import settings_of

_ENDS = {
    SweepPhase.SUCCEEDED: (EventType.NORMAL, "Completed"),
    SweepPhase.FAILED: (EventType.WARNING, "Failed"),
    SweepPhase.CANCELLED: (EventType.NORMAL, "Cancelled"),
}


def started(run: Body) -> RunEvent:
    """The Event of a trial whose run was created."""
    settings = ", ".join(f"{name} {value}" for name, value in settings_of(run).items())
    return _event(EventType.NORMAL, "TrialStarted", f"{run['metadata']['name']}: {settings}")


def plan_events(plan: SweepPlan) -> Iterator[RunEvent]:
    """One Event for each trial that a plan ends early, suspends or resumes."""
    for run in plan.pruned:
        yield _event(EventType.NORMAL, "TrialPruned", f"{run} falls behind and is ended early")
    for change in plan.change:
        if change.spec.get("suspend"):
            reason = change.annotations[SUSPEND_REASON_ANNOTATION]
            yield _event(EventType.NORMAL, "TrialSuspended", f"{change.run} {reason}")
        elif "suspend" in change.spec:
            yield _event(EventType.NORMAL, "TrialResumed", f"{change.run} goes on from its last checkpoint")


def changes(before: SweepStatus | None, after: SweepStatus) -> Iterator[RunEvent]:
    """One Event for each change from `before` to `after`."""
    old = before or SweepStatus()
    if after.best is not None and (old.best is None or old.best.run != after.best.run):
        yield _event(EventType.NORMAL, "NewBestTrial", f"{after.best.run} has the best AP50 so far, {after.best.ap50}")
    if after.phase is old.phase:
        return
    if after.phase is SweepPhase.SUSPENDED:
        yield _event(EventType.NORMAL, "Suspended", after.message)
    elif old.phase is SweepPhase.SUSPENDED and not after.is_terminal:
        yield _event(EventType.NORMAL, "Resumed", after.message)
    elif after.phase in _ENDS:
        kind, reason = _ENDS[after.phase]
        yield _event(kind, reason, f"{after.reason}: {after.message}" if kind is EventType.WARNING else after.message)


def _event(kind: EventType, reason: str, message: str) -> RunEvent:
    return RunEvent(kind, reason, bounded(message))
