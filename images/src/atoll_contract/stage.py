"""The input of a stage's process: `StageInput`, a JSON document in an environment variable."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import field

from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef, attempt_prefix
from atoll_contract.rollout import RolloutPlan
from atoll_contract.stage_result import Artifact
from atoll_contract.store_spec import StoreSpec
from atoll_contract.train_spec import StartWeights, TrainSpec

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
    # True widths in metres, by label.
    object_widths: Mapping[str, float] | None = None


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
