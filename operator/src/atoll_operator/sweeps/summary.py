"""What the status of a sweep says of its trials, and its conditions."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason
from atoll_operator.api.status import Condition
from atoll_operator.api.sweep import (
    BestTrial,
    Confidence,
    SweepPhase,
    SweepStatus,
    SweepSteps,
    TrainingSweepSpec,
    TrialCounts,
)
from atoll_operator.sweeps.trials import Trial, TrialState


def with_figures(spec: TrainingSweepSpec, status: SweepStatus, trials: Sequence[Trial], *, total: int) -> SweepStatus:
    """`status` with the counts, the steps, the best trial and the confidence. `total` trials are to be made."""
    tried = [trial for trial in trials if trial.repeat == 0]
    states = Counter(trial.state for trial in tried)
    ended = sum(trial.has_ended for trial in tried)
    measured = [trial for trial in trials if trial.state is TrialState.COMPLETED and trial.ap50 is not None]
    best = max(measured, key=lambda trial: (trial.ap50, -trial.number, -trial.repeat), default=None)
    return replace(
        status,
        trials=TrialCounts(
            display=f"{ended}/{total}",
            total=total,
            running=states[TrialState.RUNNING],
            completed=states[TrialState.COMPLETED],
            pruned=states[TrialState.PRUNED],
            failed=states[TrialState.FAILED],
            waiting=states[TrialState.WAITING],
        ),
        steps=SweepSteps(
            done=sum(trial.steps for trial in trials), full=sum(max(trial.steps, trial.total_steps) for trial in trials)
        ),
        best=BestTrial(best.name, f"{best.ap50:.3f}", best.settings) if best else None,
        confidence=_confidence(spec, measured),
    )


def _confidence(spec: TrainingSweepSpec, measured: Sequence[Trial]) -> Confidence | None:
    repeated = {trial.number for trial in measured if trial.repeat}
    values = [trial.ap50 for trial in measured if trial.number in repeated and trial.ap50 is not None]
    if spec.repeats < 2 or len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return Confidence(len(values), f"{mean:.3f}", f"{min(values):.3f}", f"{max(values):.3f}")


def with_conditions(before: SweepStatus | None, status: SweepStatus, now: datetime) -> SweepStatus:
    """`status` with its conditions; a condition keeps the time of its last change."""
    states = {SweepPhase.SUCCEEDED: "True", SweepPhase.FAILED: "False", SweepPhase.CANCELLED: "False"}
    wanted = {"Succeeded": states.get(status.phase, "Unknown")}
    if not status.is_terminal:
        wanted["Reconciling"] = "True"
    elif status.phase is SweepPhase.FAILED:
        wanted["Stalled"] = "True"
    known = {item.type: item for item in before.conditions} if before else {}
    conditions = tuple(_condition(kind, value, status, known.get(kind), now) for kind, value in wanted.items())
    return replace(status, conditions=conditions)


def _condition(kind: str, value: str, status: SweepStatus, old: Condition | None, now: datetime) -> Condition:
    since = old.last_transition_time if old is not None and old.status == value else rfc3339(now)
    reason = status.reason if status.is_terminal else Reason.RUNNING
    return Condition(kind, value, reason, status.message, since, status.observed_generation)
