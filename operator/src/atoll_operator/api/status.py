"""`TrainingRun.status` as documents. Pure.

Decimals are strings, times are RFC 3339 strings in UTC.
"""

from datetime import UTC, datetime
from enum import StrEnum

from atoll_contract.document import Document, replace
from atoll_contract.errors import Reason, bounded
from atoll_contract.release import ManifestRef
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact
from atoll_operator.api.figures import ClassMetric, DatasetStatus, MetricsStatus, TargetFigures

MAX_STAGE_MESSAGE = 400
MAX_STATUS_BYTES = 16 * 2**10
MAX_CURVE_POINTS = 32


class Phase(StrEnum):
    PENDING = "Pending"
    QUEUED = "Queued"
    CONVERTING = "Converting"
    TRAINING = "Training"
    EXPORTING = "Exporting"
    COMPILING = "Compiling"
    PUBLISHING = "Publishing"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
PHASE_OF_STAGE = {
    Stage.CONVERT: Phase.CONVERTING,
    Stage.TRAIN: Phase.TRAINING,
    Stage.EXPORT: Phase.EXPORTING,
    Stage.COMPILE: Phase.COMPILING,
    Stage.PUBLISH: Phase.PUBLISHING,
}


class StagePhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"


DONE = frozenset({StagePhase.SUCCEEDED, StagePhase.SKIPPED})


class Condition(Document, frozen=True):
    """A metav1.Condition."""

    type: str
    status: str
    reason: Reason
    message: str
    last_transition_time: str
    observed_generation: int


class JobRef(Document, frozen=True):
    name: str
    uid: str


class LastFailure(Document, frozen=True):
    """The end of the last attempt that failed."""

    reason: Reason
    message: str
    time: str
    exit_code: int | None = None


class StageStatus(Document, frozen=True):
    """One stage. `attempts` is the number of the newest attempt, and the suffix of its Job's name.

    A pending stage with attempts > 0 and no `job_ref` has recorded that attempt, but created no Job yet; with
    `job_ref` that attempt has ended and the next one starts at `next_retry_time`.
    """

    name: Stage
    phase: StagePhase = StagePhase.PENDING
    reason: Reason = Reason.PENDING
    message: str = ""
    attempts: int = 0
    # Attempts that count against runPolicy.backoffLimit: suspensions, disruptions and lost results do not. A checkpoint
    # that is newer than `checkpoint_step` begins the count anew: an attempt that moved the work on was worth its while.
    failures: int = 0
    # The step of the newest checkpoint that is known of. None where the stage has none.
    checkpoint_step: int | None = None
    # The first attempt after a retry that asked for the stage anew: nothing is taken over from earlier ones.
    adopt_from: int | None = None
    job_ref: JobRef | None = None
    start_time: str | None = None
    completion_time: str | None = None
    next_retry_time: str | None = None
    # Since when the stage waits for something outside (image, node, Secret), for the pending deadline.
    pending_since: str | None = None
    # Since when the store does not answer, for the window in which that costs no attempt.
    storage_failing_since: str | None = None
    last_failure: LastFailure | None = None
    # Seconds that the containers of attempts that are over have run.
    pod_seconds: int = 0
    # What the attempt that succeeded would take on a machine that does nothing else, where that was measured.
    unloaded_seconds: int | None = None
    outputs: tuple[Artifact, ...] = ()


class ProgressStatus(Document, frozen=True):
    percent: int
    display: str
    stage: Stage | None = None
    step: int | None = None
    total_steps: int | None = None
    loss: str | None = None
    ap50: str | None = None
    eta_seconds: int | None = None
    updated_time: str | None = None


class CurvePoint(Document, frozen=True):
    """AP50 on the validation split at a training step where it was better than before."""

    step: int
    ap50: str


class Summary(Document, frozen=True):
    """Flat strings for the printer columns."""

    ap50: str = ""
    # The Edge TPU's part of `targets`.
    tpu: str = ""
    release: str = ""
    # What came of each compile target. None in the status of a version that knew the Edge TPU alone.
    targets: str | None = None
    # What the model finds, and whether it may be used. None in the status of a version without assessments.
    assessment: str | None = None


class QueueStatus(Document, frozen=True):
    ahead: int
    eta_seconds: int | None = None


class Resolved(Document, frozen=True):
    """The profile as it was when the run was accepted: the name and hash of its snapshot."""

    profile: str
    profile_revision: str
    profile_hash: str
    accelerator: str


class CompileStatus(Document, frozen=True):
    """What came of one compile target. Where a run has several, each has a Job, and `stage` is the compile stage as far
    as this target goes; its outputs are in the run's compile stage, with those of the others."""

    target: str
    compiled: bool = False
    reason: Reason = Reason.PENDING
    mapped_percent: str = ""
    predicted_mapped_percent: str = ""
    # None where there is nothing to say, so that older statuses stay as they are.
    chip: str | None = None
    compiler_version: str | None = None
    figures: TargetFigures | None = None
    stage: StageStatus | None = None


class ReleaseStatus(Document, frozen=True):
    """The version that the run reserved; `manifest` once it is published."""

    name: str
    version: int
    manifest: ManifestRef | None = None


class IntendedEnd(Document, frozen=True):
    """How a run ends that was cancelled or out of time in its publish stage, once it is known whether that stage has
    published. Attempts from `attempt` on only look."""

    phase: Phase
    reason: Reason
    message: str
    since: str
    attempt: int


class Estimate(Document, frozen=True):
    """`basis` is a sentence that says how the seconds were estimated."""

    seconds: int
    basis: str


class Usage(Document, frozen=True):
    pod_seconds: int = 0
    cpu_seconds: int = 0
    gpu_seconds: int = 0


class RunStatus(Document, frozen=True):
    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    reason: Reason = Reason.PENDING
    message: str = ""
    start_time: str | None = None
    completion_time: str | None = None
    # Closed intervals only; the open one began at `active_since`.
    active_seconds: int = 0
    active_since: str | None = None
    # Since when the Job is held (its queue has suspended it, or another run has what its pod needs): the clock of the
    # open interval stands still.
    held_since: str | None = None
    progress: ProgressStatus | None = None
    summary: Summary = Summary()
    queue: QueueStatus | None = None
    resolved: Resolved | None = None
    dataset: DatasetStatus | None = None
    stages: tuple[StageStatus, ...] = ()
    # None until the first improvement is known.
    learning_curve: tuple[CurvePoint, ...] | None = None
    metrics: MetricsStatus | None = None
    per_class: tuple[ClassMetric, ...] = ()
    compile: tuple[CompileStatus, ...] = ()
    release: ReleaseStatus | None = None
    intended_end: IntendedEnd | None = None
    estimate: Estimate | None = None
    usage: Usage | None = None
    last_handled_retry: str | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def is_terminal(self) -> bool:
        return self.phase in TERMINAL

    def stage(self, stage: Stage) -> StageStatus:
        return next(item for item in self.stages if item.name is stage)

    def stage_of(self, stage: Stage, target: str | None) -> StageStatus:
        """The stage that a Job works on: a Job of one compile target works on that part of the compile stage."""
        if target is None:
            return next((item for item in self.stages if item.name is stage), None) or StageStatus(stage)
        entry = next((item for item in self.compile if item.target == target), None)
        return (entry.stage if entry else None) or StageStatus(stage)

    def with_curve_point(self, step: int | None, ap50: float | None) -> "RunStatus":
        """With this point of the learning curve, where it is one, a later one than the last and within the API's
        bounds. Of a curve that is full every second point goes."""
        known = self.learning_curve or ()
        if step is None or ap50 is None or not 0 <= ap50 <= 1 or not (known[-1].step if known else 0) < step < 2**31:
            return self
        if len(known) >= MAX_CURVE_POINTS:
            known = known[1::2]
        return replace(self, learning_curve=(*known, CurvePoint(step, f"{ap50:.4f}")))

    def with_stage(self, changed: StageStatus) -> "RunStatus":
        stages = tuple(changed if item.name is changed.name else item for item in self.stages)
        return replace(self, stages=stages)


def parse_time(text: str) -> datetime:
    """Parses an RFC 3339 time; one without a zone is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_between(start: str | datetime, end: datetime) -> float:
    """Seconds from `start` to `end`, at least 0: clocks may jump back."""
    begin = parse_time(start) if isinstance(start, str) else start
    return max(0.0, (end - begin).total_seconds())


def short(text: str) -> str:
    """A stage's message: one line, bounded."""
    return bounded(text, MAX_STAGE_MESSAGE)
