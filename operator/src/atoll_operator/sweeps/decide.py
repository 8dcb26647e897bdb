"""What follows from a sweep and its runs: `decide(sweep, trials, now) -> SweepPlan`. Pure, as the `decide` of a run.

Nothing is remembered but what the runs say: their names, settings and results. So whatever is killed and started again
comes to the same runs and to one release.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_operator.api.status import Phase
from atoll_operator.api.sweep import SweepPhase, SweepStatus, TrainingSweepSpec
from atoll_operator.api.types import Body
from atoll_operator.sweeps.search import is_behind, number_of_trials, propose
from atoll_operator.sweeps.space import template_digest, trial_name, trial_run
from atoll_operator.sweeps.summary import with_conditions, with_figures
from atoll_operator.sweeps.trials import Trial, TrialState

# So many trials without any result, and the rest would fail, too.
_MAX_FAILED = 3


@dataclass(frozen=True)
class SweepView:
    """A sweep with all that a decision needs. `refused` says why the API server does not accept its runs."""

    document: Body
    spec: TrainingSweepSpec
    status: SweepStatus | None
    refused: str = ""

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])


@dataclass(frozen=True)
class SpecChange:
    """A change to the spec of a run that exists."""

    run: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class SweepPlan:
    """What an engine does, in this order; each step may be repeated. `create` are TrainingRuns. `pruned` names those
    that `change` ends because they fall behind."""

    create: tuple[dict[str, Any], ...] = ()
    change: tuple[SpecChange, ...] = ()
    pruned: tuple[str, ...] = ()
    status: SweepStatus = field(default_factory=SweepStatus)


def decide(sweep: SweepView, trials: Sequence[Trial], now: datetime) -> SweepPlan:
    """The next plan. `trials` are all runs of the sweep that exist."""
    status = sweep.status or SweepStatus(start_time=rfc3339(now), template_digest=template_digest(sweep.spec))
    if status.is_terminal:
        return SweepPlan(status=status)
    plan = _early_end(sweep, status, trials) or _paused(sweep, status, trials) or _searching(sweep, status, trials)
    plan = plan or _choosing(sweep, status, trials)
    status = replace(plan.status, observed_generation=sweep.document["metadata"].get("generation", 1))
    status = with_figures(sweep.spec, status, trials, total=number_of_trials(sweep.spec))
    if status.is_terminal:
        status = replace(status, completion_time=rfc3339(now))
    return replace(plan, status=with_conditions(sweep.status, status, now))


def _early_end(sweep: SweepView, status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan | None:
    """The plan of a sweep that is to end without a release; None where it goes on."""
    if sweep.spec.cancel:
        return _end(status, trials, SweepPhase.CANCELLED, Reason.CANCELLED, "cancelled by spec.cancel")
    if status.template_digest != template_digest(sweep.spec):
        text = "spec.template was changed after the first trial; copy the sweep under a new name and apply that"
        return _end(status, trials, SweepPhase.FAILED, Reason.INVALID_SPEC, text)
    if sweep.refused:
        return _end(status, trials, SweepPhase.FAILED, Reason.INVALID_SPEC, sweep.refused)
    ended = [trial for trial in trials if trial.has_ended]
    if len(ended) >= _MAX_FAILED and all(trial.state is TrialState.FAILED for trial in ended):
        last = ended[-1]
        text = f"the first {len(ended)} trials failed, the last with: {last.status.message} (atoll status {last.name})"
        return _end(status, trials, SweepPhase.FAILED, last.status.reason, text)
    return None


def _end(status: SweepStatus, trials: Sequence[Trial], phase: SweepPhase, reason: Reason, message: str) -> SweepPlan:
    """Cancels what is at work, and ends the sweep once all of it has ended."""
    if left := [trial for trial in trials if not trial.status.is_terminal]:
        text = bounded(f"{message}; waiting for {len(left)} of its runs to end")
        going = replace(status, phase=SweepPhase.RUNNING, reason=Reason.RUNNING, message=text)
        return SweepPlan(change=_cancelled(left), status=going)
    return SweepPlan(status=replace(status, phase=phase, reason=reason, message=bounded(message)))


def _cancelled(trials: Iterable[Trial]) -> tuple[SpecChange, ...]:
    return tuple(SpecChange(trial.name, {"cancel": True}) for trial in trials if not trial.cancelled)


def _paused(sweep: SweepView, status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan | None:
    """The plan of a suspended sweep. A trial that is measured waits anyway."""
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    if sweep.spec.suspend:
        change = tuple(SpecChange(trial.name, {"suspend": True}) for trial in running if not trial.suspended)
        text = "suspended; resumed, its trials go on from their last checkpoints"
        paused = replace(status, phase=SweepPhase.SUSPENDED, reason=Reason.SUSPENDED, message=text)
        return SweepPlan(change=change, status=paused)
    if change := tuple(SpecChange(trial.name, {"suspend": False}) for trial in trials if trial.suspended):
        return SweepPlan(change=change, status=_running(status, "its trials go on"))
    return None


def _running(status: SweepStatus, message: str) -> SweepStatus:
    return replace(status, phase=SweepPhase.RUNNING, reason=Reason.RUNNING, message=bounded(message))


def _searching(sweep: SweepView, status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan | None:
    """The plan while trials are to be made or at work; None once all have ended."""
    spec = sweep.spec
    tried = {trial.number: trial for trial in trials if trial.repeat == 0}
    total = number_of_trials(spec)
    running = [trial for trial in tried.values() if not trial.has_ended]
    if len(tried) == total and not running:
        return None
    behind = [trial for trial in running if not trial.cancelled and is_behind(spec, trials, trial)]
    create, free = [], spec.parallelism - len(running)
    for number in range(total):
        if number in tried:
            continue
        before = range(max(0, number - spec.parallelism + 1))
        if free <= 0 or not all(item in tried and tried[item].has_ended for item in before):
            break
        create.append(trial_run(sweep.document, spec, propose(spec, trials, number), number=number))
        free -= 1
    pruned = tuple(trial.name for trial in behind)
    names = ", ".join([trial.name for trial in running] + [item["metadata"]["name"] for item in create])
    text = f"at work: {names}" if names else "waiting for earlier trials"
    if behind:
        text += f"; ended early: {', '.join(pruned)}"
    return SweepPlan(tuple(create), _cancelled(behind), pruned, _running(status, text))


def _choosing(sweep: SweepView, status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan:
    """The plan once every trial has ended: repeat the best, publish the best of those, and end."""
    winner = next((trial for trial in trials if not trial.held), None)
    if winner is None:
        best = best_of(trial for trial in trials if trial.repeat == 0 and trial.may_be_published)
        if best is None:
            return _without_result(status, trials)
        repeats = {trial.repeat: trial for trial in trials if trial.number == best.number}
        if missing := [number for number in range(1, sweep.spec.repeats) if number not in repeats]:
            running = sum(not trial.has_ended for trial in repeats.values())
            create = tuple(
                trial_run(sweep.document, sweep.spec, best.settings, number=best.number, repeat=number)
                for number in missing[: max(0, sweep.spec.parallelism - running)]
            )
            return SweepPlan(create=create, status=_repeating(sweep, status, best))
        if not all(trial.has_ended for trial in repeats.values()):
            return SweepPlan(status=_repeating(sweep, status, best))
        winner = best_of(trial for trial in repeats.values() if trial.may_be_published) or best
        change = (SpecChange(winner.name, {"holdPublish": False}),)
        return SweepPlan(change=change, status=_running(status, f"{winner.name} is the best and is published"))
    return _published(status, winner, [trial for trial in trials if trial is not winner])


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the best AP50; of equal ones the first."""
    measured = [trial for trial in trials if trial.ap50 is not None]
    return max(measured, key=lambda trial: (trial.ap50, -trial.number, -trial.repeat), default=None)


def _repeating(sweep: SweepView, status: SweepStatus, best: Trial) -> SweepStatus:
    first = trial_name(sweep.name, best.number, 1)
    text = f"{best.name} is the best; its settings are trained with other seeds ({first} and on)"
    return _running(status, text)


def _published(status: SweepStatus, winner: Trial, others: Sequence[Trial]) -> SweepPlan:
    change = _cancelled(trial for trial in others if not trial.status.is_terminal)
    run = winner.status
    waiting = not run.is_terminal or any(not trial.status.is_terminal for trial in others)
    if waiting:
        return SweepPlan(change=change, status=_running(status, f"{winner.name} is the best and is published"))
    if run.phase is Phase.SUCCEEDED and run.release is not None:
        text = f"{winner.name} is the best of {len(others) + 1} runs and is published as {run.release.name}"
        done = replace(status, phase=SweepPhase.SUCCEEDED, reason=Reason.COMPLETED, release=run.release.name)
        return SweepPlan(status=replace(done, message=text))
    text = f"{winner.name} is the best, and was not published: {run.message}"
    return SweepPlan(status=replace(status, phase=SweepPhase.FAILED, reason=run.reason, message=bounded(text)))


def _without_result(status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan:
    """The end of a sweep none of whose trials may be published."""
    measured = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    best = best_of(measured) or (trials[-1] if trials else None)
    text = "no trial has a model that may be published"
    if best is None:
        return _end(status, trials, SweepPhase.FAILED, Reason.INTERNAL_ERROR, text)
    return _end(status, trials, SweepPhase.FAILED, best.status.reason, f"{text}; {best.name}: {best.status.message}")
