"""Pascal VOC: one XML for each picture, as labelImg, Roboflow and the VOC devkit write it.

Documents with a DTD are refused whole: entities are how XML reads foreign files or fills the memory.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.archive.limits import size as shown_size
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example import Archive, Example, LabelledBox, Reading
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.parsing import (
    ValueFault,
    annotation_bytes,
    annotation_text,
    invalid,
    number_text,
    picture_by_name,
    picture_by_stem,
    positive_size,
)
from atoll_stages.convert.split import part_of_word

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_HEAD = 2**16
# An element takes some hundred bytes of memory for each of its bytes here; one picture's file is small.
_MAX_XML = 4 * 2**20


def detects(archive: Archive) -> bool:
    """Whether an XML file begins with an annotation."""
    return next(_annotations(archive), None) is not None


def read(archive: Archive) -> Reading:
    return Reading((), _examples(archive, _parts_by_stem(archive)))


def _annotations(archive: Archive) -> Iterator[Member]:
    for member in archive.members.with_suffix(".xml"):
        if member.base.startswith("._"):
            continue
        with member.path.open("rb") as file:
            head = file.read(_HEAD)
        # What hides behind a DTD is not looked at, but refused by the parser.
        if b"<annotation" in head or b"<!DOCTYPE" in head:
            yield member


def _parts_by_stem(archive: Archive) -> dict[str, str]:
    """`ImageSets/Main/train.txt` and its like: the part of each picture, by stem."""
    parts: dict[str, str] = {}
    for member in archive.members.with_suffix(".txt"):
        word = PurePosixPath(member.name).stem
        if PurePosixPath(member.folder).name == "Main" and word != "trainval" and part_of_word(word):
            parts.update(
                (line.split()[0], word) for line in annotation_text(archive, member).splitlines() if line.split()
            )
    return parts


def _examples(archive: Archive, parts: dict[str, str]) -> Iterator[Example]:
    for member in _annotations(archive):
        try:
            root = _parsed(archive, member)
        except DatasetError as error:
            if error.reason is not Reason.ANNOTATION_INVALID:
                raise
            archive.problems.add(Kind.ANNOTATION_UNREADABLE, Action.SKIPPED, file=member.name, detail=error.message)
            continue
        stem, name = PurePosixPath(member.name).stem, (root.findtext("filename") or "").strip()
        picture = picture_by_stem(archive.members, stem, near=member.folder)
        if picture is None and name:
            picture = picture_by_name(archive.members, name, near=member.folder)
        if picture is None:
            detail = f"neither {shown(stem)} nor {shown(name)} is a picture of the archive"
            archive.problems.add(Kind.PICTURE_MISSING, Action.SKIPPED, file=member.name, detail=detail)
            continue
        boxes = (_box(archive, item, place, member) for place, item in enumerate(root.findall("object")))
        yield Example(
            picture=picture,
            annotation=member.name,
            dataset=parts.get(stem) or member.folder.removesuffix("Annotations").rstrip("/"),
            boxes=tuple(box for box in boxes if box is not None),
            size=_size(root),
        )


def _parsed(archive: Archive, member: Member) -> "Element":
    """The root of an annotation.

    Raises:
        DatasetError: DatasetUnsafe, it has a DTD; AnnotationInvalid, it is no XML or no annotation.
    """
    from xml.etree.ElementTree import ParseError  # the exception that defusedxml raises

    from defusedxml import DefusedXmlException, ElementTree

    if member.size > _MAX_XML:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"annotation file {shown(member.name)} has {shown_size(member.size)}, limit {shown_size(_MAX_XML)}",
        )
    try:
        root: Element = ElementTree.fromstring(annotation_bytes(archive, member), forbid_dtd=True)
    except DefusedXmlException:
        raise DatasetError(
            Reason.DATASET_UNSAFE, f"DTD not allowed in {shown(member.name)}; remove its <!DOCTYPE …>"
        ) from None
    except ParseError as error:
        line, column = error.position
        raise invalid(member.name, f"line {line} col {column + 1}: {error.args[0]}") from None
    except (ValueError, LookupError) as error:
        raise invalid(member.name, f"line 1: {error}") from None
    if root.tag != "annotation":
        raise invalid(member.name, f"line 1: the root must be <annotation>, not <{root.tag[:40]}>")
    return root


def _size(root: "Element") -> tuple[int, int] | None:
    try:
        return positive_size(number_text(root.findtext("size/width")), number_text(root.findtext("size/height")))
    except ValueFault:
        return None


def _box(archive: Archive, item: "Element", place: int, member: Member) -> LabelledBox | None:
    try:
        label = item.findtext("name")
        if label is None:
            raise ValueFault("an object without name")
        left, top, right, bottom = (
            _edge(item, edge) for edge in ("bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
        )
    except ValueFault as error:
        archive.problems.add(Kind.BOX_MALFORMED, Action.DROPPED, file=member.name, number=place, detail=str(error))
        return None
    return LabelledBox(label, left, top, right, bottom, number=place)


def _edge(item: "Element", path: str) -> float:
    text = item.findtext(path)
    if text is None:
        raise ValueFault(f"no {path}")
    return number_text(text)
