"""Enters what readers return into the store, and settles the totals of an archive and of the whole conversion."""

from pathlib import PurePosixPath

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import is_litter, shown
from atoll_stages.convert.example_store import ExampleStore, PendingExample
from atoll_stages.convert.problems import Action, Kind, Problems
from atoll_stages.convert.readers.base import IMAGE_SUFFIXES, AnnotatedImage, Archive, LabelledBox
from atoll_stages.convert.readers.unread import explain_unused
from atoll_stages.convert.totals import IGNORED, REPEATED, USED, Fate, Totals

# Exports keep masks in these folders. They are drawn from the annotations that are read.
_MASK_FOLDERS = frozenset(
    ("masks_human", "masks_machine", "masks_instances", "SegmentationClass", "SegmentationObject", "SegmentationMask")
)
_FOLDERS = frozenset(("img_info", "ImageSets"))
_NAMES = frozenset(
    (
        ".gitignore",
        ".gitkeep",
        ".gitattributes",
        # labelImg writes it beside XML too; YOLO's reader notes it where it has the names.
        "classes.txt",
        # Colours and ids of Supervisely and CVAT, and Darknet's file of paths.
        "obj_class_to_machine_color.json",
        "key_id_map.json",
        "labelmap.txt",
        "obj.data",
        # Label Studio's list of the classes, beside classes.txt.
        "notes.json",
    )
)
_STEMS = ("readme", "license", "licence", "copying", "citation", "changelog")
# Ultralytics writes one beside the labels, made of them.
_CACHE = ".cache"


def add_annotated(store: ExampleStore, number: int, archive: Archive, item: AnnotatedImage) -> None:
    """Adds an image with its boxes to the archive `number` of the store.

    Where one annotation file has the image twice, the boxes of both entries are kept. Of two files the first counts;
    the other is a problem, unless it has the same boxes.
    """
    if (file := archive.members.get(item.annotation)) is not None:
        archive.fates.mark(file.number, Fate.ANNOTATION)
    if store.add(number, item):
        return
    first = store.pending_of(number, item.image.number)
    known = {_without_number(box) for box in first.boxes}
    more = tuple(box for box in item.boxes if _without_number(box) not in known)
    same_size = first.size == item.size or None in (first.size, item.size)
    same_frame = same_size and first.relative == item.relative
    if same_frame and not more and len(known) == len({_without_number(box) for box in item.boxes}):
        archive.totals.objects_left_out[REPEATED] += len(item.boxes)
    elif same_frame and first.annotation == item.annotation:
        _merge(store, archive, first, item, more)
    else:
        archive.totals.objects_left_out[Kind.ANNOTATION_DUPLICATE] += len(item.boxes)
        detail = f"{shown(item.image.name, 80)} has other boxes or another size in {shown(first.annotation, 80)}"
        archive.problems.add(Kind.ANNOTATION_DUPLICATE, Action.SKIPPED, file=item.annotation, detail=detail)


def _merge(
    store: ExampleStore, archive: Archive, first: PendingExample, item: AnnotatedImage, more: tuple[LabelledBox, ...]
) -> None:
    store.add_boxes(first, more)
    archive.totals.objects_left_out[REPEATED] += len(item.boxes) - len(more)
    detail = f"{len(first.boxes)} and {len(item.boxes)} boxes in {shown(item.annotation, 120)}"
    archive.problems.add(Kind.IMAGE_MERGED, Action.MERGED, file=item.image.name, detail=detail)


def _without_number(box: LabelledBox) -> tuple[str, float, float, float, float]:
    return (box.label, box.xmin, box.ymin, box.xmax, box.ymax)


def settle_members(store: ExampleStore, number: int, archive: Archive) -> None:
    """Counts what became of every member of an archive, and reports those that nothing was taken from."""
    totals = archive.totals
    totals.seen["members"] += len(archive.members)
    for member in archive.members:
        totals.members[_settled(store, number, archive, member)] += 1


def _settled(store: ExampleStore, number: int, archive: Archive, member: Member) -> str:
    if store.has_image(number, member.number):
        archive.totals.seen["pictures"] += 1
        return "pictures"
    fate = archive.fates.of(member.number)
    if fate is Fate.ANNOTATION:
        return "annotations"
    if fate is Fate.DESCRIPTION:
        return "descriptions"
    if fate is Fate.LEFT_OUT:
        return "leftOut"
    if _holds_no_labels(member.name):
        return "withoutLabels"
    if member.base.lower().endswith(IMAGE_SUFFIXES):
        archive.totals.seen["pictures"] += 1
        detail = "no annotation names this picture"
        archive.problems.add(Kind.ANNOTATION_MISSING, Action.SKIPPED, file=member.name, detail=detail)
        return Kind.ANNOTATION_MISSING
    detail = explain_unused(archive, member)
    archive.problems.add(Kind.FILE_UNUSED, Action.SKIPPED, file=member.name, detail=detail)
    return Kind.FILE_UNUSED


def _holds_no_labels(name: str) -> bool:
    """Returns whether a member is known to hold nothing that a data set loses without it."""
    path = PurePosixPath(name)
    base = path.name.lower()
    return (
        is_litter(name)
        or base.startswith(_STEMS)
        or base in _NAMES
        or base.endswith(_CACHE)
        or any(folder in _FOLDERS or folder in _MASK_FOLDERS for folder in path.parts[:-1])
    )


def close_totals(store: ExampleStore, totals: Totals, problems: Problems, *, ignored: int) -> dict[str, dict[str, int]]:
    """Returns the totals of a conversion whose images are read; `ignored` objects are of classes not asked for.

    Raises:
        AtollError: InternalError, a sum does not hold.
    """
    images, boxes = store.fates()
    objects = {**problems.dropped_objects, IGNORED: ignored}
    for kind, count in boxes.items():
        objects[kind] = objects.get(kind, 0) + count
    same = {
        f"pictures left out as {kind}": (count, _left_out(problems, Kind(kind)))
        for kind, count in images.items()
        if kind != USED
    }
    images[Kind.ANNOTATION_MISSING] = _left_out(problems, Kind.ANNOTATION_MISSING)
    return totals.closed(images=images, objects=objects, same=same)


def _left_out(problems: Problems, kind: Kind) -> int:
    return problems.actions[kind, Action.SKIPPED] + problems.actions[kind, Action.DROPPED]
