"""Pascal VOC: one XML for each image, as labelImg, Roboflow and the VOC devkit write it.

A document with a DTD is refused, because entities let XML read other files and fill the memory.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.archive.limits import size as shown_size
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import annotated_image
from atoll_stages.convert.readers.parsing import (
    InvalidValue,
    annotation_bytes,
    annotation_text,
    invalid,
    number_text,
    parse_boxes,
    positive_size,
)
from atoll_stages.convert.split_names import split_of_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_HEAD = 2**16
# In memory an element takes some hundred times its bytes in the file; the file of one image is small.
_MAX_XML = 4 * 2**20


class VocReader(Reader):
    format = DatasetFormat.VOC
    layout = "an .xml for each picture"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        return Annotations((), _images(archive, _splits_by_stem(archive)))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    for file in archive.files(".xml"):
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD)
        # A file with a DTD may have its annotation further down; the parser refuses it.
        if b"<annotation" in head or b"<!DOCTYPE" in head:
            yield file


def _splits_by_stem(archive: Archive) -> dict[str, str]:
    """Reads `ImageSets/Main/train.txt` and its like: the name of the split of each image, by stem."""
    splits: dict[str, str] = {}
    for file in archive.members.with_suffix(".txt"):
        name = PurePosixPath(file.name).stem
        if PurePosixPath(file.folder).name == "Main" and name != "trainval" and split_of_name(name):
            splits.update(
                (line.split()[0], name) for line in annotation_text(archive, file).splitlines() if line.split()
            )
    return splits


def _images(archive: Archive, splits: dict[str, str]) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        with archive.skipping_unreadable(file):
            root = _parse(archive, file)
            name = (root.findtext("filename") or "").strip()
            if (image := annotated_image(archive, file, name=name)) is None:
                continue
            split = splits.get(PurePosixPath(file.name).stem)
            dataset = split or file.folder.removesuffix("Annotations").rstrip("/")
            boxes = parse_boxes(archive, file, enumerate(root.findall("object")), _box)
            yield AnnotatedImage(image, file.name, dataset, boxes, _size(root))


def _parse(archive: Archive, file: Member) -> "Element":
    """Returns the root of an annotation.

    Raises:
        DatasetError: DatasetUnsafe, it has a DTD; DatasetTooLarge; AnnotationInvalid, it is not XML or no annotation.
    """
    from xml.etree.ElementTree import ParseError  # the exception that defusedxml raises

    from defusedxml import DefusedXmlException, ElementTree

    if file.size > _MAX_XML:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE,
            f"annotation file {shown(file.name)} has {shown_size(file.size)}, limit {shown_size(_MAX_XML)}",
        )
    try:
        root: Element = ElementTree.fromstring(annotation_bytes(archive, file), forbid_dtd=True)
    except DefusedXmlException:
        raise DatasetError(
            Reason.DATASET_UNSAFE, f"DTD not allowed in {shown(file.name)}; remove its <!DOCTYPE …>"
        ) from None
    except ParseError as error:
        line, column = error.position
        raise invalid(file.name, f"line {line} col {column + 1}: {error.args[0]}") from None
    except (ValueError, LookupError) as error:
        raise invalid(file.name, f"line 1: {error}") from None
    if root.tag != "annotation":
        raise invalid(file.name, f"line 1: the root must be <annotation>, not <{root.tag[:40]}>")
    return root


def _size(root: "Element") -> tuple[int, int] | None:
    try:
        return positive_size(number_text(root.findtext("size/width")), number_text(root.findtext("size/height")))
    except InvalidValue:
        return None


def _box(item: "Element", index: int) -> LabelledBox:
    label = item.findtext("name")
    if label is None:
        raise InvalidValue("an object without name")
    left, top, right, bottom = (_edge(item, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
    return LabelledBox(label, left, top, right, bottom, number=index)


def _edge(item: "Element", path: str) -> float:
    text = item.findtext(path)
    if text is None:
        raise InvalidValue(f"no {path}")
    return number_text(text)
