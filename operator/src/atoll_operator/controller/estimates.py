"""Estimates how long a run takes: the seconds per image of the newest run of its kind, times the images it will see.

Runs are of one kind if they share namespace, profile, architecture, width, accelerator and number of GPUs. The model is
kept in the process and learns from the runs that the API server has, so after a restart it knows only those.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atoll_contract.document import DecodeError
from atoll_contract.errors import Reason, SpecError, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.parse import training_run
from atoll_operator.api.status import Estimate, Phase, RunStatus
from atoll_operator.api.types import ESTIMATE_BATCH_SIZE, ProfileEstimate, TrainingRunSpec
from atoll_operator.lifecycle.progress import duration

# The kind learned first gives way.
MAX_KINDS = 1000
_MAX_BASIS = 256


@dataclass(frozen=True)
class _Kind:
    namespace: str
    profile: str
    architecture: str
    width: float
    on: str
    gpus: int


@dataclass(frozen=True)
class _Timing:
    run: str
    ended: str
    seconds_per_image: float
    # The time that the run was active and did not train.
    other_seconds: int


class EstimateModel:
    """The times of runs that succeeded. For one thread at a time."""

    def __init__(self) -> None:
        self._newest: dict[_Kind, _Timing] = {}
        self._learned: set[str] = set()

    def learn(self, run: Mapping[str, Any], status: RunStatus) -> None:
        """Learns the times of a run that succeeded, unless one of its kind ended later. Does nothing for others."""
        uid = run["metadata"]["uid"]
        if status.phase is not Phase.SUCCEEDED or uid in self._learned:
            return
        try:
            spec = training_run(run)
        except (SpecError, KeyError, DecodeError):
            # Written by another version.
            return
        self._learned.add(uid)
        timing = _timing(run["metadata"]["name"], spec, status)
        if timing is None:
            return
        kind = _kind(run["metadata"]["namespace"], spec, on=status.resolved.accelerator if status.resolved else "auto")
        known = self._newest.pop(kind, None)
        self._newest[kind] = known if known is not None and known.ended > timing.ended else timing
        if len(self._newest) > MAX_KINDS:
            del self._newest[next(iter(self._newest))]

    def forget(self, uid: str) -> None:
        """Called when the run is deleted. Its times stay."""
        self._learned.discard(uid)

    def estimate(
        self, namespace: str, spec: TrainingRunSpec, *, on: str, default: ProfileEstimate | None
    ) -> Estimate | None:
        """Returns an estimate by the newest run of the kind, else by the profile's `default`, else None."""
        timing = self._newest.get(_kind(namespace, spec, on=on))
        if timing is not None:
            per_step = timing.seconds_per_image * spec.training.batch_size
            return _estimate(spec, per_step, timing.other_seconds, f"as in run {timing.run}")
        if default is not None:
            per_step = default.seconds_per_step * spec.training.batch_size / ESTIMATE_BATCH_SIZE
            return _estimate(spec, per_step, default.other_seconds, f"by TrainingProfile {spec.profile}")
        return None


def _timing(name: str, spec: TrainingRunSpec, status: RunStatus) -> _Timing | None:
    train = next((item for item in status.stages if item.name is Stage.TRAIN), None)
    # A training that was adopted took its time in an earlier attempt.
    if train is None or train.pod_seconds <= 0 or train.reason is Reason.ADOPTED or status.completion_time is None:
        return None
    images = spec.training.steps * spec.training.batch_size
    others = sum(item.pod_seconds for item in status.stages if item is not train)
    # A retry sets the active time back.
    other = max(others, status.active_seconds - train.pod_seconds)
    return _Timing(name, status.completion_time, train.pod_seconds / images, other)


def _kind(namespace: str, spec: TrainingRunSpec, *, on: str) -> _Kind:
    return _Kind(namespace, spec.profile, str(spec.model.architecture), spec.model.width, on, spec.training.gpus)


def _estimate(spec: TrainingRunSpec, per_step: float, other_seconds: int, why: str) -> Estimate:
    shown = f"{per_step:.1f}" if per_step >= 1 else f"{per_step:.2g}"
    basis = f"{shown} s a step {why}, and {duration(other_seconds)} for the other stages"
    return Estimate(round(per_step * spec.training.steps) + other_seconds, bounded(basis, _MAX_BASIS))
