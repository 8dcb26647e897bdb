"""Estimates how long a run takes: from earlier runs as `status.estimate` does, or from a benchmark here. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import RunTarget
from atoll_contract.document import DecodeError, replace
from atoll_contract.tool_reports import Timing
from atoll_contract.train_spec import Accelerator
from atoll_operator.api import API_VERSION
from atoll_operator.api.decode import training_run
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import TrainingRunSpec
from atoll_operator.api.validation import check
from atoll_operator.controller.queue import EstimateModel

# Estimates for no steps and for this many give the seconds of one step.
_MANY_STEPS = 1_000_000


@dataclass(frozen=True)
class ThroughputEstimate:
    """A run takes `fixed` seconds and `per_step` seconds for each step; `basis` says where the numbers come from."""

    fixed: float
    per_step: float
    basis: str

    def seconds(self, steps: int) -> float:
        return self.fixed + self.per_step * steps

    def steps(self, seconds: float) -> int:
        """How many steps fit into that time."""
        return int(max(0.0, seconds - self.fixed) / self.per_step)


def estimate_from_runs(target: RunTarget, settings: Settings) -> ThroughputEstimate | None:
    """The throughput of the newest successful run with these settings, else that of the profile, else None."""
    timings = EstimateModel()
    for run in target.runs:
        _learn(timings, run)
    # The operator selects the accelerator; the local engine leaves that to TensorFlow.
    on = (Accelerator.GPU if target.gpu else Accelerator.CPU) if target.cluster else Accelerator.AUTO
    spec = _spec(target, settings)
    none, many = (
        timings.estimate(
            target.namespace,
            replace(spec, training=replace(spec.training, steps=steps)),
            on=on,
            default=target.estimate,
        )
        for steps in (0, _MANY_STEPS)
    )
    if none is None or many is None:
        return None
    return ThroughputEstimate(none.seconds, (many.seconds - none.seconds) / _MANY_STEPS, none.basis)


def estimate_from_benchmark(timing: Timing) -> ThroughputEstimate:
    """The throughput that a few timed steps predict for the whole run."""
    device = "its GPU" if timing.accelerator == "gpu" else f"{timing.cpus} CPUs"
    shown = f"{timing.seconds_per_step:.2f}" if timing.seconds_per_step < 10 else f"{timing.seconds_per_step:.0f}"
    basis = f"a few steps timed on this machine ({device}): {shown} s a step"
    return ThroughputEstimate(timing.other_seconds, timing.seconds_per_step, basis)


def _learn(timings: EstimateModel, run: Mapping[str, Any]) -> None:
    try:
        status = read_status(run.get("status"))
    except DecodeError:
        return
    if status is not None:
        timings.learn(run, status)


def _spec(target: RunTarget, settings: Settings) -> TrainingRunSpec:
    """A run with the fields that its duration depends on."""
    spec = {
        "profileRef": {"name": target.profile},
        "datasets": [{"key": "any.tar"}],
        "model": {"architecture": str(settings.architecture), "width": str(settings.width)},
        "training": {"batchSize": settings.batch, "initFrom": {"type": "random"}},
        "publish": {"model": "any"},
    }
    document = {"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": {"name": "any"}, "spec": spec}
    checked = check(document)
    assert not checked.problems, checked.problems
    return training_run(checked.value)
