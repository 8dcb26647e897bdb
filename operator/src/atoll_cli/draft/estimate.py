"""How long a run would take: as `status.estimate` will have it, or by steps timed on this machine. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import Place
from atoll_contract.document import DecodeError, replace
from atoll_contract.stage import Accelerator
from atoll_contract.tool_reports import Timing
from atoll_operator.api import API_VERSION
from atoll_operator.api.parse import training_run
from atoll_operator.api.status import read_status
from atoll_operator.api.types import TrainingRunSpec
from atoll_operator.api.validation import check
from atoll_operator.controller.estimates import Timings

# Steps of a run that is only made to tell the time of one.
_MANY = 1_000_000


@dataclass(frozen=True)
class Pace:
    """`fixed` seconds pass whatever the steps, `per_step` with each; `basis` says where the numbers come from."""

    fixed: float
    per_step: float
    basis: str

    def seconds(self, steps: int) -> float:
        return self.fixed + self.per_step * steps

    def steps(self, seconds: float) -> int:
        """How many steps fit into that time."""
        return int(max(0.0, seconds - self.fixed) / self.per_step)


def known_pace(place: Place, settings: Settings) -> Pace | None:
    """The pace of the newest run of this kind that has succeeded there, else what the profile says; None where there is
    neither."""
    timings = Timings()
    for run in place.runs:
        _learn(timings, run)
    # The local engine leaves the choice to TensorFlow, and the operator makes it.
    on = (Accelerator.GPU if place.gpu else Accelerator.CPU) if place.cluster else Accelerator.AUTO
    spec = _spec(place, settings)
    none, many = (
        timings.estimate(place.namespace, _with_steps(spec, steps), on=on, default=place.estimate)
        for steps in (0, _MANY)
    )
    if none is None or many is None:
        return None
    return Pace(none.seconds, (many.seconds - none.seconds) / _MANY, none.basis)


def of_timing(timing: Timing) -> Pace:
    """What a few timed steps say of the whole run."""
    device = "its GPU" if timing.accelerator == "gpu" else f"{timing.cpus} CPUs"
    shown = f"{timing.seconds_per_step:.2f}" if timing.seconds_per_step < 10 else f"{timing.seconds_per_step:.0f}"
    basis = f"a few steps timed on this machine ({device}): {shown} s a step"
    return Pace(timing.other_seconds, timing.seconds_per_step, basis)


def _learn(timings: Timings, run: Mapping[str, Any]) -> None:
    try:
        status = read_status(run.get("status"))
    except DecodeError:
        return
    if status is not None:
        timings.learn(run, status)


def _spec(place: Place, settings: Settings) -> TrainingRunSpec:
    """The run as far as its time depends on it."""
    spec = {
        "profileRef": {"name": place.profile},
        "datasets": [{"key": "any.tar"}],
        "model": {"architecture": str(settings.architecture), "width": str(settings.width)},
        "training": {"batchSize": settings.batch, "initFrom": {"type": "random"}},
        "publish": {"model": "any"},
    }
    document = {"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": {"name": "any"}, "spec": spec}
    checked = check(document)
    assert not checked.problems, checked.problems
    return training_run(checked.value)


def _with_steps(spec: TrainingRunSpec, steps: int) -> TrainingRunSpec:
    return replace(spec, training=replace(spec.training, steps=steps))
