"""A trial of a sweep as its TrainingRun tells it. Everything that a sweep knows of its past is here."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from atoll_contract.document import DecodeError
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.train_spec import DEFAULT_STEPS, evaluation_interval
from atoll_operator.api.status import DONE, Phase, RunStatus, StageStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import Body
from atoll_operator.lifecycle.inputs import SUSPEND_REASON_ANNOTATION
from atoll_operator.sweeps.space import REPEAT_LABEL, TOTAL_STEPS_ANNOTATION, TRIAL_LABEL, Settings, settings_of


class TrialState(StrEnum):
    """A trial that waits has not ended, and nothing works on it."""

    RUNNING = "Running"
    WAITING = "Waiting"
    COMPLETED = "Completed"
    PRUNED = "Pruned"
    FAILED = "Failed"


@dataclass(frozen=True)
class Trial:
    """`ap50` is the best of the validation split so far. `total_steps` are those that it was to train, a guess while
    `is_length_known` is false; it is evaluated every `evaluated_every`. `suspend_reason` is what its run says about
    that."""

    number: int
    repeat: int
    name: str
    settings: Settings
    state: TrialState
    ap50: float | None
    steps: int
    total_steps: int
    evaluated_every: int
    held: bool
    suspended: bool
    cancelled: bool
    status: RunStatus
    suspend_reason: str = ""
    is_length_known: bool = True

    @property
    def has_ended(self) -> bool:
        return self.state not in (TrialState.RUNNING, TrialState.WAITING)

    def best_at(self, step: int | Fraction) -> float | None:
        """The best AP50 up to a step; None where the training is not there yet or no measurement before it is known."""
        points = [point for point in self.status.learning_curve or () if point.step <= step]
        return float(points[-1].ap50) if points and self.steps >= step else None

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
    annotations = metadata.get("annotations") or {}
    known_total = _total_steps(run, status)
    total = known_total or DEFAULT_STEPS
    trained = status.progress.step or 0 if status.progress and status.progress.stage is Stage.TRAIN else 0
    train = next((item for item in status.stages if item.name is Stage.TRAIN), StageStatus(Stage.TRAIN))
    curve = status.learning_curve or ()
    known = max(trained, train.checkpoint_step or 0, curve[-1].step if curve else 0)
    steps = total if train.phase in DONE else known
    return Trial(
        number=number,
        repeat=repeat,
        name=metadata["name"],
        settings=settings,
        state=_state(status, suspended=bool(spec.get("suspend"))),
        ap50=float(curve[-1].ap50) if curve else None,
        steps=steps,
        total_steps=total,
        evaluated_every=evaluation_interval(total, (spec.get("training") or {}).get("evalEverySteps")),
        held=bool(spec.get("holdPublish")),
        suspended=bool(spec.get("suspend")),
        cancelled=bool(spec.get("cancel")),
        status=status,
        suspend_reason=annotations.get(SUSPEND_REASON_ANNOTATION, ""),
        is_length_known=known_total is not None,
    )


def _total_steps(run: Body, status: RunStatus) -> int | None:
    noted = (run["metadata"].get("annotations") or {}).get(TOTAL_STEPS_ANNOTATION, "")
    reported = status.progress.total_steps if status.progress else None
    return run["spec"].get("training", {}).get("steps") or (int(noted) if noted.isdecimal() else None) or reported


def _state(status: RunStatus, *, suspended: bool) -> TrialState:
    is_measured = any(item.name is Stage.EXPORT and item.phase in DONE for item in status.stages)
    if is_measured or status.reason is Reason.QUALITY_GATE_FAILED:
        return TrialState.COMPLETED
    if status.phase is Phase.CANCELLED:
        return TrialState.PRUNED
    if status.phase is Phase.FAILED:
        return TrialState.FAILED
    return TrialState.WAITING if suspended and status.phase is Phase.SUSPENDED else TrialState.RUNNING
