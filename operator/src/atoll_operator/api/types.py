"""The specs of TrainingRun and TrainingProfile, shaped as the YAML.

Only what the CRDs leave open has a default here: a body is always validated and defaulted before it is decoded.
Decimals are floats here. Fields say only what `kubectl explain` does not.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import field

from atoll_contract.convert_spec import DatasetFormat, DatasetLimits, Rename, Split
from atoll_contract.document import camel
from atoll_contract.images import Resize
from atoll_contract.stage import CompilePolicy, Stage
from atoll_contract.train_spec import DEFAULT_BATCH_SIZE, DEFAULT_STEPS, Accelerator, Architecture, InitFrom, Preset

T = TypeVar("T")


Body = Mapping[str, Any]
# An amount as Kubernetes writes it, such as 500m or 2.
Quantity = int | str

# Images of a step that a profile's estimate refers to.
ESTIMATE_BATCH_SIZE = 16


class Decimal(float):
    """A number that the API writes as a string. Leading zeros are allowed, which msgspec's own floats refuse."""


class ApiType(msgspec.Struct, frozen=True, rename=camel):
    """The base of the types below. Fields that a newer CRD has are passed over."""


class NameRef(ApiType, frozen=True):
    name: str


class DatasetRef(ApiType, frozen=True):
    """An archive, or all below a key that ends in `/`. `object_store` is None for the run's own."""

    key: str
    format: DatasetFormat
    digest: str | None = None
    object_store_ref: NameRef | None = None

    @property
    def object_store(self) -> str | None:
        return self.object_store_ref.name if self.object_store_ref else None


class Conversion(ApiType, frozen=True):
    classes: tuple[str, ...]
    rename: tuple[Rename, ...]
    ignore: tuple[str, ...]
    split: Split
    max_invalid_percent: Decimal
    shards: int | None = None


class PreprocessingSpec(ApiType, frozen=True):
    resize: Resize


class ModelSpec(ApiType, frozen=True):
    architecture: Architecture
    width: Decimal
    # None: images are squashed, as in every run before there was a choice.
    preprocessing: PreprocessingSpec | None = None


class Checkpoint(ApiType, frozen=True):
    key: str
    digest: str


class InitialWeights(ApiType, frozen=True):
    """`release` names a ModelRelease (type release); `checkpoint` is a weights file (type checkpoint)."""

    type: InitFrom
    release_ref: NameRef | None = None
    checkpoint: Checkpoint | None = None

    @property
    def release(self) -> str | None:
        return self.release_ref.name if self.release_ref else None


class EarlyStopping(ApiType, frozen=True):
    patience: int


class Training(ApiType, frozen=True):
    """`hyperparameters` holds the names that no typed field stands for; the others are in the fields already."""

    init_from: InitialWeights
    seed: int
    accelerator: Accelerator
    gpus: int
    hyperparameters: Mapping[str, str]
    preset: Preset = Preset.AUTO
    # None: as many as the preset chooses.
    steps: int | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    learning_rate: Decimal | None = None
    eval_every_steps: int | None = None
    checkpoint_every_steps: int | None = None
    early_stopping: EarlyStopping | None = None
    workers: int = 1

    @property
    def expected_steps(self) -> int:
        """The steps, or a guess of them where the train stage chooses them by the number of pictures."""
        return DEFAULT_STEPS if self.steps is None else self.steps


class Quality(ApiType, frozen=True):
    min_ap50: Decimal | None = field(default=None, name="minAP50")
    max_ap50_drop: Decimal | None = field(default=None, name="maxAP50Drop")
    min_mapped_percent: Decimal | None = None


class TargetQuality(ApiType, frozen=True):
    max_ap50_drop: Decimal | None = field(default=None, name="maxAP50Drop")
    min_mapped_percent: Decimal | None = None


class CompileTarget(ApiType, frozen=True):
    target: str
    policy: CompilePolicy
    chip: str | None = None
    quality: TargetQuality = TargetQuality()


class RolloutStep(ApiType, frozen=True):
    percent: int
    after_seconds: int


class Rollout(ApiType, frozen=True):
    steps: tuple[RolloutStep, ...]
    halt_at: int


class PublishTarget(ApiType, frozen=True):
    model: str
    channel: str
    rollout: Rollout | None = None
    object_widths: Mapping[str, Decimal] | None = None


class RunPolicy(ApiType, frozen=True):
    backoff_limit: int
    job_ttl_seconds_after_finished: int = field(name="jobTTLSecondsAfterFinished")
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None


class TrainingRunSpec(ApiType, frozen=True):
    suspend: bool
    cancel: bool
    profile_ref: NameRef
    object_store_ref: NameRef
    datasets: tuple[DatasetRef, ...]
    conversion: Conversion
    model: ModelSpec
    training: Training
    quality: Quality
    compile: tuple[CompileTarget, ...]
    publish: PublishTarget
    run_policy: RunPolicy
    hold_publish: bool = False

    @property
    def profile(self) -> str:
        return self.profile_ref.name

    @property
    def object_store(self) -> str:
        return self.object_store_ref.name

    @property
    def store_names(self) -> tuple[str, ...]:
        """The ObjectStores that the run reads or writes, its own first, each once."""
        others = (dataset.object_store for dataset in self.datasets)
        return tuple(dict.fromkeys((self.object_store, *(name for name in others if name))))


class Images(ApiType, frozen=True):
    convert: str
    train: str
    publish: str
    train_gpu: str | None = field(default=None, name="trainGPU")
    compile: str | None = None
    compile_rknn: str | None = field(default=None, name="compileRKNN")
    compile_qnn: str | None = field(default=None, name="compileQNN")
    compile_hailo: str | None = None

    def of(self, stage: Stage, *, gpu: bool = False, target: str | None = None) -> str | None:
        """The image of `stage`; None where the profile has none (compile for this target, train on a GPU)."""
        match stage:
            case Stage.CONVERT:
                return self.convert
            case Stage.TRAIN:
                return self.train_gpu if gpu else self.train
            case Stage.EXPORT:
                return self.train
            case Stage.COMPILE:
                return self.of_targets.get(target or "") or self.compile
            case Stage.PUBLISH:
                return self.publish

    @property
    def of_targets(self) -> Mapping[str, str]:
        """The images that compile for one target alone."""
        images = {"rknn": self.compile_rknn, "qnn": self.compile_qnn, "hailo": self.compile_hailo}
        return {target: image for target, image in images.items() if image is not None}


class Resources(ApiType, frozen=True):
    """Amounts by resource name."""

    requests: Mapping[str, Quantity] = field(default_factory=dict)
    limits: Mapping[str, Quantity] = field(default_factory=dict)


class Scratch(ApiType, frozen=True):
    size_limit: Quantity


class Gpu(ApiType, frozen=True):
    resource_name: str
    runtime_class_name: str | None = None


class EnvVar(ApiType, frozen=True):
    name: str
    value: str


class ServiceAccounts(ApiType, frozen=True):
    stage: str
    publish: str


class ProfileLimits(ApiType, frozen=True):
    max_steps: int
    active_deadline_seconds: int
    pending_deadline_seconds: int
    dataset: DatasetLimits
    # A snapshot of an earlier version has none.
    max_workers: int = 1
    # None: as many as the API allows.
    max_shards: int | None = None


class ProfileEstimate(ApiType, frozen=True):
    """What a run needs as long as none like it has ended; a step has `ESTIMATE_BATCH_SIZE` images."""

    seconds_per_step: Decimal
    other_seconds: int


class TrainingProfileSpec(ApiType, frozen=True):
    """`tolerations` are as in a pod; an empty `priority_class_name` stands for none."""

    images: Images
    image_pull_policy: str
    image_pull_secrets: tuple[NameRef, ...]
    resources: Mapping[Stage, Resources]
    scratch: Scratch
    gpu: Gpu
    priority_class_name: str
    node_selector: Mapping[str, str]
    tolerations: tuple[Body, ...]
    env: tuple[EnvVar, ...]
    service_accounts: ServiceAccounts
    propagate_labels: tuple[str, ...]
    limits: ProfileLimits
    max_concurrent_runs: int
    estimate: ProfileEstimate | None = None


def plain_digest(digest: str) -> str:
    """`sha256:<hex>` as the API writes it without its prefix, as documents and keys do."""
    return digest.removeprefix("sha256:")


def violation(run: TrainingRunSpec, profile: TrainingProfileSpec, *, profile_name: str) -> str | None:
    """The first limit of `profile` that `run` exceeds, as a sentence; None where it keeps within all."""
    limits = profile.limits
    if (run.training.steps or 0) > limits.max_steps:
        return (
            f"{run.training.steps} training steps exceed the {limits.max_steps} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxSteps"
        )
    if run.training.workers > limits.max_workers:
        return (
            f"{run.training.workers} workers exceed the {limits.max_workers} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxWorkers"
        )
    shards = run.conversion.shards or 1
    if limits.max_shards is not None and shards > limits.max_shards:
        return (
            f"{shards} shards exceed the {limits.max_shards} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxShards"
        )
    deadline = run.run_policy.active_deadline_seconds
    if deadline is not None and deadline > limits.active_deadline_seconds:
        return (
            f"a deadline of {deadline} s exceeds the {limits.active_deadline_seconds} s of TrainingProfile "
            f"{profile_name}; copy the run with a shorter one, or ask the cluster's administrator to raise "
            "limits.activeDeadlineSeconds"
        )
    return None
