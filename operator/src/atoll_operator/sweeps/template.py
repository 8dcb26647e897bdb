"""Whether the runs of a sweep would be valid TrainingRuns, before there is any. Pure."""

from dataclasses import replace

from atoll_operator.api.problems import Problem
from atoll_operator.api.sweep import TrainingSweepSpec, training_sweep
from atoll_operator.api.types import Body
from atoll_operator.api.validation import check
from atoll_operator.api.yaml import Path
from atoll_operator.sweeps.space import corner_settings, trial_run

_TEMPLATE: Path = ("spec", "template")


def template_problems(document: Body) -> tuple[Problem, ...]:
    """The problems of the runs that a valid TrainingSweep would make, each at the field of the sweep that it is about:
    one of the template, or the parameter whose value it is."""
    spec = training_sweep(document)
    sweep = {**document, "metadata": {"namespace": "default", **document["metadata"], "uid": "check"}}
    found: dict[tuple[Path, str], Problem] = {}
    for settings in corner_settings(spec):
        for problem in check(trial_run(sweep, spec, settings, number=0)).problems:
            located = _located(spec, problem)
            found.setdefault((located.path, located.message), located)
    return tuple(found.values())


def _located(spec: TrainingSweepSpec, problem: Problem) -> Problem:
    names, path = [parameter.name for parameter in spec.parameters], problem.path
    if path and path[-1] in names:
        located: Path = ("spec", "parameters", names.index(str(path[-1])))
        plain = f"{path[-1]}: {problem.plain}" if problem.plain else ""
        return replace(problem, path=located, message=f"{path[-1]}: {problem.message}", plain=plain)
    return replace(problem, path=(*_TEMPLATE, *path) if path[:1] == ("spec",) else _TEMPLATE)
