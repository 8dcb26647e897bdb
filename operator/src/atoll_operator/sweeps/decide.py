"""What follows from a sweep and its runs: `decide(sweep, trials, now) -> SweepPlan`. Pure, as the `decide` of a run.

Nothing is remembered but what the runs say: their names, settings and results. So whatever is killed and started again
comes to the same runs and to one release.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from atoll_contract.document import replace, rfc3339
from atoll_contract.errors import Reason, bounded
from atoll_operator.api.status import Phase
from atoll_operator.api.sweep import SweepPhase, SweepStatus, TrainingSweepSpec
from atoll_operator.api.types import Body
from atoll_operator.lifecycle.inputs import SUSPEND_REASON_ANNOTATION
from atoll_operator.sweeps.pruning import is_informative, select
from atoll_operator.sweeps.search import number_of_trials, propose
from atoll_operator.sweeps.space import TOTAL_STEPS_ANNOTATION, Settings, template_digest, trial_name, trial_run
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
    """A change to the spec of a run that exists, and to its annotations; one that is None is taken away."""

    run: str
    spec: dict[str, Any]
    annotations: dict[str, str | None] = field(default_factory=dict)

    @property
    def patch(self) -> dict[str, Any]:
        """The change as a JSON merge patch."""
        metadata = {"metadata": {"annotations": self.annotations}} if self.annotations else {}
        return {**metadata, "spec": self.spec}


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
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    others = [trial for trial in trials if trial.state is not TrialState.FAILED and (trial.has_ended or trial.ap50)]
    if len(failed) >= _MAX_FAILED and not others:
        last = failed[-1]
        text = f"the first {len(failed)} trials failed, the last with: {last.status.message} (atoll status {last.name})"
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
    """The plan of a suspended sweep, or of one that was: its measured trials and its repeats go on at once. For the
    other trials `_searching` finds a place."""
    if sweep.spec.suspend:
        running = (trial for trial in trials if not trial.has_ended and not trial.suspended)
        change = tuple(_suspended(trial, f"waits as sweep {sweep.name} is suspended") for trial in running)
        text = "suspended; resumed, its trials go on from their last checkpoints"
        paused = replace(status, phase=SweepPhase.SUSPENDED, reason=Reason.SUSPENDED, message=text)
        return SweepPlan(change=change, status=paused)
    others = [trial for trial in trials if (trial.has_ended or trial.repeat) and not trial.status.is_terminal]
    if change := tuple(_resumed(trial) for trial in others if trial.suspended):
        return SweepPlan(change=change, status=_running(status, "its trials go on"))
    return None


def _suspended(trial: Trial, reason: str) -> SpecChange:
    length = {TOTAL_STEPS_ANNOTATION: str(trial.total_steps)} if trial.is_length_known else {}
    return SpecChange(trial.name, {"suspend": True}, {SUSPEND_REASON_ANNOTATION: reason, **length})


def _resumed(trial: Trial) -> SpecChange:
    return SpecChange(trial.name, {"suspend": False}, {SUSPEND_REASON_ANNOTATION: None})


def _running(status: SweepStatus, message: str) -> SweepStatus:
    return replace(status, phase=SweepPhase.RUNNING, reason=Reason.RUNNING, message=bounded(message))


def _searching(sweep: SweepView, status: SweepStatus, trials: Sequence[Trial]) -> SweepPlan | None:
    """The plan while trials are to be made, at work or waiting for each other; None once all have ended."""
    spec = sweep.spec
    tried = {trial.number: trial for trial in trials if trial.repeat == 0}
    total = number_of_trials(spec)
    unended = [trial for trial in tried.values() if not trial.has_ended]
    if len(tried) == total and not unended:
        return None
    found = select(spec, tuple(tried.values()), total=total)
    waiting = {trial.name: found.waiting[trial.name] for trial in unended if trial.name in found.waiting}
    stopped = {*waiting, *(trial.name for trial in found.lost)}
    at_work = [trial.name for trial in unended if trial.state is TrialState.RUNNING]
    change = list(_cancelled(found.lost))
    for trial in unended:
        if not trial.suspended or trial.cancelled or trial.name in stopped:
            continue
        if trial.state is TrialState.WAITING and len(at_work) >= spec.parallelism:
            waiting[trial.name] = f"waits for a place: the sweep trains {spec.parallelism} at a time"
            continue
        change.append(_resumed(trial))
        at_work += [trial.name] if trial.state is TrialState.WAITING else []
    change += [
        _suspended(trial, reason)
        for trial in unended
        if (reason := waiting.get(trial.name)) and (not trial.suspended or trial.suspend_reason != reason)
    ]
    create = _next_runs(sweep, tried, total=total, free=spec.parallelism - len(at_work))
    at_work += [run["metadata"]["name"] for run in create]
    text = f"at work: {', '.join(at_work)}" if at_work else "waiting for earlier trials"
    if waiting:
        text += f"; waiting: {', '.join(waiting)}"
    if found.lost:
        text += f"; ended early: {', '.join(trial.name for trial in found.lost)}"
    pruned = tuple(trial.name for trial in found.lost if not trial.cancelled)
    return SweepPlan(create, tuple(change), pruned, _running(status, text))


def _next_runs(sweep: SweepView, tried: Mapping[int, Trial], *, total: int, free: int) -> tuple[dict[str, Any], ...]:
    """The runs of the trials that come next, as far as places are free and all is known that they are chosen by."""
    spec, trials = sweep.spec, tuple(tried.values())
    create: list[dict[str, Any]] = []
    taken: list[Settings] = []
    for number in range(total):
        if number in tried:
            taken.append(dict(tried[number].settings))
            continue
        before = range(max(0, number - spec.parallelism + 1))
        if len(create) >= free or not all(item in tried and is_informative(spec, tried[item]) for item in before):
            break
        taken.append(propose(spec, trials, number, taken=taken))
        create.append(trial_run(sweep.document, spec, taken[-1], number=number))
    return tuple(create)


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
