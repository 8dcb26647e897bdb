"""Asks Optuna which settings a trial gets.

Optuna keeps nothing: its study is built anew from the trials each time. So that a trial's settings do not depend on
when somebody asks, only trials that are `parallelism` or more before it count, and all of those must have ended or,
where trials are halved, have come to the first rung.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from atoll_operator.api.sweep import Algorithm, Parameter, Scale, TrainingSweepSpec
from atoll_operator.sweeps.pruning import first_figure
from atoll_operator.sweeps.space import Settings, grid, is_whole, size, text_of
from atoll_operator.sweeps.trials import Trial, TrialState

if TYPE_CHECKING:
    import optuna

# Before so many results a choice by results is a choice by chance.
_STARTUP_TRIALS = 4
# Optuna's random numbers are drawn anew where they give settings that were tried before.
_REDRAWS = 20


def number_of_trials(spec: TrainingSweepSpec) -> int:
    """How many trials the sweep has: no more than there are different settings."""
    return int(min(spec.trials, size(spec.parameters)))


def propose(spec: TrainingSweepSpec, trials: Sequence[Trial], number: int, *, taken: Sequence[Settings]) -> Settings:
    """The settings of the trial with this number. `taken` are those of every trial before it."""
    if spec.algorithm is Algorithm.GRID:
        return grid(spec)[number]
    earlier = [item for item in trials if item.repeat == 0 and item.number <= number - spec.parallelism]
    for draw in range(_REDRAWS):
        settings = _ask(spec, earlier, seed=spec.seed + 1000 * number + draw)
        if settings not in taken:
            break
    return settings


def _ask(spec: TrainingSweepSpec, earlier: Sequence[Trial], *, seed: int) -> dict[str, str]:
    import optuna

    sampler = _random(seed)
    if spec.algorithm is Algorithm.TPE:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    study = _study(spec, earlier, sampler=sampler)
    found = study.ask({item.name: _distribution(item) for item in spec.parameters})
    return {item.name: _text(item, found.params[item.name]) for item in spec.parameters}


def _random(seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


def _study(
    spec: TrainingSweepSpec, trials: Iterable[Trial], *, sampler: optuna.samplers.BaseSampler
) -> optuna.study.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        if not _fits(spec, trial):
            continue
        replayed = _replayed(study, spec, trial)
        if (value := _result(spec, trial)) is not None:
            study.tell(replayed, value)
        elif trial.state is TrialState.PRUNED and trial.ap50 is not None:
            replayed.report(trial.ap50, trial.steps)
            study.tell(replayed, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(replayed, state=optuna.trial.TrialState.FAIL)
    return study


def _result(spec: TrainingSweepSpec, trial: Trial) -> float | None:
    """The AP50 that settings are chosen by; None where a trial has none."""
    if spec.halves:
        return first_figure(trial)
    return trial.ap50 if trial.state is TrialState.COMPLETED else None


def _fits(spec: TrainingSweepSpec, trial: Trial) -> bool:
    """Whether its settings are of the sweep's space: somebody may have changed the annotation that has them."""
    if set(trial.settings) != {item.name for item in spec.parameters}:
        return False
    return all(_is_value(item, trial.settings[item.name]) for item in spec.parameters)


def _is_value(parameter: Parameter, text: str) -> bool:
    if parameter.values is not None:
        return text in parameter.values
    assert parameter.min is not None
    assert parameter.max is not None
    try:
        return parameter.min <= _value(parameter, text) <= parameter.max
    except ValueError:
        return False


def _replayed(study: optuna.study.Study, spec: TrainingSweepSpec, trial: Trial) -> optuna.trial.Trial:
    """The trial as Optuna has it, with its own settings."""
    settings = trial.settings
    study.enqueue_trial(
        {
            item.name: settings[item.name] if item.values is not None else _value(item, settings[item.name])
            for item in spec.parameters
        }
    )
    return study.ask({item.name: _distribution(item) for item in spec.parameters})


def _distribution(parameter: Parameter) -> Any:
    import optuna

    if parameter.values is not None:
        return optuna.distributions.CategoricalDistribution(parameter.values)
    assert parameter.min is not None
    assert parameter.max is not None
    log = parameter.scale is Scale.LOG
    if is_whole(parameter):
        return optuna.distributions.IntDistribution(round(parameter.min), round(parameter.max), log=log)
    return optuna.distributions.FloatDistribution(float(parameter.min), float(parameter.max), log=log)


def _value(parameter: Parameter, text: str) -> int | float:
    return int(text) if is_whole(parameter) else float(text)


def _text(parameter: Parameter, value: Any) -> str:
    return str(value) if parameter.values is not None else text_of(parameter, float(value))
