"""A trial of a sweep as its TrainingRun tells it. Everything that a sweep knows of its past is here."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from atoll_contract.document import DecodeError
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.train_spec import DEFAULT_STEPS
from atoll_operator.api.status import DONE, Phase, RunStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import Body
from atoll_operator.sweeps.space import REPEAT_LABEL, TRIAL_LABEL, Settings, settings_of

# The parts of a trial's own steps after which it may be ended.
RUNGS = (Fraction(1, 9), Fraction(2, 9), Fraction(1, 3))


class TrialState(StrEnum):
    RUNNING = "Running"
    COMPLETED = "Completed"
    PRUNED = "Pruned"
    FAILED = "Failed"


@dataclass(frozen=True)
class Trial:
    """`ap50` is the best of the validation split so far, and `rungs` the best after each of `RUNGS`, None where that is
    not known or not reached. `total_steps` are those that it was to train."""

    number: int
    repeat: int
    name: str
    settings: Settings
    state: TrialState
    ap50: float | None
    rungs: tuple[float | None, ...]
    steps: int
    total_steps: int
    held: bool
    suspended: bool
    cancelled: bool
    status: RunStatus

    @property
    def has_ended(self) -> bool:
        return self.state is not TrialState.RUNNING

    @property
    def may_be_published(self) -> bool:
        """Whether its run waits for that, or has it behind it."""
        return self.state is TrialState.COMPLETED and self.status.phase not in (Phase.FAILED, Phase.CANCELLED)


def trials_of(sweep: Body, runs: Iterable[Body]) -> list[Trial]:
    """The trials among `runs`, by number: those that the sweep owns. A run that only bears its label is none."""
    uid = sweep["metadata"]["uid"]
    found = (_trial(run) for run in runs if _owner(run) == uid and "deletionTimestamp" not in run["metadata"])
    return sorted((trial for trial in found if trial is not None), key=lambda trial: (trial.number, trial.repeat))


def _owner(run: Body) -> str:
    owners = run["metadata"].get("ownerReferences") or ()
    return next((item["uid"] for item in owners if item.get("controller")), "")


def _trial(run: Body) -> Trial | None:
    metadata, spec = run["metadata"], run["spec"]
    labels = metadata.get("labels") or {}
    try:
        number, repeat = int(labels[TRIAL_LABEL]), int(labels.get(REPEAT_LABEL, "0"))
        settings = settings_of(run)
        status = read_status(run.get("status")) or RunStatus()
    except (KeyError, ValueError, TypeError, AttributeError, DecodeError):
        # Its labels or its status were changed by hand.
        return None
    total = _total_steps(run, status)
    trained = status.progress.step or 0 if status.progress and status.progress.stage is Stage.TRAIN else 0
    is_trained = any(item.name is Stage.TRAIN and item.phase in DONE for item in status.stages)
    curve = status.learning_curve or ()
    steps = total if is_trained else max(trained, curve[-1].step if curve else 0)
    return Trial(
        number=number,
        repeat=repeat,
        name=metadata["name"],
        settings=settings,
        state=_state(status),
        ap50=float(curve[-1].ap50) if curve else None,
        rungs=tuple(_best_at(status, total * part, reached=steps) for part in RUNGS),
        steps=steps,
        total_steps=total,
        held=bool(spec.get("holdPublish")),
        suspended=bool(spec.get("suspend")),
        cancelled=bool(spec.get("cancel")),
        status=status,
    )


def _total_steps(run: Body, status: RunStatus) -> int:
    known = status.progress.total_steps if status.progress else None
    return int(run["spec"].get("training", {}).get("steps") or known or DEFAULT_STEPS)


def _state(status: RunStatus) -> TrialState:
    is_measured = any(item.name is Stage.EXPORT and item.phase in DONE for item in status.stages)
    if is_measured or status.reason is Reason.QUALITY_GATE_FAILED:
        return TrialState.COMPLETED
    if status.phase is Phase.CANCELLED:
        return TrialState.PRUNED
    return TrialState.FAILED if status.phase is Phase.FAILED else TrialState.RUNNING


def _best_at(status: RunStatus, step: Fraction, *, reached: int) -> float | None:
    """The best AP50 up to a step; None where the training is not there yet or no measurement before it is known."""
    points = [point for point in status.learning_curve or () if point.step <= step]
    return float(points[-1].ap50) if points and reached >= step else None
