"""What the train stage is given: the detector, its initial weights and hyperparameters."""

import math
from collections.abc import Mapping
from enum import StrEnum

from msgspec import field

from atoll_contract.document import Document
from atoll_contract.images import Preprocessing, Resize


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


class TrainedOn(StrEnum):
    """What the pretrained backbones that `atoll weights` fetches were trained on: to classify, or to detect."""

    IMAGENET = "imagenet"
    OPEN_IMAGES = "open-images"


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
# How often a training is evaluated where `eval_every_steps` does not say.
_EVALUATIONS = 6
_MIN_STEPS_BETWEEN_EVALUATIONS = 25
# The fields of spec.training that the seed's hyperparameters stand for: their names, of which the first that is given
# counts, and the largest number. Its "epochs" are training steps in every version of the seed.
SEED_NAMES = {
    "steps": (("train-steps", "train_steps", "num_steps", "epochs"), 10_000_000),
    "batchSize": (("batch_size", "batch-size"), 1024),
    "evalEverySteps": (("eval-frequency", "eval_frequency"), 10_000_000),
}


def evaluation_interval(steps: int, eval_every_steps: int | None = None) -> int:
    """After how many steps each a training of so many is evaluated."""
    return eval_every_steps or max(_MIN_STEPS_BETWEEN_EVALUATIONS, math.ceil(steps / _EVALUATIONS))


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
    # None: images are squashed, as before there was a choice.
    preprocessing: Preprocessing | None = None

    @property
    def resize(self) -> Resize:
        """How images become the input."""
        return self.preprocessing.resize if self.preprocessing else Resize.SQUASH
