"""TrainingSweep: its spec, shaped as the YAML, and its status as a document."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import field

from atoll_contract.document import Document, from_dict
from atoll_contract.errors import Reason
from atoll_operator.api.decode import decoded
from atoll_operator.api.status import Condition
from atoll_operator.api.types import ApiType, Body, Decimal


class Scale(StrEnum):
    LINEAR = "linear"
    LOG = "log"


class Algorithm(StrEnum):
    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"


class Pruning(StrEnum):
    """`asha` is a former name of `halving`."""

    HALVING = "halving"
    ASHA = "asha"
    MEDIAN = "median"
    NONE = "none"


class Parameter(ApiType, frozen=True):
    """A setting that differs between trials: one of `values`, or a number from `min` to `max`."""

    name: str
    values: tuple[str, ...] | None = None
    min: Decimal | None = None
    max: Decimal | None = None
    scale: Scale = Scale.LINEAR


class RunTemplate(ApiType, frozen=True):
    spec: Body


class TrainingSweepSpec(ApiType, frozen=True):
    template: RunTemplate
    parameters: tuple[Parameter, ...]
    suspend: bool = False
    cancel: bool = False
    trials: int = 12
    parallelism: int = 1
    algorithm: Algorithm = Algorithm.TPE
    pruning: Pruning = Pruning.HALVING
    seed: int = 0
    repeats: int = 1

    @property
    def halves(self) -> bool:
        """Whether its trials wait for each other and are compared at the same part of their steps."""
        return self.pruning in (Pruning.HALVING, Pruning.ASHA)


class SweepPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


_ENDED = frozenset({SweepPhase.SUCCEEDED, SweepPhase.FAILED, SweepPhase.CANCELLED})


class TrialCounts(Document, frozen=True):
    """`display` is for the printer column."""

    display: str
    total: int
    running: int
    completed: int
    pruned: int
    failed: int
    # None: written before trials could wait.
    waiting: int | None = None


class SweepSteps(Document, frozen=True):
    """Training steps: those that were done, and those of the same trials without pruning."""

    done: int
    full: int


class BestTrial(Document, frozen=True):
    run: str
    ap50: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class Confidence(Document, frozen=True):
    """What the best settings reach with several seeds."""

    runs: int
    mean: str
    low: str
    high: str


class SweepStatus(Document, frozen=True):
    observed_generation: int = 0
    phase: SweepPhase = SweepPhase.PENDING
    reason: Reason = Reason.PENDING
    message: str = ""
    template_digest: str = ""
    start_time: str | None = None
    completion_time: str | None = None
    trials: TrialCounts | None = None
    steps: SweepSteps | None = None
    best: BestTrial | None = None
    confidence: Confidence | None = None
    release: str | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def is_terminal(self) -> bool:
        return self.phase in _ENDED


def training_sweep(document: Body) -> TrainingSweepSpec:
    """The spec of a TrainingSweep that is validated and defaulted. Raises DecodeError."""
    return decoded(TrainingSweepSpec, document["spec"], kind="TrainingSweep")


def read_sweep_status(data: Mapping[str, Any] | None) -> SweepStatus | None:
    """The status of an object of the API; None where there is none yet. Raises DecodeError."""
    if not data or "phase" not in data:
        return None
    fallbacks = {Reason: Reason.INTERNAL_ERROR, SweepPhase: SweepPhase.PENDING}
    return from_dict(SweepStatus, data, skip_unknown=True, fallbacks=fallbacks)
