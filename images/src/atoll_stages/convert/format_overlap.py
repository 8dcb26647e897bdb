"""Archives in which labels of two formats lie: images that both label must have the same boxes in both."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example_store import ExampleStore, PendingExample
from atoll_stages.convert.images import UnreadableImage, image_size
from atoll_stages.convert.problems import Action, Kind, counted
from atoll_stages.convert.readers.base import AnnotatedImage, Archive, LabelledBox
from atoll_stages.convert.totals import REPEATED, Fate

# Formats round edges differently: by so many pixels, or by this share of the side.
_PIXELS = 2.0
_SHARE = 0.01


@dataclass
class FormatOverlap:
    """Follows the formats of the archive `number`, which are read one after the other."""

    store: ExampleStore
    number: int
    archive: Archive
    _begins: list[tuple[int, DatasetFormat]] = field(default_factory=list)

    def begin(self, form: DatasetFormat) -> None:
        """Called before the images of a format are added."""
        self._begins.append((self.store.count(), form))

    def repeats(self, item: AnnotatedImage) -> bool:
        """Returns whether an earlier format has labelled the image already, with the same boxes, or with boxes
        where `item` has none; reports that.

        Raises:
            DatasetError: DatasetMalformed, both have boxes, and others.
        """
        if len(self._begins) < 2 or not self.store.has_image(self.number, item.image.number):
            return False
        first = self.store.pending_of(self.number, item.image.number)
        if first.id > self._begins[-1][0]:
            return False
        # A format in which nobody has labelled this image, as a tool leaves behind that was left for another.
        is_empty = not item.boxes and len(first.boxes) > 0
        if not is_empty and not self._same_boxes(first, item):
            raise self._contradiction(first, item)
        self.archive.totals.objects_left_out[REPEATED] += len(item.boxes)
        if (file := self.archive.members.get(item.annotation)) is not None:
            self.archive.fates.mark(file.number, Fate.ANNOTATION)
        boxes = f"{counted(len(first.boxes), 'box')}, and none here" if is_empty else "the same boxes"
        detail = f"{shown(item.image.name, 80)} has {boxes} in {shown(first.annotation, 80)}"
        self.archive.problems.add(Kind.FORMAT_REPEATED, Action.SKIPPED, file=item.annotation, detail=detail)
        return True

    def _contradiction(self, first: PendingExample, item: AnnotatedImage) -> DatasetError:
        earlier = next(form for begin, form in reversed(self._begins) if first.id > begin)
        return DatasetError(
            Reason.DATASET_MALFORMED,
            f"two formats label {shown(item.image.name)} differently: {earlier} in {shown(first.annotation)} "
            f"({counted(len(first.boxes), 'box')}) and {self._begins[-1][1]} in {shown(item.annotation)} "
            f"({counted(len(item.boxes), 'box')}); remove the files of one, or name the format to read in "
            "spec.datasets[].format",
        )

    def _same_boxes(self, first: PendingExample, item: AnnotatedImage) -> bool:
        if len(first.boxes) != len(item.boxes):
            return False
        size = first.size or item.size or _size(item)
        one = _shares(first.boxes, first.size or size, relative=first.relative)
        rest = _shares(item.boxes, item.size or size, relative=item.relative)
        for box in one:
            same = next((other for other in rest if _is_same(box, other, size)), None)
            if same is None:
                return False
            rest.remove(same)
        return True


def _size(item: AnnotatedImage) -> tuple[int, int]:
    """Returns the size that the image has, for annotations that claim none."""
    try:
        return image_size(item.image.read())
    except UnreadableImage:
        return 1, 1


def _shares(boxes: Iterable[LabelledBox], size: tuple[int, int], *, relative: bool) -> list[LabelledBox]:
    """Returns boxes with their edges as shares of the image."""
    width, height = (1, 1) if relative else size
    return [
        box._replace(xmin=box.xmin / width, ymin=box.ymin / height, xmax=box.xmax / width, ymax=box.ymax / height)
        for box in boxes
    ]


def _is_same(one: LabelledBox, other: LabelledBox, size: tuple[int, int]) -> bool:
    x, y = (max(_SHARE, _PIXELS / side) for side in size)
    return one.label == other.label and all(
        abs(a - b) <= allowed for a, b, allowed in zip(one[1:5], other[1:5], (x, y, x, y), strict=True)
    )
