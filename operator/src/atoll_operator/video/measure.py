"""What is measured of each sample before any is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_contract.likeness import CELLS
from atoll_operator.video.blur import BLUR_WIDTH, blur
from atoll_operator.video.samples import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Measured:
    """A sample without its picture: number, place and time as in `Sample`, its blur, and its cells (see likeness)."""

    number: int
    index: int
    seconds: float
    blur: float
    cells: NDArray[Any]


def measured(sample: Sample) -> Measured:
    """The figures of a sample."""
    frame = sample.frame
    height = max(16, frame.height * BLUR_WIDTH // frame.width)
    small = frame.reformat(width=BLUR_WIDTH, height=height, format="gray", interpolation="AREA").to_ndarray()
    cells = frame.reformat(width=CELLS, height=CELLS, format="gray", interpolation="AREA").to_ndarray()
    return Measured(sample.number, sample.index, sample.seconds, blur(small), cells)
