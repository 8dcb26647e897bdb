"""From the boxes of an annotation to the boxes of a picture: frame, orientation, clipping, class names."""

from dataclasses import dataclass

from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.boxes import fit, turned
from atoll_stages.convert.catalog import ClassBox, Waiting
from atoll_stages.convert.class_names import ClassNames
from atoll_stages.convert.pictures import Picture
from atoll_stages.convert.problems import Action, Kind, Problems

# Sizes whose ratios differ by less are the same picture at another scale.
_SAME_RATIO = 0.01


@dataclass(frozen=True)
class Frame:
    """What a box's numbers are relative to, and the EXIF orientation that still has to be applied to them."""

    width: float
    height: float
    orientation: int = 1
    scaled: bool = False


def frame_of(waiting: Waiting, picture: Picture) -> Frame | None:
    """The frame in which the example was annotated; None where its claimed size fits the picture in no way.

    Labelling tools show pictures upright, so that is assumed unless the claimed size says that the annotation
    was made on the picture as it is stored.
    """
    stored = picture.stored_size
    upright = (stored[1], stored[0]) if picture.orientation >= 5 else stored
    if waiting.relative:
        return Frame(1, 1)
    if waiting.size is None or waiting.size == upright:
        return Frame(*upright)
    if waiting.size == stored:
        return Frame(*stored, orientation=picture.orientation)
    claimed, real = waiting.size[0] / waiting.size[1], upright[0] / upright[1]
    if abs(claimed - real) <= _SAME_RATIO * real:
        return Frame(*waiting.size, scaled=True)
    return None


def fit_boxes(waiting: Waiting, frame: Frame, *, names: ClassNames, problems: Problems) -> tuple[ClassBox, ...]:
    """The usable boxes of an example; everything else is counted."""
    usable = []
    for raw in waiting.boxes:
        try:
            label = names.resolve(raw.label)
        except DatasetError as error:
            place = f"{shown(waiting.annotation)} object {raw.number}"
            raise DatasetError(error.reason, f"{place}: {error.message}") from None
        if label is None:
            problems.add(
                Kind.CLASS_IGNORED, Action.DROPPED, file=waiting.annotation, number=raw.number, detail=raw.label
            )
            continue
        fitted = fit(raw, width=frame.width, height=frame.height)
        edges = f"[{raw.xmin:g}, {raw.ymin:g}, {raw.xmax:g}, {raw.ymax:g}] in {frame.width:g}×{frame.height:g}"
        if isinstance(fitted, Kind):
            problems.add(fitted, Action.DROPPED, file=waiting.annotation, number=raw.number, detail=edges)
            continue
        if fitted.clipped:
            problems.add(Kind.BOX_CLIPPED, Action.CLIPPED, file=waiting.annotation, number=raw.number, detail=edges)
        usable.append(ClassBox(label, turned(fitted.box, frame.orientation)))
    return tuple(usable)
