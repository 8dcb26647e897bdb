"""How a data set is trained when nobody has said how. Pure; docs/accuracy.md has the figures behind the numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from atoll_contract.stage import Architecture, InitFrom

# How often each picture is seen, and the fewest steps that have been seen to be enough (BCCD: 670 of 8 from ImageNet
# weights, 1200 of 8 from random ones). A release has most of it behind it.
PASSES: Mapping[InitFrom, int] = MappingProxyType(
    {InitFrom.RANDOM: 45, InitFrom.IMAGENET: 26, InitFrom.RELEASE: 15, InitFrom.CHECKPOINT: 15}
)
FEWEST_STEPS: Mapping[InitFrom, int] = MappingProxyType(
    {InitFrom.RANDOM: 1200, InitFrom.IMAGENET: 670, InitFrom.RELEASE: 400, InitFrom.CHECKPOINT: 400}
)
# Beyond it more passes over the same pictures have little left to give.
MOST_STEPS = 20_000
# Steps of a training that is cut short; fewer teach nothing.
LEAST_STEPS = 50
ROUNDED_TO = 10

CPU_WIDTH, CPU_BATCH = 0.5, 8
GPU_WIDTH, GPU_BATCH = 1.0, 32


@dataclass(frozen=True)
class Start:
    """Where training starts. `width` and `architecture` where the start weights leave no choice."""

    type: InitFrom = InitFrom.RANDOM
    release: str | None = None
    width: float | None = None
    architecture: Architecture | None = None


@dataclass(frozen=True)
class Settings:
    """The numbers of a run.yaml. `gpu`: they are meant for one."""

    architecture: Architecture
    width: float
    batch: int
    steps: int
    start: Start
    gpu: bool

    @property
    def timed_as(self) -> str:
        """The setting as the timing program takes it."""
        return f"{self.width}x{self.batch}"

    def passes(self, pictures: int) -> int:
        """How often each of the train part's pictures is seen."""
        return round(self.steps * self.batch / max(1, pictures))


def choose(*, pictures: int, start: Start, gpu: bool, most_steps: int = MOST_STEPS) -> Settings:
    """Settings for `pictures` in the train part.

    A CPU gets the narrower detector and small steps; so does a small data set on a GPU, where a step of 32 would
    hold a good part of it.
    """
    width = start.width or (GPU_WIDTH if gpu else CPU_WIDTH)
    batch = min(GPU_BATCH, max(CPU_BATCH, 2 ** int(math.log2(max(1, pictures // 20))))) if gpu else CPU_BATCH
    wanted = max(FEWEST_STEPS[start.type], math.ceil(PASSES[start.type] * pictures / batch))
    steps = min(MOST_STEPS, most_steps, _rounded(wanted))
    architecture = start.architecture or Architecture.FPNLITE_320
    return Settings(architecture, width, batch, steps, start, gpu)


def shortened(settings: Settings, steps: int) -> Settings:
    """`settings` with no more than `steps` steps."""
    return replace(settings, steps=min(settings.steps, max(LEAST_STEPS, steps // ROUNDED_TO * ROUNDED_TO)))


def _rounded(steps: int) -> int:
    return math.ceil(steps / ROUNDED_TO) * ROUNDED_TO
