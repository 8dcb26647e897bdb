"""What was not taken as it stood, counted by kind, with file and object."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.archive.limits import shown
from atoll_contract.dataset import MAX_PROBLEMS, Problem
from atoll_contract.errors import DatasetError, Reason, bounded

_MAX_FILE = 512
_MAX_DETAIL = 200


class Kind(StrEnum):
    """Everything that convert reports. The value stands in `dataset.json`."""

    BOX_CLIPPED = "BoxClipped"
    BOX_INVERTED = "BoxInverted"
    BOX_EMPTY = "BoxEmpty"
    BOX_OUTSIDE = "BoxOutside"
    BOX_MALFORMED = "BoxMalformed"
    BOX_NORMALISED = "BoxNormalised"
    CROWD = "Crowd"
    GEOMETRY_WITHOUT_AREA = "GeometryWithoutArea"
    GEOMETRY_UNKNOWN = "GeometryUnknown"
    CLASS_IGNORED = "ClassIgnored"
    CLASS_UNDECLARED = "ClassUndeclared"
    ANNOTATION_UNREADABLE = "AnnotationUnreadable"
    ANNOTATION_MISSING = "AnnotationMissing"
    ANNOTATION_DUPLICATE = "AnnotationDuplicate"
    PICTURE_MISSING = "PictureMissing"
    PICTURE_UNREADABLE = "PictureUnreadable"
    PICTURE_MISNAMED = "PictureMisnamed"
    SIZE_MISMATCH = "SizeMismatch"
    SIZE_SCALED = "SizeScaled"
    DUPLICATE = "Duplicate"
    NEAR_DUPLICATE = "NearDuplicate"
    SPLIT_LEAKAGE = "SplitLeakage"


class Action(StrEnum):
    """What was done about a problem."""

    CLIPPED = "clipped"
    DROPPED = "dropped"
    SKIPPED = "skipped"
    SCALED = "scaled"
    KEPT = "kept"


# Counted against `maxInvalidPercent`, of boxes and of pictures.
INVALID_BOX = (Kind.BOX_INVERTED, Kind.BOX_EMPTY, Kind.BOX_OUTSIDE, Kind.BOX_MALFORMED, Kind.BOX_NORMALISED)
INVALID_ANNOTATION = (Kind.ANNOTATION_UNREADABLE,)
INVALID_PICTURE = (Kind.PICTURE_UNREADABLE, Kind.SIZE_MISMATCH)


class Problems:
    """All counts, and the first `MAX_PROBLEMS` problems themselves; memory does not grow with the dataset."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[Problem] = []
        self._first: dict[Kind, Problem] = {}
        self._prefix = ""

    def within(self, archive: str) -> "Problems":
        """The same problems, with file names led by their archive's: for runs of several archives."""
        part = Problems()
        part.counts, part.listed, part._first = self.counts, self.listed, self._first
        part._prefix = f"{archive}: "
        return part

    def add(self, kind: Kind, action: Action, *, file: str, detail: str = "", number: int | None = None) -> None:
        """Count one problem. `file` is the annotation or picture, `number` the object's place in it, from 0."""
        self.counts[kind] += 1
        if len(self.listed) < MAX_PROBLEMS or kind not in self._first:
            file, detail = bounded(self._prefix + file, _MAX_FILE), bounded(detail, _MAX_DETAIL)
            problem = Problem(file=file, kind=kind, action=action, detail=detail, object=number)
            self._first.setdefault(kind, problem)
            if len(self.listed) < MAX_PROBLEMS:
                self.listed.append(problem)

    def total(self, *kinds: Kind) -> int:
        return sum(self.counts[kind] for kind in kinds)

    def first(self, *kinds: Kind) -> str:
        """The first problem of these kinds in words: file, object, detail."""
        found = next((self._first[kind] for kind in kinds if kind in self._first), None)
        if found is None:
            return "none"
        place = "" if found.object is None else f" object {found.object}"
        return f"{shown(found.file)}{place}: {found.kind} {found.detail}".rstrip()


@dataclass
class Tally:
    """Pictures looked at and boxes taken; what was refused stands in `Problems`."""

    pictures: int = 0
    boxes: int = 0

    def require(self, problems: Problems, max_percent: float) -> None:
        """
        Raises:
            DatasetError: AnnotationInvalid or DatasetMalformed, more than `max_percent` of the annotation files,
                boxes or pictures are bad; the first of them is named.
        """
        files = self.pictures + problems.total(*INVALID_ANNOTATION)
        boxes = self.boxes + problems.total(*INVALID_BOX)
        for kinds, whole, what, reason in (
            (INVALID_ANNOTATION, files, "annotation files unreadable", Reason.ANNOTATION_INVALID),
            (INVALID_PICTURE, self.pictures, "pictures unreadable", Reason.DATASET_MALFORMED),
            (INVALID_BOX, boxes, "boxes invalid", Reason.ANNOTATION_INVALID),
        ):
            _require(problems, kinds, whole=whole, what=what, reason=reason, max_percent=max_percent)


def _require(
    problems: Problems, kinds: tuple[Kind, ...], *, whole: int, what: str, reason: Reason, max_percent: float
) -> None:
    bad = problems.total(*kinds)
    if whole and 100 * bad > max_percent * whole:
        raise DatasetError(
            reason,
            f"{bad:,} of {whole:,} {what} ({100 * bad / whole:.1f} %, limit {max_percent:g} %); "
            f"first: {problems.first(*kinds)}",
        )


def counted(count: int, noun: str) -> str:
    """`1 picture`, `2,000 pictures`, `2 boxes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}{ending}"
