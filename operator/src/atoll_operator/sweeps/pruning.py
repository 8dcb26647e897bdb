"""Which trials are ended early, and which wait for others meanwhile. Pure.

Successive halving (Jamieson and Talwalkar 2016), in its synchronous form: every trial is trained to the first rung and
waits there, suspended with its checkpoint, until all are as far. The best go on to the next rung, and the others end.
So each is compared with all others at the same part of its steps, whichever came first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median

from atoll_operator.api.sweep import Pruning, TrainingSweepSpec
from atoll_operator.sweeps.trials import Trial, TrialState

# Where trials are compared, as parts of their own steps, and which part of all trials goes on from there. By default a
# training is evaluated after every sixth of its steps, so it is measured at both. Twelve trials take 47 % of the steps.
RUNGS = ((Fraction(1, 3), 3), (Fraction(1, 2), 6))
# So many are trained to the end at least: the best at a rung is not always the best at the end.
_MIN_FINALISTS = 2
# Where the median ends a trial; at the second only one that found nothing at the first.
_MEDIAN_RUNGS = (Fraction(1, 9), Fraction(2, 9), Fraction(1, 3))
_MIN_COMPLETED = 2
# AP50 is compared in whole points. What is less is chance.
_DIGITS = 2


@dataclass(frozen=True)
class Selection:
    """`lost` are to be ended. `waiting` are to be suspended: by name, why."""

    lost: tuple[Trial, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)


def select(spec: TrainingSweepSpec, trials: Sequence[Trial], *, total: int) -> Selection:
    """What becomes of the trials that there are so far, of `total`; repeats with other seeds are none of them."""
    if spec.halves:
        return _halved(trials, total=total)
    if spec.pruning is Pruning.MEDIAN:
        return Selection(tuple(trial for trial in trials if _is_behind(spec, trials, trial)))
    return Selection()


def is_informative(spec: TrainingSweepSpec, trial: Trial) -> bool:
    """Whether all is known of a trial that the choice of later settings depends on."""
    return trial.has_ended or (spec.halves and _has_reached(trial, 0))


def first_figure(trial: Trial) -> float | None:
    """The AP50 at the first rung, where all trials are measured; None where it did not come so far."""
    return _figure(trial, 0) if trial.has_ended or _has_reached(trial, 0) else None


def rung_step(trial: Trial, rung: int) -> int:
    """The step of a rung: the last evaluation up to that part of the trial's steps, or else the first one."""
    every = trial.evaluated_every
    step = int(trial.total_steps * RUNGS[rung][0]) // every * every
    return min(trial.total_steps, max(every, step))


def _halved(trials: Sequence[Trial], *, total: int) -> Selection:
    lost: list[Trial] = []
    left = [
        trial for trial in trials if not trial.cancelled and trial.state not in (TrialState.PRUNED, TrialState.FAILED)
    ]
    for rung, (_, divisor) in enumerate(RUNGS):
        # Of all that there will be, and not of those that are left: so it stays the same as trials end.
        keep = max(_MIN_FINALISTS, total // divisor)
        is_whole = len(trials) == total
        if total <= keep or (is_whole and len(left) <= keep):
            continue
        if not is_whole or not all(trial.has_ended or _has_reached(trial, rung) for trial in left):
            waiting = [trial for trial in left if _may_stop(trial) and _has_reached(trial, rung)]
            return Selection(tuple(lost), {trial.name: _reason(trial, rung) for trial in waiting})
        ranked = sorted(left, key=lambda trial: _rank(trial, rung))
        if not _points(_figure(ranked[0], rung)):
            # None finds anything yet: an order would be chance.
            continue
        lost += [trial for trial in ranked[keep:] if _may_stop(trial)]
        left = ranked[:keep]
    return Selection(tuple(lost))


def _may_stop(trial: Trial) -> bool:
    """Whether something is saved where it stops here: a trial with its last step behind it is measured in any case."""
    return not trial.has_ended and trial.steps < trial.total_steps


def _has_reached(trial: Trial, rung: int) -> bool:
    """Whether a trial is at a rung. What its run tells of its steps may be less once it is suspended."""
    if not trial.is_length_known:
        return False
    return trial.steps >= rung_step(trial, rung) or (trial.suspended and trial.suspend_reason == _reason(trial, rung))


def _reason(trial: Trial, rung: int) -> str:
    step = rung_step(trial, rung)
    return (
        f"waits at step {step} of {trial.total_steps}: the sweep compares its trials there, and then resumes or ends it"
    )


def _rank(trial: Trial, rung: int) -> tuple[float, float, int]:
    """The best first: by whole points, then by what is less, then by number."""
    value = _figure(trial, rung)
    return -(_points(value) or 0.0), -(value or 0.0), trial.number


def _figure(trial: Trial, rung: int) -> float | None:
    """The best AP50 up to a rung; where none is known of before it, the first one after it."""
    curve = trial.status.learning_curve or ()
    before = [point for point in curve if point.step <= rung_step(trial, rung)]
    return float((before[-1:] or curve[:1])[0].ap50) if curve else None


def _points(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _is_behind(spec: TrainingSweepSpec, trials: Iterable[Trial], trial: Trial) -> bool:
    """Whether a trial is worse than the median at one of the rungs. A detector without start weights may find nothing
    at the first one, whatever its settings; only then the second one decides in its place."""
    if trial.has_ended or trial.cancelled:
        return False
    counted = [item for item in trials if item.number <= trial.number - spec.parallelism]
    completed = [item for item in counted if item.state is TrialState.COMPLETED]
    for number, part in enumerate(_MEDIAN_RUNGS):
        value = _at(trial, part)
        if value is None or (number == 1 and _at(trial, _MEDIAN_RUNGS[0])):
            continue
        known = [other for item in completed if (other := _at(item, part)) is not None]
        if len(known) >= _MIN_COMPLETED and value < median(known):
            return True
    return False


def _at(trial: Trial, part: Fraction) -> float | None:
    return _points(trial.best_at(trial.total_steps * part))
