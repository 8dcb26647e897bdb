"""Simulates what is around a sweep's `decide`: its TrainingRuns, whose AP50 follows from their settings, and an engine
that carries plans out one write at a time and may be killed before any of them."""

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from atoll_contract.document import replace, to_dict
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import (
    CurvePoint,
    Phase,
    ProgressStatus,
    ReleaseStatus,
    RunStatus,
    StagePhase,
    StageStatus,
)
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.api.sweep import SweepStatus, read_sweep_status, training_sweep
from atoll_operator.api.validation import check
from atoll_operator.sweeps.decide import SpecChange, SweepPlan, SweepView, decide
from atoll_operator.sweeps.trials import Trial, trials_of

START = datetime(2027, 1, 9, 18, 0, tzinfo=UTC)
STEPS = 900
EVERY = 50

SWEEP = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingSweep",
    "metadata": {"name": "ball", "namespace": "team"},
    "spec": {
        "template": {
            "spec": {
                "datasets": [{"key": "datasets/team/pictures.tar"}],
                "training": {"steps": STEPS, "evalEverySteps": EVERY},
                "publish": {"model": "ball"},
            }
        },
        "parameters": [
            {"name": "learningRate", "min": "0.0001", "max": "0.1", "scale": "log"},
            {"name": "width", "values": ["0.35", "0.5", "1.0"]},
        ],
        "trials": 12,
    },
}

# AP50 at the end of a training with these settings.
Score = Callable[[Mapping[str, str]], float]


class Killed(Exception):
    """The engine was killed before a write."""


def score(settings: Mapping[str, str]) -> float:
    """Best at a rate of .004 and full width."""
    distance = abs(math.log10(float(settings["learningRate"])) - math.log10(0.004))
    return max(0.02, 0.9 - 0.3 * distance - 0.2 * (1.0 - float(settings["width"])))


def sweep_document(**spec: Any) -> dict[str, Any]:
    """A valid sweep with its defaults."""
    document = json.loads(json.dumps(SWEEP))
    document["spec"] |= spec
    checked = check(document)
    assert not checked.problems, checked.problems
    value: dict[str, Any] = json.loads(json.dumps(checked.value))
    value["metadata"] |= {"uid": "5feeb000-0000-4000-8000-000000000001", "generation": 1}
    return value


@dataclass
class SweepSimulation:
    """`kill` is called before each write, and raises Killed where the engine is to die."""

    sweep: dict[str, Any] = field(default_factory=sweep_document)
    score: Score = score
    kill: Callable[[], None] = lambda: None
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: datetime = START
    releases: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    # Runs that end with this reason instead of a result.
    failing: Mapping[str, Reason] = field(default_factory=dict)
    # Until then a training finds next to nothing, and what it finds is no sign of what it will find.
    silent_steps: int = 0
    # Steps of each run that its checkpoint has; what its status tells of them goes as it is suspended.
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> SweepStatus:
        found = read_sweep_status(self.sweep.get("status"))
        assert found is not None
        return found

    def trials(self) -> list[Trial]:
        return trials_of(self.sweep, self.runs.values())

    def reconcile(self) -> SweepPlan:
        """One decision and its writes."""
        spec = training_sweep(self.sweep)
        view = SweepView(self.sweep, spec, read_sweep_status(self.sweep.get("status")))
        plan = decide(view, self.trials(), self.now)
        for run in plan.create:
            self.kill()
            self._create(run)
        for change in plan.change:
            self.kill()
            self._change(change)
        self.kill()
        self.sweep["status"] = to_dict(plan.status)
        return plan

    def _create(self, run: dict[str, Any]) -> None:
        name = run["metadata"]["name"]
        if name not in self.runs:
            assert check(run).problems == ()
            self.created.append(name)
            self.runs[name] = run | {"status": {}}

    def _change(self, change: SpecChange) -> None:
        run = self.runs[change.run]
        run["spec"] |= change.spec
        noted = run["metadata"]["annotations"] | change.annotations
        run["metadata"]["annotations"] = {key: text for key, text in noted.items() if text is not None}

    def tick(self) -> None:
        """Every run goes on a little: by `EVERY` steps, to its measurement, to its release."""
        self.now += timedelta(seconds=30)
        for run in self.runs.values():
            run["status"] = self.next_status(run)

    def next_status(self, run: dict[str, Any]) -> dict[str, Any]:
        """The status of a run a little later."""
        return write_status(self._next(run, read_status(run.get("status")) or RunStatus()))

    def _next(self, run: dict[str, Any], status: RunStatus) -> RunStatus:
        spec, name = run["spec"], run["metadata"]["name"]
        if status.is_terminal:
            return status
        if spec.get("cancel"):
            return replace(status, phase=Phase.CANCELLED, reason=Reason.CANCELLED, message="cancelled by spec.cancel")
        if spec.get("suspend"):
            text = run["metadata"]["annotations"].get("atoll.dev/suspend-reason", "suspended")
            idle = ProgressStatus(50, "50%")
            return replace(status, phase=Phase.SUSPENDED, reason=Reason.SUSPENDED, message=text, progress=idle)
        step = self.steps.get(name, 0)
        if status.stages and spec.get("holdPublish"):
            return replace(status, phase=Phase.SUSPENDED, reason=Reason.SUSPENDED)
        if status.stages:
            self.releases.append(name)
            release = ReleaseStatus(f"ball-v{len(self.releases)}", len(self.releases))
            return replace(status, phase=Phase.SUCCEEDED, reason=Reason.COMPLETED, release=release)
        if name in self.failing:
            reason = self.failing[name]
            return replace(status, phase=Phase.FAILED, reason=reason, message=f"{reason} happened")
        if step >= STEPS:
            done = tuple(StageStatus(item, StagePhase.SUCCEEDED) for item in (Stage.CONVERT, Stage.TRAIN, Stage.EXPORT))
            return replace(status, stages=done)
        step += EVERY
        self.steps[name] = step
        settings = json.loads(run["metadata"]["annotations"]["atoll.dev/parameters"])
        # The seed of a repeat moves the result a little.
        chance = 0.001 * int(spec["training"].get("seed", 0))
        ap50 = (self.score(settings) + chance) * math.sqrt(step / STEPS)
        if step <= self.silent_steps:
            ap50 = 0.001 - ap50 / 1000
        curve = status.learning_curve or ()
        if not curve or ap50 > float(curve[-1].ap50):
            curve = (*curve, CurvePoint(step, f"{ap50:.4f}"))
        progress = ProgressStatus(50, "50%", stage=Stage.TRAIN, step=step, total_steps=STEPS)
        return replace(status, phase=Phase.TRAINING, reason=Reason.RUNNING, progress=progress, learning_curve=curve)

    def finish(self, limit: int = 2000) -> SweepStatus:
        """Until the sweep has ended."""
        for _ in range(limit):
            try:
                plan = self.reconcile()
            except Killed:
                continue
            if plan.status.is_terminal:
                return self.status
            if not (plan.create or plan.change):
                self.tick()
        raise AssertionError(self.sweep["status"])


def killer(seed: int) -> Callable[[], None]:
    """Kills before one write of three."""
    chance = random.Random(seed)

    def kill() -> None:
        if chance.random() < 1 / 3:
            raise Killed

    return kill
