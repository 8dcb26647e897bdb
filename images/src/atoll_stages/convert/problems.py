"""The problems of a dataset, counted by kind and the first of them listed, and the limit for invalid data."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.archive.limits import shown
from atoll_contract.dataset import MAX_PROBLEMS, Problem
from atoll_contract.errors import DatasetError, Reason, bounded

_MAX_FILE = 512
_MAX_DETAIL = 200


class Kind(StrEnum):
    """Everything that convert reports. `dataset.json` has the values."""

    BOX_CLIPPED = "BoxClipped"
    BOX_INVERTED = "BoxInverted"
    BOX_EMPTY = "BoxEmpty"
    BOX_OUTSIDE = "BoxOutside"
    BOX_MALFORMED = "BoxMalformed"
    BOX_NORMALISED = "BoxNormalised"
    # A shape that is no upright rectangle; the box around it is taken.
    BOX_AROUND = "BoxAround"
    # Numbers beside the box (confidence, track id, keypoints) that are not read.
    COLUMN_UNREAD = "ColumnUnread"
    CROWD = "Crowd"
    # Every object of the file is marked as a crowd, so these are the objects.
    CROWD_USED = "CrowdUsed"
    GEOMETRY_WITHOUT_AREA = "GeometryWithoutArea"
    GEOMETRY_UNKNOWN = "GeometryUnknown"
    # Two files name the classes of a label file differently; the nearer one counts.
    CLASS_NAMES_DIFFER = "ClassNamesDiffer"
    CLASS_UNDECLARED = "ClassUndeclared"
    ANNOTATION_UNREADABLE = "AnnotationUnreadable"
    ANNOTATION_MISSING = "AnnotationMissing"
    ANNOTATION_DUPLICATE = "AnnotationDuplicate"
    IMAGE_MISSING = "PictureMissing"
    IMAGE_UNREADABLE = "PictureUnreadable"
    IMAGE_MISNAMED = "PictureMisnamed"
    # A GIF or TIFF with more frames or pages than the one that is read.
    IMAGE_FIRST_FRAME = "PictureFirstFrame"
    # One picture entered twice; the boxes of both entries are kept.
    IMAGE_MERGED = "PictureMerged"
    # Two pictures fit an annotation; none is guessed.
    IMAGE_AMBIGUOUS = "PictureAmbiguous"
    # Found under another suffix, folder or spelling than the annotation has.
    IMAGE_RENAMED = "PictureFoundByStem"
    # A member that no reader takes anything from, and that is no known litter.
    FILE_UNUSED = "FileUnused"
    # Two formats in one archive label a picture alike.
    FORMAT_REPEATED = "FormatRepeated"
    # Bytes of an archive that are no member of it.
    BYTES_UNREAD = "BytesUnread"
    # The user's own split cannot be kept.
    SPLIT_LOST = "SplitLost"
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
    BOXED = "boxed"
    MERGED = "merged"


# The kinds that count against `maxInvalidPercent`.
INVALID_BOX = (Kind.BOX_INVERTED, Kind.BOX_EMPTY, Kind.BOX_OUTSIDE, Kind.BOX_MALFORMED, Kind.BOX_NORMALISED)
INVALID_ANNOTATION = (Kind.ANNOTATION_UNREADABLE,)
# Fewer bad boxes than these are a warning, whatever their share.
MIN_BAD_BOXES = 5
INVALID_IMAGE = (Kind.IMAGE_UNREADABLE, Kind.SIZE_MISMATCH)


class Problems:
    """Counts all problems and lists the first `MAX_PROBLEMS`; memory does not grow with the dataset.

    `actions` counts by kind and action; `dropped_objects` counts the objects of annotations that are left out.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.actions: Counter[tuple[Kind, Action]] = Counter()
        self.dropped_objects: Counter[str] = Counter()
        self.listed: list[Problem] = []
        self._first: dict[tuple[Kind, Action], Problem] = {}
        self._prefix = ""

    def of_archive(self, name: str) -> "Problems":
        """Returns a view that adds to the same counts, and puts the archive's name before file names."""
        view = Problems()
        view.counts, view.listed, view._first = self.counts, self.listed, self._first
        view.actions, view.dropped_objects = self.actions, self.dropped_objects
        view._prefix = f"{name}: "
        return view

    def add(self, kind: Kind, action: Action, *, file: str, detail: str = "", number: int | None = None) -> None:
        """Counts a problem. `file` is the annotation or image, `number` the object's index in it, from 0."""
        self.counts[kind] += 1
        self.actions[kind, action] += 1
        if number is not None and action is Action.DROPPED:
            self.dropped_objects[kind] += 1
        if len(self.listed) < MAX_PROBLEMS or (kind, action) not in self._first:
            file, detail = bounded(self._prefix + file, _MAX_FILE), bounded(detail, _MAX_DETAIL)
            problem = Problem(file=file, kind=kind, action=action, detail=detail, object=number)
            self._first.setdefault((kind, action), problem)
            if len(self.listed) < MAX_PROBLEMS:
                self.listed.append(problem)

    def total(self, *kinds: Kind) -> int:
        return sum(self.counts[kind] for kind in kinds)

    def first(self, *kinds: Kind) -> str:
        """Describes the first problem of these kinds: file, object, kind, detail."""
        found = next((problem for (kind, _), problem in self._first.items() if kind in kinds), None)
        return f"{_where(found)}: {found.kind} {found.detail}".rstrip() if found else "none"

    def first_change(self, kind: Kind) -> str:
        """Describes the first problem of a kind, one by which data was left out or changed if there is any."""
        found = [problem for (of, _), problem in self._first.items() if of == kind]
        first = min(found, key=lambda problem: problem.action == Action.KEPT)
        return f"{_where(first)}: {first.detail}" if first.detail else _where(first)


def _where(problem: Problem) -> str:
    item = "" if problem.object is None else f" object {problem.object}"
    return f"{shown(problem.file)}{item}"


@dataclass
class InvalidBudget:
    """Counts the images read and the boxes used; at most `max_percent` of each may be invalid.

    Fewer than `MIN_BAD_BOXES` bad boxes are never too many: in a small dataset, one slip of the mouse is a percent.
    """

    max_percent: float
    images: int = 0
    boxes: int = 0

    def check(self, problems: Problems) -> None:
        """Raises AnnotationInvalid or DatasetMalformed where more than `max_percent` of the annotation files, images or
        boxes are bad; the message describes the first of them."""
        files = self.images + problems.total(*INVALID_ANNOTATION)
        boxes = self.boxes + problems.total(*INVALID_BOX)
        for kinds, total, what, reason in (
            (INVALID_ANNOTATION, files, "annotation files unreadable", Reason.ANNOTATION_INVALID),
            (INVALID_IMAGE, self.images, "pictures unreadable", Reason.DATASET_MALFORMED),
            (INVALID_BOX, boxes, "boxes invalid", Reason.ANNOTATION_INVALID),
        ):
            bad = problems.total(*kinds)
            few = kinds is INVALID_BOX and bad < MIN_BAD_BOXES
            if total and not few and 100 * bad > self.max_percent * total:
                raise DatasetError(
                    reason,
                    f"{bad:,} of {total:,} {what} ({100 * bad / total:.1f} %, limit {self.max_percent:g} %); "
                    f"first: {problems.first(*kinds)}",
                )


def counted(count: int, noun: str) -> str:
    """Returns `1 picture`, `2,000 pictures`, `2 boxes`."""
    suffix = "" if count == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}{suffix}"
