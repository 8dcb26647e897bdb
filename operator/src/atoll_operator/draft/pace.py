"""How long a run would take: by runs of the same settings that have ended, or by steps timed on this machine. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll_contract.codec import DecodeError
from atoll_contract.stage import Stage
from atoll_contract.timing import Timing
from atoll_operator.decide.progress import duration
from atoll_operator.draft.settings import Settings
from atoll_operator.status import Phase, RunStatus, parse_time
from atoll_operator.status_document import read_status

Body = Mapping[str, Any]


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


def of_earlier_run(runs: Iterable[Body], settings: Settings, *, model: str) -> Pace | None:
    """The pace of the newest run with this detector and batch that succeeded at the first try; those of the same
    model first. None where there is none."""
    found = [pace for run in runs if (pace := _ended(run, settings)) is not None]
    found.sort(key=lambda item: (item[0] == model, item[1]))
    return found[-1][2] if found else None


def of_timing(timing: Timing) -> Pace:
    """What a few timed steps say of the whole run."""
    device = "its GPU" if timing.accelerator == "gpu" else f"{timing.cpus} CPUs"
    basis = f"a few steps timed on this machine ({device}): {_per_step(timing.seconds_per_step)}"
    return Pace(timing.other_seconds, timing.seconds_per_step, basis)


def _ended(run: Body, settings: Settings) -> tuple[str, str, Pace] | None:
    spec = run["spec"]
    same = (spec["model"]["architecture"], float(spec["model"]["width"]), spec["training"].get("batchSize"))
    status = _status(run)
    if status is None or status.phase is not Phase.SUCCEEDED or not status.stages:
        return None
    if same != (settings.architecture, settings.width, settings.batch):
        return None
    train = status.stage(Stage.TRAIN)
    if train.attempts != 1 or not train.start_time or not train.completion_time or not status.active_seconds:
        return None
    trained = (parse_time(train.completion_time) - parse_time(train.start_time)).total_seconds()
    steps = spec["training"].get("steps", 0)
    if trained <= 0 or not steps:
        return None
    pace = trained / steps
    basis = f"run {run['metadata']['name']} took {duration(status.active_seconds)}, {_per_step(pace)}"
    return spec["publish"]["model"], train.completion_time, Pace(max(0.0, status.active_seconds - trained), pace, basis)


def _status(run: Body) -> RunStatus | None:
    try:
        return read_status(run.get("status"))
    except DecodeError:
        return None


def _per_step(seconds: float) -> str:
    return f"{seconds:.2f} s a step" if seconds < 10 else f"{seconds:.0f} s a step"
