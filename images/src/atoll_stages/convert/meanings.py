"""What each kind of problem means in plain words, what becomes of the data, and what the user can do about it."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from atoll_contract.errors import bounded
from atoll_stages.convert.problems import Action, Kind, Problems, counted

PAGE = "docs/data.md"
MAX_WARNINGS = 100
_MAX_WARNING = 600
_MAX_FIRST = 260
# Nothing is lost or changed by these where the data is kept; they are counted, and no warning.
_HARMLESS_IF_KEPT = frozenset((Kind.DUPLICATE, Kind.NEAR_DUPLICATE, Kind.IMAGE_MISNAMED))


class Meaning(NamedTuple):
    """`noun` is what is counted, `text` goes on from there; `outcome` is what convert does, `remedy` what helps.

    `action` is the word for the outcome in `dataset.json`.
    """

    action: Action
    noun: str
    text: str
    outcome: str
    remedy: str


MEANINGS: Mapping[Kind, Meaning] = {
    Kind.BOX_CLIPPED: Meaning(
        Action.CLIPPED, "box", "beyond the picture's edge", "cut at the edge", "look at the first if there are many"
    ),
    Kind.BOX_INVERTED: Meaning(
        Action.DROPPED, "box", "with right and left or top and bottom exchanged", "left out", "draw it again"
    ),
    Kind.BOX_EMPTY: Meaning(
        Action.DROPPED, "box", "without width or height", "left out", "draw it again, or delete it"
    ),
    Kind.BOX_OUTSIDE: Meaning(
        Action.DROPPED,
        "box",
        "outside the picture",
        "left out",
        "draw it again, or look whether the annotation is another picture's",
    ),
    Kind.BOX_MALFORMED: Meaning(
        Action.DROPPED,
        "object",
        "with values that are no box of a known class",
        "left out",
        "correct the values, or export again",
    ),
    Kind.BOX_NORMALISED: Meaning(
        Action.DROPPED,
        "box",
        "in shares of the picture where the format counts pixels",
        "left out",
        "export again, in pixels",
    ),
    Kind.BOX_AROUND: Meaning(
        Action.BOXED,
        "object",
        "of a shape that is no upright rectangle",
        "the box around the shape taken",
        "draw rectangles if the box around it is too large",
    ),
    Kind.COLUMN_UNREAD: Meaning(
        Action.KEPT,
        "object",
        "with more than a box (confidence, track id, keypoints, …)",
        "the box alone read",
        "nothing, unless these numbers matter: a detector does not learn them",
    ),
    Kind.CROWD: Meaning(Action.DROPPED, "object", "marked as a crowd", "left out", "box each one on its own"),
    Kind.CROWD_USED: Meaning(
        Action.KEPT,
        "object",
        "marked as a crowd in a file where every object is",
        "kept, each as one object",
        "look whether a box has more than one object in it",
    ),
    Kind.GEOMETRY_WITHOUT_AREA: Meaning(
        Action.DROPPED, "object", "drawn as a point or a line", "left out", "draw a rectangle"
    ),
    Kind.GEOMETRY_UNKNOWN: Meaning(
        Action.DROPPED, "object", "of an unknown shape", "left out", "draw a rectangle or a polygon"
    ),
    Kind.CLASS_NAMES_DIFFER: Meaning(
        Action.KEPT,
        "file",
        "with other class names than a file nearer to the labels",
        "the nearer file's names taken",
        "remove the wrong one of the two files",
    ),
    Kind.CLASS_UNDECLARED: Meaning(
        Action.KEPT, "object", "of a class that the export does not list", "kept", "add the class in the labelling tool"
    ),
    Kind.ANNOTATION_UNREADABLE: Meaning(
        Action.SKIPPED,
        "annotation file",
        "unreadable",
        "left out",
        "export it again, or repair the place that is named",
    ),
    Kind.ANNOTATION_MISSING: Meaning(
        Action.SKIPPED,
        "picture",
        "without annotation",
        "left out",
        "label it, or save an annotation without objects: the picture then teaches where nothing is",
    ),
    Kind.ANNOTATION_DUPLICATE: Meaning(
        Action.SKIPPED,
        "annotation",
        "of the same picture as an earlier annotation file, with other boxes",
        "left out; the file that comes first by name counts",
        "keep one file for each picture, or give pictures of different tasks different names",
    ),
    Kind.IMAGE_MISSING: Meaning(
        Action.SKIPPED,
        "annotation",
        "of a picture that is not there",
        "left out",
        "add the picture, or export with pictures",
    ),
    Kind.IMAGE_UNREADABLE: Meaning(Action.SKIPPED, "picture", "unreadable", "left out", "save it again as JPEG or PNG"),
    Kind.IMAGE_MISNAMED: Meaning(
        Action.KEPT, "picture", "of another format than the suffix says", "kept", "no action is needed"
    ),
    Kind.IMAGE_FIRST_FRAME: Meaning(
        Action.KEPT,
        "picture",
        "with more than one frame or page",
        "the first one read",
        "save each frame as a picture if the others are labelled",
    ),
    Kind.IMAGE_MERGED: Meaning(
        Action.MERGED,
        "picture",
        "entered twice",
        "taken once, with the boxes of both entries",
        "look whether objects have two boxes, or whether pictures of one name have overwritten each other",
    ),
    Kind.IMAGE_AMBIGUOUS: Meaning(
        Action.SKIPPED,
        "annotation",
        "fitting two pictures",
        "left out; none is guessed",
        "rename one of the pictures, or write its folder into the annotation",
    ),
    Kind.IMAGE_RENAMED: Meaning(
        Action.KEPT,
        "picture",
        "found under another suffix, folder or spelling than the annotation has",
        "kept",
        "look whether the first is the right one",
    ),
    Kind.FILE_UNUSED: Meaning(
        Action.SKIPPED,
        "file",
        "from which nothing was taken",
        "left out",
        "look whether labels are in it; remove it otherwise",
    ),
    Kind.FORMAT_REPEATED: Meaning(
        Action.SKIPPED,
        "picture",
        "labelled in two formats with the same boxes",
        "taken once",
        "nothing, or remove the files of one format",
    ),
    Kind.BYTES_UNREAD: Meaning(
        Action.SKIPPED,
        "archive",
        "with bytes behind its end that are no part of it",
        "left out",
        "pack it again if files are missing",
    ),
    Kind.SPLIT_LOST: Meaning(
        Action.KEPT,
        "picture",
        "whose place in the split could not be kept",
        "divided by Atoll",
        "name folders or lists train and val, each picture in one of them",
    ),
    Kind.SIZE_MISMATCH: Meaning(
        Action.SKIPPED,
        "picture",
        "of another shape than the annotation says",
        "left out",
        "export the annotation again with the picture that was labelled",
    ),
    Kind.SIZE_SCALED: Meaning(
        Action.SCALED,
        "picture",
        "of another size than the annotation says",
        "boxes scaled to it",
        "no action is needed",
    ),
    Kind.DUPLICATE: Meaning(
        Action.DROPPED,
        "picture",
        "there twice, byte for byte",
        "taken once; a copy in another data set or archive is kept",
        "remove the copy; look which of the annotations is right",
    ),
    Kind.NEAR_DUPLICATE: Meaning(
        Action.KEPT,
        "picture",
        "looking like another one elsewhere",
        "kept",
        "keep frames of one video in one part of the split",
    ),
    Kind.SPLIT_LEAKAGE: Meaning(
        Action.KEPT,
        "picture",
        "in two parts of the split",
        "kept in both",
        "remove it from one of them; figures are too good else",
    ),
}


def counted_images(used: int, totals: Mapping[str, int]) -> str:
    """Returns how many images are used, of how many, and why the others are left out; `totals` are those of images."""
    lost = {kind: count for kind, count in totals.items() if kind in MEANINGS and count}
    if not lost:
        return counted(used, "picture")
    copies = lost.pop(Kind.DUPLICATE, 0)
    reasons = [counted(copies, "exact duplicate")] if copies else []
    reasons += [f"{count:,} {MEANINGS[Kind(kind)].text}" for kind, count in lost.items()]
    left_out = copies + sum(lost.values())
    return f"{used:,} of {counted(used + left_out, 'picture')} (left out: {', '.join(reasons)})"


def anchor(kind: Kind) -> str:
    """Returns where the page says more about a kind."""
    return f"{PAGE}#{re.sub(r'(?<!^)(?=[A-Z])', '-', kind).lower()}"


def problem_warnings(problems: Problems) -> list[str]:
    """Returns a sentence for each kind of problem by which something was left out or changed, first the losses."""
    found = []
    for order, (kind, meaning) in enumerate(MEANINGS.items()):
        kept = problems.actions[kind, Action.KEPT] if kind in _HARMLESS_IF_KEPT else 0
        if count := problems.counts[kind] - kept:
            lost = meaning.action in (Action.DROPPED, Action.SKIPPED)
            found.append((not lost, -count, order, _sentence(kind, meaning, count, problems)))
    return [sentence for *_, sentence in sorted(found)]


def _sentence(kind: Kind, meaning: Meaning, count: int, problems: Problems) -> str:
    first = bounded(problems.first_change(kind), _MAX_FIRST)
    text = f"{counted(count, meaning.noun)} {meaning.text} ({meaning.outcome}); first: {first}; {meaning.remedy}"
    return f"{text}; see {anchor(kind)}"


def bounded_warnings(found: Sequence[str]) -> tuple[str, ...]:
    """Returns the warnings for reports and documents: at most MAX_WARNINGS, each of bounded length."""
    shown = [bounded(text, _MAX_WARNING) for text in found[:MAX_WARNINGS]]
    more = len(found) - len(shown)
    return (*shown, *([f"and {counted(more, 'more warning')}"] if more else []))
