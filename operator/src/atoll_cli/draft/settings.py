"""The training settings of a draft, from the size of the data set. Pure; docs/accuracy.md has the measurements."""

import math
from dataclasses import dataclass, replace

from atoll_contract.images import Resize
from atoll_contract.recipe import MAX_STEPS, STEPS_MULTIPLE, sufficient_steps
from atoll_contract.train_spec import Architecture, InitFrom

# A training that is shortened to a time limit has at least these steps; fewer teach nothing.
MIN_STEPS = 50

CPU_WIDTH, CPU_BATCH = 0.5, 8
GPU_WIDTH, GPU_BATCH = 1.0, 32


@dataclass(frozen=True)
class InitialWeights:
    """The weights that training starts from. `width` and `architecture` are set where these weights fix them; `resize`
    is how they were trained to see images."""

    type: InitFrom = InitFrom.RANDOM
    release: str | None = None
    width: float | None = None
    architecture: Architecture | None = None
    resize: Resize = Resize.SQUASH


@dataclass(frozen=True)
class Settings:
    """The numbers of a run.yaml. `gpu`: whether they are meant for a GPU. `max_invalid_percent`: bad labels that are
    allowed; None: the API's default."""

    architecture: Architecture
    width: float
    batch: int
    steps: int
    initial_weights: InitialWeights
    gpu: bool
    max_invalid_percent: float | None = None

    @property
    def benchmark_option(self) -> str:
        """Width and batch in the form that the benchmark of the train stage takes, as `0.5x8`."""
        return f"{self.width}x{self.batch}"

    def passes(self, images: int) -> int:
        """How often each of the training images is seen."""
        return round(self.steps * self.batch / max(1, images))


def select_settings(
    images: int,
    weights: InitialWeights,
    *,
    gpu: bool,
    max_steps: int = MAX_STEPS,
    architecture: Architecture = Architecture.FPNLITE_320,
) -> Settings:
    """Select settings for `images` training images; `architecture` is that of the weights where they fix one.

    A CPU gets the narrower detector and small batches. A small data set gets small batches on a GPU, too: a batch of
    32 would hold a good part of it.
    """
    width = weights.width or (GPU_WIDTH if gpu else CPU_WIDTH)
    batch = min(GPU_BATCH, max(CPU_BATCH, 2 ** int(math.log2(max(1, images // 20))))) if gpu else CPU_BATCH
    steps = sufficient_steps(images, weights.type, batch_size=batch, max_steps=max_steps)
    return Settings(weights.architecture or architecture, width, batch, steps, weights, gpu)


def limit_steps(settings: Settings, steps: int) -> Settings:
    """`settings` with at most `steps` steps, but never fewer than MIN_STEPS."""
    return replace(settings, steps=min(settings.steps, max(MIN_STEPS, steps // STEPS_MULTIPLE * STEPS_MULTIPLE)))
