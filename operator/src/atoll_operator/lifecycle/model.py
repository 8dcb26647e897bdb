"""What `decide` reads, views of a run, its Jobs and their pods, which both engines fill; and the attempts it begins.

Times are aware datetimes. A view holds only what a decision needs; the objects behind it stay with the engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.stage_result import Artifact, Progress
from atoll_contract.train_spec import Accelerator
from atoll_operator.api.status import Estimate, RunStatus

DEFAULT_PENDING_SECONDS = 1800
DEFAULT_ACTIVE_SECONDS = 86_400


class AttemptNumber(NamedTuple):
    """An attempt of a stage; the first one is 1. `adopt_from`, of attempts to begin, is as in `StageAttempt`."""

    stage: Stage
    attempt: int
    adopt_from: int | None = None


class JobState(StrEnum):
    """Where a Job is. `REJECTED` is no state of Kubernetes: the cluster refused to create the Job."""

    ACTIVE = "Active"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    REJECTED = "Rejected"


@dataclass(frozen=True)
class JobView:
    """One Job of the run, found by its deterministic name.

    Its pod has a container for `stage`, which gives the Job its name, and one for each of `following`, in this order.
    `transition.stage_views` makes a view of each stage that has begun, as if each had a Job of its own.

    `state` leaves ACTIVE only with the Job's Complete or Failed condition (`SuccessCriteriaMet` is not yet the end).
    `failure_*` are that condition's reason and message, or the admission's message where REJECTED.
    `create_error` is the newest FailedCreate event of the Job controller, which has made no pod because of it.
    """

    name: str
    uid: str
    owner_uid: str
    stage: Stage
    attempt: int
    state: JobState
    created: datetime
    finished: datetime | None = None
    failure_reason: str = ""
    failure_message: str = ""
    create_error: str = ""
    # What the queue that has suspended the Job says about it.
    queue_message: str = ""
    deleting: bool = False
    following: tuple[AttemptNumber, ...] = ()
    # Whether this is the view of a stage whose input came from an earlier one of the same pod.
    is_following: bool = False
    # The compile target that the Job is for, where each has one of its own.
    target: str | None = None

    @property
    def publishes(self) -> bool:
        """Whether the Job's pod may publish, now or after this stage."""
        return Stage.PUBLISH in (self.stage, *(number.stage for number in self.following))

    @property
    def is_finished(self) -> bool:
        return self.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.REJECTED)


class PodPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class PodView:
    """One pod of a Job as its stage sees it, with the reasons and messages that Kubernetes gives for its problems: a
    pod of several stages has a view for each.

    The pods of a finished Job whose end is not yet in the status must be given; pods of an unfinished one may be
    left out, and nothing is concluded from their absence.
    """

    name: str
    uid: str
    job: str
    phase: PodPhase
    created: datetime
    # The stage whose container this shows; None for the only container of a pod that names no stage.
    stage: Stage | None = None
    started: datetime | None = None
    finished: datetime | None = None
    deleting: bool = False
    # Reason and message of the pod itself (`Evicted`, `NodeLost`).
    reason: str = ""
    message: str = ""
    # PodScheduled=False: the scheduler's message.
    unschedulable: str = ""
    # The waiting state of the stage's container (`ImagePullBackOff`, `CreateContainerConfigError`).
    waiting_reason: str = ""
    waiting_message: str = ""
    # The newest Warning event of a pod that does not start (`FailedMount: … secret "s3" not found`).
    warning: str = ""
    # The container's terminated state.
    exit_code: int | None = None
    terminated_reason: str = ""
    termination_message: str = ""
    # The message of the condition DisruptionTarget, where it is True.
    disruption: str = ""
    # Why the pod's node counts as lost.
    node_lost: str = ""
    # Which of a training's workers or a conversion's shards the pod is, counted from 0; None in a Job with one pod.
    index: int | None = None
    # Whether the stage's container has ended and a sidecar that somebody put into the pod keeps the pod running.
    kept_by_another: bool = False
    # The newest progress in the tail of its log.
    progress: Progress | None = None

    @property
    def is_finished(self) -> bool:
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)


@dataclass(frozen=True)
class ProfileView:
    """The resolved TrainingProfile: before the run is accepted the live one, afterwards the run's snapshot.

    `digest` is the sha256 of its canonical JSON, computed by the engine from what it read, never copied from a status.
    """

    name: str
    revision: str
    digest: str
    max_concurrent_runs: int = 1
    pending_seconds: int = DEFAULT_PENDING_SECONDS
    active_seconds: int = DEFAULT_ACTIVE_SECONDS
    has_compiler: bool = False
    # The compile targets that have an image of their own.
    compilers: frozenset[str] = frozenset()
    # Whether any node offers the profile's GPU resource; None: unknown, the stage finds out.
    gpu_offered: bool | None = None
    # Whether publish has a service account that no other stage's container may use; an account is that of a whole pod.
    has_publish_service_account: bool = False
    # The resource requests that `status.usage` is computed from.
    cpus: Mapping[Stage, float] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueView:
    """The run's position among the runs of its profile (`admission.queue_position`). 0 ahead: it may start."""

    ahead: int = 0
    eta_seconds: int | None = None
    # Whether another Atoll run holds resources that this run's pod may be waiting for.
    others_active: bool = False


@dataclass(frozen=True)
class ReleaseView:
    """The ModelRelease with the highest version that this run owns (its `spec.runRef.uid` is the run's)."""

    name: str
    version: int
    published: bool = False


@dataclass(frozen=True)
class PollIntervals:
    """Seconds between two readings of an unfinished Job's pods: the first one after the Job's creation, then until a
    pod runs, and from then on."""

    first: float = 3.0
    starting: float = 5.0
    running: float = 30.0


@dataclass(frozen=True)
class CompileChoice:
    target: str
    policy: CompilePolicy


@dataclass(frozen=True)
class RetryTiming:
    """The engine's own timing of attempts, in seconds.

    `first`: the delay before the second attempt, doubled with each failure up to `longest`. `storage_window`: how long
    a store may fail, by the clock and not by attempts, where a run allows any retry at all.
    """

    first: float = 5.0
    longest: float = 300.0
    storage_window: float = 6 * 3600.0


@dataclass(frozen=True)
class RunView:
    """A TrainingRun with everything else that a decision needs.

    `profile` is None where none of the name `profile_name` exists, or where the snapshot that the status names is gone.
    `invalid` says why the spec cannot be carried out (over the profile's limits, unreadable); `missing` says which
    object that the run names does not exist (yet); `blocked` says what keeps the engine itself from working on the run
    (a permission that its account lacks).
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    model: str
    channel: str
    status: RunStatus | None = None
    suspend: bool = False
    # Value of the annotation atoll.dev/suspend-reason.
    suspend_reason: str = ""
    cancel: bool = False
    hold_publish: bool = False
    # Value of the annotation atoll.dev/retry.
    retry: str | None = None
    compile: tuple[CompileChoice, ...] = ()
    # Set by `targets.of_target` alone, while the compile stage of one of several targets is considered.
    target: str | None = None
    accelerator: Accelerator = Accelerator.AUTO
    gpus: int = 1
    workers: int = 1
    quality_gated: bool = False
    backoff_limit: int = 2
    active_deadline_seconds: int | None = None
    ttl_seconds: int | None = None
    job_ttl_seconds: int | None = None
    profile_name: str = "default"
    profile: ProfileView | None = None
    invalid: str = ""
    missing: str = ""
    queue: QueueView = QueueView()
    release: ReleaseView | None = None
    # The highest version of this model that any ModelRelease (or manifest in the store) has.
    highest_version: int = 0
    estimate: Estimate | None = None
    blocked: str = ""
    retries: RetryTiming = field(default_factory=RetryTiming)
    poll: PollIntervals = field(default_factory=PollIntervals)

    @property
    def has_several_targets(self) -> bool:
        """Whether each compile target has a Job of its own; a lone one is compiled in the Job that publishes."""
        return self.target is None and len(self.compile) > 1

    @property
    def runs_on(self) -> str:
        """What the train stage runs on. `auto` falls back to the CPU only where no node offers the GPU at all."""
        offered = self.profile.gpu_offered if self.profile else None
        if self.accelerator is not Accelerator.AUTO or offered is None:
            return str(self.accelerator)
        return str(Accelerator.GPU if offered else Accelerator.CPU)

    @property
    def active_limit(self) -> int:
        """The run's deadline in seconds of active time: its own, at most the profile's."""
        highest = self.profile.active_seconds if self.profile else DEFAULT_ACTIVE_SECONDS
        return min(self.active_deadline_seconds or highest, highest)

    @property
    def pending_limit(self) -> int:
        """Seconds that a stage may wait for something outside."""
        return self.profile.pending_seconds if self.profile else DEFAULT_PENDING_SECONDS


@dataclass(frozen=True)
class StageAttempt:
    """A Job to create: `jobs.manifest.build_job` makes its manifest. `version` is set where it publishes.

    In its pod `stage` is followed by `following`; each of those gets the outputs of the ones before it within the pod,
    and `upstream` has what the run's earlier Jobs left.
    `active_deadline_seconds` is for times when no engine runs; otherwise `decide` ends the run before it.
    """

    stage: Stage
    attempt: int
    upstream: Mapping[Stage, tuple[Artifact, ...]]
    active_deadline_seconds: int
    accelerator: str = "auto"
    version: int | None = None
    # The first attempt whose results may be taken over; None: any.
    adopt_from: int | None = None
    # Whether publish only looks for what an earlier attempt has published.
    adopt_only: bool = False
    following: tuple[AttemptNumber, ...] = ()
    # The compile target, where each has a Job of its own.
    target: str | None = None

    @property
    def stages(self) -> tuple[AttemptNumber, ...]:
        return (AttemptNumber(self.stage, self.attempt, self.adopt_from), *self.following)
