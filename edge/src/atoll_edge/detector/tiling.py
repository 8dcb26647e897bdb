"""Detection in tiles: the image is cut into parts that overlap, each is shown to the model, and so is the whole image.

An object that is too small in the whole image is larger in a tile, and one that is larger than a tile is found in the
whole image. Each tile takes the time of one inference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll_contract.document import Document
from atoll_contract.release import Detection
from atoll_edge.detector.backends.base import LoadedModel
from atoll_edge.detector.outputs import ModelOutput, intersection_over_union

if TYPE_CHECKING:
    from PIL.Image import Image

# As the model's own post-processing suppresses.
IOU_THRESHOLD = 0.5
# So much of a box that its tile cuts lies within the whole object's box that another tile shows.
_COVERED = 0.5
# So much of a box that no tile cuts lies within a surer box, if it is a part of that object: a model takes a part of an
# object that fills a tile for an object. Chosen on the validation parts of docs/accuracy.md, "Tiles".
_COVERED_UNCUT = 0.7
# A box that comes nearer to an inner edge of its tile, as a share of the tile, is taken to be cut by it.
_EDGE = 0.01

Region = tuple[float, float, float, float]


class Tiling(Document, frozen=True):
    """`overlap` is the share of a tile's side that the next tile shows, too: an object of that size is whole in one."""

    rows: int = 2
    columns: int = 2
    overlap: float = 0.2

    @property
    def regions(self) -> tuple[Region, ...]:
        """The tiles as [ymin, xmin, ymax, xmax], relative to the image; the last one is the whole image."""
        rows, columns = _intervals(self.rows, self.overlap), _intervals(self.columns, self.overlap)
        tiles = ((top, left, bottom, right) for top, bottom in rows for left, right in columns)
        whole = (0.0, 0.0, 1.0, 1.0)
        return (*(tile for tile in tiles if tile != whole), whole)


def _intervals(count: int, overlap: float) -> list[tuple[float, float]]:
    length = 1 / (count - (count - 1) * overlap)
    starts = [number * length * (1 - overlap) for number in range(count)]
    return [(start, min(1.0, start + length)) for start in starts]


@dataclass(frozen=True)
class _Found:
    detection: Detection
    region: int
    cut: bool


class TiledModel:
    """A LoadedModel that shows another one the tiles of each image."""

    def __init__(self, model: LoadedModel, tiling: Tiling) -> None:
        self._model = model
        self._regions = tiling.regions

    @property
    def width(self) -> int:
        return self._model.width

    @property
    def height(self) -> int:
        return self._model.height

    def detect(self, image: "Image") -> ModelOutput:
        found: list[_Found] = []
        non_finite = 0
        for number, region in enumerate(self._regions):
            pixels = _pixels(region, image.size)
            output = self._model.detect(image.crop(pixels))
            non_finite += output.non_finite
            shown = _relative(pixels, image.size)
            found += (_placed(detection, number, shown) for detection in output.detections)
        kept = sorted(_merged(found), key=lambda detection: -detection.score)
        return ModelOutput(tuple(kept), non_finite)


def _pixels(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the region as Pillow crops: left, upper, right, lower, of one pixel at least."""
    width, height = size
    top, left, bottom, right = region
    x, y = min(width - 1, round(left * width)), min(height - 1, round(top * height))
    return x, y, max(x + 1, round(right * width)), max(y + 1, round(bottom * height))


def _relative(pixels: tuple[int, int, int, int], size: tuple[int, int]) -> Region:
    left, top, right, bottom = pixels
    width, height = size
    return top / height, left / width, bottom / height, right / width


def _placed(detection: Detection, number: int, region: Region) -> _Found:
    """Returns a detection of a tile with its box in the whole image."""
    top, left, bottom, right = region
    sides = (bottom - top, right - left)
    box = tuple(
        start + value * side
        for value, start, side in zip(detection.box, (top, left, top, left), (*sides, *sides), strict=True)
    )
    near_start = any(value < _EDGE and start > 0 for value, start in zip(detection.box[:2], (top, left), strict=True))
    near_end = any(value > 1 - _EDGE and end < 1 for value, end in zip(detection.box[2:], (bottom, right), strict=True))
    return _Found(Detection(detection.class_id, detection.score, box), number, near_start or near_end)


def _merged(found: Sequence[_Found]) -> Iterator[Detection]:
    """Yields each object once: whole boxes before those that a tile cuts, then the best score first."""
    kept: list[_Found] = []
    for item in sorted(found, key=lambda item: (item.cut, -item.detection.score)):
        if not any(_same_object(item, other) for other in kept):
            kept.append(item)
            yield item.detection


def _same_object(item: _Found, kept: _Found) -> bool:
    one, other = item.detection, kept.detection
    # Within a tile the model has suppressed already.
    if one.class_id != other.class_id or item.region == kept.region:
        return False
    if intersection_over_union(one.box, other.box) >= IOU_THRESHOLD:
        return True
    return _covered(one.box, other.box) >= (_COVERED if item.cut else _COVERED_UNCUT)


def _covered(box: Sequence[float], other: Sequence[float]) -> float:
    """Returns the share of `box` that lies within the other."""
    height = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    width = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    area = (box[2] - box[0]) * (box[3] - box[1])
    return height * width / area if area > 0 else 0.0
