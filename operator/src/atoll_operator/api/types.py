"""The specs of TrainingRun, ObjectStore and TrainingProfile as frozen dataclasses; `parse` makes them.

Decimals are floats here and digests plain hex. Fields say only what `kubectl explain` does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_contract.errors import SpecError
from atoll_contract.stage import (
    Accelerator,
    AddressingStyle,
    Architecture,
    ChecksumMode,
    CompilePolicy,
    DatasetFormat,
    DatasetLimits,
    InitFrom,
    QualityGates,
    Rename,
    Split,
    Stage,
)

Document = Mapping[str, Any]

DEFAULT_STEPS = 1000
DEFAULT_BATCH_SIZE = 16
# Pictures of a step that a profile's estimate is about.
STEP_PICTURES = 16


@dataclass(frozen=True)
class DatasetRef:
    """An archive, or all below a key that ends in `/`. `object_store` is None for the run's own."""

    key: str
    format: DatasetFormat = DatasetFormat.AUTO
    sha256: str | None = None
    object_store: str | None = None


@dataclass(frozen=True)
class Conversion:
    classes: tuple[str, ...] = ()
    rename: tuple[Rename, ...] = ()
    ignore: tuple[str, ...] = ()
    split: Split = field(default_factory=Split)
    max_invalid_percent: float = 1.0


@dataclass(frozen=True)
class StartFrom:
    """`release` names a ModelRelease (type release); `key` and `sha256` a weights file (type checkpoint)."""

    type: InitFrom = InitFrom.IMAGENET
    release: str | None = None
    key: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Training:
    """`hyperparameters` holds the names that no typed field stands for; the others are in the fields already."""

    start: StartFrom = StartFrom()
    steps: int = DEFAULT_STEPS
    batch_size: int = DEFAULT_BATCH_SIZE
    learning_rate: float | None = None
    seed: int = 0
    accelerator: Accelerator = Accelerator.AUTO
    gpus: int = 1
    eval_every_steps: int | None = None
    checkpoint_every_steps: int | None = None
    early_stopping_patience: int | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CompileTarget:
    target: str
    policy: CompilePolicy


@dataclass(frozen=True)
class RunPolicy:
    active_deadline_seconds: int | None
    backoff_limit: int
    ttl_seconds_after_finished: int | None
    job_ttl_seconds_after_finished: int


@dataclass(frozen=True)
class TrainingRunSpec:
    suspend: bool
    cancel: bool
    profile: str
    object_store: str
    datasets: tuple[DatasetRef, ...]
    conversion: Conversion
    architecture: Architecture
    width: float
    training: Training
    quality: QualityGates
    compile: tuple[CompileTarget, ...]
    model: str
    channel: str
    run_policy: RunPolicy

    @property
    def store_names(self) -> tuple[str, ...]:
        """The ObjectStores that the run reads or writes, its own first, each once."""
        others = (dataset.object_store for dataset in self.datasets)
        return tuple(dict.fromkeys((self.object_store, *(name for name in others if name))))


@dataclass(frozen=True)
class KeyRef:
    """A key of a Secret or ConfigMap."""

    name: str
    key: str


@dataclass(frozen=True)
class ObjectStoreSpec:
    """`directory` is set for a folder store of the embedded engine and wins over the bucket."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing_style: AddressingStyle = AddressingStyle.AUTO
    checksum_mode: ChecksumMode = ChecksumMode.AUTO
    # Exactly one of the three is set.
    credentials_secret: str | None = None
    workload_identity: bool = False
    anonymous: bool = False
    publish_credentials_secret: str | None = None
    signing_key: KeyRef | None = None
    ca_bundle: KeyRef | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class Images:
    convert: str
    train: str
    publish: str
    train_gpu: str | None = None
    compile: str | None = None

    def of(self, stage: Stage, *, gpu: bool = False) -> str | None:
        """The image of `stage`; None where the profile has none (compile, train on a GPU)."""
        match stage:
            case Stage.CONVERT:
                return self.convert
            case Stage.TRAIN:
                return self.train_gpu if gpu else self.train
            case Stage.EXPORT:
                return self.train
            case Stage.COMPILE:
                return self.compile
            case Stage.PUBLISH:
                return self.publish


@dataclass(frozen=True)
class Resources:
    """Quantities by resource name, as Kubernetes writes them."""

    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfileLimits:
    max_steps: int
    active_deadline_seconds: int
    pending_deadline_seconds: int
    dataset: DatasetLimits


@dataclass(frozen=True)
class ProfileEstimate:
    """What a run needs as long as none like it has ended; a step is one of `STEP_PICTURES`."""

    seconds_per_step: float
    other_seconds: int


@dataclass(frozen=True)
class TrainingProfileSpec:
    """`tolerations` are as in a pod; `env` holds literals by name."""

    images: Images
    allow_tags: bool
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    resources: Mapping[Stage, Resources]
    scratch_size: str
    gpu_resource: str
    runtime_class: str | None
    priority_class: str | None
    node_selector: Mapping[str, str]
    tolerations: tuple[Document, ...]
    env: Mapping[str, str]
    stage_service_account: str
    publish_service_account: str
    propagate_labels: tuple[str, ...]
    limits: ProfileLimits
    max_concurrent_runs: int
    estimate: ProfileEstimate | None = None


# The seed's "epochs" are training steps, in every version of it.
STEPS_NAMES = ("train-steps", "train_steps", "num_steps", "epochs")
BATCH_SIZE_NAMES = ("batch_size", "batch-size")
EVAL_NAMES = ("eval-frequency", "eval_frequency")

MAX_STEPS = 10_000_000
MAX_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Hyperparameters:
    """What the names came to, and `rest`: those that no typed field stands for."""

    steps: int | None
    batch_size: int | None
    eval_every_steps: int | None
    rest: Mapping[str, str]


def read_hyperparameters(values: Mapping[str, str]) -> Hyperparameters:
    """The numbers among `values`; where two names mean the same, the first of its list counts.

    Raises:
        SpecError: a value is no whole number in its range.
    """
    understood = {*STEPS_NAMES, *BATCH_SIZE_NAMES, *EVAL_NAMES}
    return Hyperparameters(
        steps=_first(values, STEPS_NAMES, maximum=MAX_STEPS),
        batch_size=_first(values, BATCH_SIZE_NAMES, maximum=MAX_BATCH_SIZE),
        eval_every_steps=_first(values, EVAL_NAMES, maximum=MAX_STEPS),
        rest={name: value for name, value in values.items() if name not in understood},
    )


def _first(values: Mapping[str, str], names: tuple[str, ...], *, maximum: int) -> int | None:
    name = next((name for name in names if name in values), None)
    if name is None:
        return None
    text = values[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= maximum):
        raise SpecError(
            f'spec.training.hyperparameters["{name}"] is {text[:40]!r}; it must be a whole number from 1 to {maximum}'
        )
    return int(text)
