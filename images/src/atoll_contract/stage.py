"""The input of a stage's process: `StageInput`, a JSON document in an environment variable."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef, attempt_prefix
from atoll_contract.rollout import RolloutPlan
from atoll_contract.stage_result import Artifact

ENV_INPUT = "ATOLL_STAGE_INPUT"
ENV_POD_UID = "ATOLL_POD_UID"
ENV_TERMINATION_LOG = "ATOLL_TERMINATION_LOG"
ENV_WORK_DIR = "ATOLL_WORK_DIR"
# The folder in which the stages of one pod leave their results for those that follow them.
ENV_HANDOVER_DIR = "ATOLL_HANDOVER_DIR"
ENV_WEIGHTS_DIR = "ATOLL_WEIGHTS_DIR"
# A file descriptor that reaches its end when the embedded engine that started the stage is gone.
ENV_ENGINE_FD = "ATOLL_ENGINE_FD"
# Which of the processes that share a stage's work this one is, from 0; Kubernetes sets it in an Indexed Job.
ENV_WORKER_INDEX = "JOB_COMPLETION_INDEX"
# Seconds from SIGTERM until everything must have ended; a pod's terminationGracePeriodSeconds.
ENV_GRACE = "ATOLL_GRACE_SECONDS"

DEFAULT_TERMINATION_LOG = "/dev/termination-log"
# 20 s for the upload of the checkpoint; the rest for the end of the process.
DEFAULT_GRACE_SECONDS = 45.0


class Stage(StrEnum):
    """The stages of a run, in their order."""

    CONVERT = "convert"
    TRAIN = "train"
    EXPORT = "export"
    COMPILE = "compile"
    PUBLISH = "publish"


class StoreType(StrEnum):
    DIRECTORY = "directory"
    S3 = "s3"


class AddressingStyle(StrEnum):
    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class ChecksumMode(StrEnum):
    AUTO = "auto"
    WHEN_SUPPORTED = "whenSupported"
    WHEN_REQUIRED = "whenRequired"


class StoreSpec(Document, frozen=True):
    """Where a store is. Credentials are not in it, but files in `credentials_dir` (`AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, optionally `AWS_SESSION_TOKEN`), which are read again for each request; without it boto3's
    own chain applies (environment, shared file, web identity, instance role)."""

    type: StoreType
    path: str | None = None
    bucket: str | None = None
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing_style: AddressingStyle = AddressingStyle.AUTO
    checksum_mode: ChecksumMode = ChecksumMode.AUTO
    ca_bundle_path: str | None = None
    credentials_dir: str | None = None
    anonymous: bool = False
    # Seconds for which one call to a bucket is retried; None: the default of `store.retry.Backoff`.
    patience_seconds: float | None = None


class DatasetFormat(StrEnum):
    AUTO = "auto"
    SUPERVISELY = "supervisely"
    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"
    TFOD_CSV = "tfod-csv"
    CVAT = "cvat"
    LABELME = "labelme"
    CREATEML = "createml"


class SplitBy(StrEnum):
    AUTO = "auto"
    TAGS = "tags"
    DATASETS = "datasets"
    HASH = "hash"


class DatasetSource(Document, frozen=True):
    """One archive, or every archive below a key that ends in `/`. `store` is None for the run's own."""

    key: str
    format: DatasetFormat = DatasetFormat.AUTO
    digest: str | None = None
    store: StoreSpec | None = None


class Rename(Document, frozen=True):
    from_: str
    to: str


class Split(Document, frozen=True):
    """Shares in percent; they add up to 100."""

    by: SplitBy = SplitBy.AUTO
    train: int = 80
    validation: int = 20
    test: int = 0
    seed: int = 0


class DatasetLimits(Document, frozen=True):
    """Limits of an archive, from the TrainingProfile. Sizes in bytes."""

    archive_bytes: int = 50 * 2**30
    expanded_bytes: int = 100 * 2**30
    expansion_ratio: int = 100
    members: int = 1_000_000
    member_bytes: int = 256 * 2**20
    header_bytes: int = 64 * 2**10
    path_bytes: int = 512
    path_levels: int = 16
    picture_pixels: int = 64_000_000
    picture_side: int = 16_384
    annotation_bytes: int = 64 * 2**20
    json_depth: int = 32
    classes: int = 1000


class ConvertSpec(Document, frozen=True):
    sources: tuple[DatasetSource, ...]
    classes: tuple[str, ...] = ()
    rename: tuple[Rename, ...] = ()
    ignore: tuple[str, ...] = ()
    split: Split = Split()
    max_invalid_percent: float = 1.0
    limits: DatasetLimits = DatasetLimits()
    # The processes that share the work; which one a process is, `ENV_WORKER_INDEX` says. None: one.
    shards: int | None = None


class Architecture(StrEnum):
    """The detectors. The number is the side of the square input in pixels."""

    FPNLITE_320 = "ssd-mobilenet-v2-fpnlite-320"
    FPNLITE_192 = "ssd-mobilenet-v2-fpnlite-192"
    FPNLITE_416 = "ssd-mobilenet-v2-fpnlite-416"
    FPNLITE_512 = "ssd-mobilenet-v2-fpnlite-512"
    FPNLITE_640 = "ssd-mobilenet-v2-fpnlite-640"
    DFL_192 = "dfl-mobilenet-v2-fpn-192"
    DFL_320 = "dfl-mobilenet-v2-fpn-320"
    DFL_640 = "dfl-mobilenet-v2-fpn-640"
    SSD_300 = "ssd-mobilenet-v2-300"

    @property
    def side(self) -> int:
        return int(self.rsplit("-", 1)[1])

    @property
    def has_distributions(self) -> bool:
        """Whether its boxes are distributions (`atoll_contract.box_distributions`) instead of offsets from anchors."""
        return self.startswith("dfl-")


class InitFrom(StrEnum):
    IMAGENET = "imagenet"
    RELEASE = "release"
    CHECKPOINT = "checkpoint"
    RANDOM = "random"


class StartWeights(Document, frozen=True):
    """Initial weights. For a release `key` is its manifest, for a checkpoint the weights file; both with the hex
    sha256. ImageNet weights are searched in `ATOLL_WEIGHTS_DIR`, then below `weights/` of the store."""

    type: InitFrom = InitFrom.IMAGENET
    key: str | None = None
    sha256: str | None = None


class Accelerator(StrEnum):
    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"


class Preset(StrEnum):
    AUTO = "auto"
    PLAIN = "plain"


DEFAULT_STEPS = 1000
DEFAULT_BATCH_SIZE = 16
# The fields of spec.training that the seed's hyperparameters stand for: their names, of which the first that is given
# counts, and the largest number. Its "epochs" are training steps in every version of the seed.
SEED_NAMES = {
    "steps": (("train-steps", "train_steps", "num_steps", "epochs"), 10_000_000),
    "batchSize": (("batch_size", "batch-size"), 1024),
    "evalEverySteps": (("eval-frequency", "eval_frequency"), 10_000_000),
}


class TrainSpec(Document, frozen=True):
    architecture: Architecture = Architecture.FPNLITE_320
    width: float = 1.0
    init_from: StartWeights = StartWeights()
    steps: int = DEFAULT_STEPS
    batch_size: int = DEFAULT_BATCH_SIZE
    # None: the default of the architecture and the kind of initial weights.
    learning_rate: float | None = None
    seed: int = 0
    accelerator: Accelerator = Accelerator.AUTO
    eval_every_steps: int | None = None
    checkpoint_every_steps: int | None = None
    # Evaluations without a better validation AP50 before training stops early; None: never.
    early_stopping_patience: int | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    # None: the input of an older operator, which stands for `plain`.
    preset: Preset | None = None
    # The stage chooses the steps by the number of pictures, so many at most; None: `steps` counts.
    max_steps: int | None = None


class QualityGates(Document, frozen=True):
    """A metric without a gate is only reported. AP in 0…1; the drop is float AP50 minus int8 AP50."""

    min_ap50: float | None = None
    max_ap50_drop: float | None = None
    min_mapped_percent: float | None = None


class ExportSpec(Document, frozen=True):
    train: TrainSpec
    quality: QualityGates = QualityGates()
    max_detections: int = 25
    calibration_pictures: int = 100
    # The model that the run publishes a release of, for the report; None in the input of an older operator.
    model: str | None = None
    # Whether to leave the float model and the calibration pictures for compile targets that quantise by themselves.
    for_targets: bool | None = None


class CompilePolicy(StrEnum):
    REQUIRED = "Required"
    BEST_EFFORT = "BestEffort"
    DISABLED = "Disabled"


# For the Edge TPU's compiler.
COMPILE_SECONDS = 600


class CompileSpec(Document, frozen=True):
    target: str = "edgetpu"
    policy: CompilePolicy = CompilePolicy.BEST_EFFORT
    min_mapped_percent: float | None = None
    timeout_seconds: int = COMPILE_SECONDS
    # None: the target's default. AP50 of the float model minus the chip's, on the evaluation split.
    chip: str | None = None
    max_ap50_drop: float | None = None


class BuildInputs(Document, frozen=True):
    """What the engine knows of a run's making. `spec` is the run's, with its defaults, without what may change while it
    runs; `images` are those of the stages' pods, none on the local engine; `profile_sha256` is the profile's."""

    spec: Mapping[str, Any]
    start_weights: StartWeights
    images: Mapping[str, str] = field(default_factory=dict)
    profile_sha256: str | None = None


class PublishSpec(Document, frozen=True):
    """`version` is the one that the engine reserved; `signing_key_path` a PEM file with an Ed25519 private key. With
    `store_is_lock` no API server keeps version numbers unique, so the store's conditional put has to. With
    `adopt_only` the stage completes what an earlier attempt has published, and publishes nothing itself."""

    model: str
    channel: str
    version: int
    signing_key_path: str | None = None
    store_is_lock: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)
    adopt_only: bool | None = None
    rollout: RolloutPlan | None = None
    inputs: BuildInputs | None = None
    # The compile targets that the run asked for; None where that is the Edge TPU alone.
    targets: tuple[str, ...] | None = None


class StageInput(Document, frozen=True):
    """All input of a stage. Of the sections `convert` … `publish` only its own is set.

    `upstream` lacks the stages `handed_over`, which ran before this one in the same pod: their outputs are in their
    results in the folder `ENV_HANDOVER_DIR`.
    """

    stage: Stage
    attempt: int
    run: RunRef
    store: StoreSpec
    upstream: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    handed_over: tuple[Stage, ...] | None = None
    convert: ConvertSpec | None = None
    train: TrainSpec | None = None
    export: ExportSpec | None = None
    compile: CompileSpec | None = None
    publish: PublishSpec | None = None
    # What earlier attempts than this one have left is not taken over: somebody asked for the stage anew.
    adopt_from: int | None = None
    # Set where each compile target has a Job of its own: what they leave lies apart, as do their attempts' numbers.
    target: str | None = None
    # `host:port` of each worker, where a training has several; a worker's own index is in `ENV_WORKER_INDEX`.
    worker_addresses: tuple[str, ...] | None = None

    @property
    def folder(self) -> str:
        """The name of the stage in keys."""
        return f"{self.stage}-{self.target}" if self.target else str(self.stage)

    def prefix(self, pod_uid: str) -> str:
        """The prefix of the keys that only this attempt writes."""
        return attempt_prefix(self.run, self.folder, attempt=self.attempt, pod_uid=pod_uid)

    def artifact(self, stage: Stage, name: str) -> Artifact:
        """The artifact `name` of an earlier stage.

        Raises:
            SpecError: that stage has no artifact of this name.
        """
        for artifact in self.upstream.get(stage, ()):
            if artifact.name == name:
                return artifact
        raise SpecError(f"stage {self.stage} needs the artifact {name!r} of stage {stage}, which it was not given")

    def worker(self, environ: Mapping[str, str] = os.environ) -> int:
        """Which of the processes that share this stage's work the one with this environment is; 0 where there is one.

        Raises:
            SpecError: the environment does not say it.
        """
        count = len(self.worker_addresses or ()) or (self.convert.shards if self.convert else None) or 1
        text = environ.get(ENV_WORKER_INDEX, "")
        if count == 1 and not self.worker_addresses:
            return 0
        if not (text.isascii() and text.isdecimal() and int(text) < count):
            raise SpecError(
                f"the environment variable {ENV_WORKER_INDEX} is {text[:20]!r}; with {count} workers it must be a "
                f"number from 0 to {count - 1}"
            )
        return int(text)

    def to_env(self) -> dict[str, str]:
        return {ENV_INPUT: to_json(self).decode()}

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "StageInput":
        """The input in `environ`. Fields of a newer version are passed over: a run keeps its images when the operator
        is upgraded.

        Raises:
            SpecError: the variable is missing or not a StageInput.
        """
        try:
            return from_json(cls, environ[ENV_INPUT], skip_unknown=True)
        except KeyError:
            raise SpecError(f"the environment variable {ENV_INPUT} is missing; it holds the stage's input") from None
        except DecodeError as error:
            raise SpecError(f"{ENV_INPUT}: {error}") from None
