"""CreateML: one JSON that lists images, each with `annotations` whose `coordinates` are a centre and a size in pixels.

Roboflow writes `<split>/_annotations.createml.json` beside its images, Apple's tools `annotations.json`.
"""

from collections.abc import Iterator
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.convert_spec import DatasetFormat
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.json_texts import LIST
from atoll_stages.convert.readers.lookup import dataset_of, named_image
from atoll_stages.convert.readers.parsing import annotation_bytes, invalid, parse_boxes, parse_json
from atoll_stages.convert.readers.values import InvalidValue, kind_of, number, text_of

_KEYS = (b'"annotation', b'"coordinates"')
_NAME_KEYS = (b'"image"', b'"imagefilename"')
_NAMES = ("image", "imagefilename")
_LISTS = ("annotations", "annotation")


class CreatemlReader(Reader):
    format = DatasetFormat.CREATEML
    layout = "a .json of CreateML"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        return Annotations((), _images(archive))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    """Yields the lists with annotations that have coordinates; COCO's JSON is no list, Label Studio's has others."""
    for file in archive.files(".json"):
        if any(archive.json_texts.has(file, LIST, *_KEYS, name) for name in _NAME_KEYS):
            yield file


def _images(archive: Archive) -> Iterator[AnnotatedImage]:
    for file in _annotation_files(archive):
        document = parse_json(annotation_bytes(archive, file), name=file.name, depth=archive.limits.json_depth)
        if not isinstance(document, list):
            raise invalid(file.name, f"the root must be a list, not {kind_of(document)}")
        first = 0
        for index, item in enumerate(document):
            name, objects = _entry(file, item, index)
            image = named_image(archive, name, file, objects=len(objects))
            if image is not None:
                boxes = parse_boxes(archive, file, enumerate(objects, start=first), _box)
                yield AnnotatedImage(image, file.name, dataset_of(file), boxes)
            first += len(objects)


def _entry(file: Member, item: Any, index: int) -> tuple[str, list[Any]]:
    """Returns the name of an image and its objects."""
    if not isinstance(item, dict):
        raise invalid(file.name, f"[{index}] must be an object, not {kind_of(item)}")
    name = next((item[key] for key in _NAMES if key in item), None)
    objects = next((item[key] for key in _LISTS if key in item), None)
    if not isinstance(name, str) or not isinstance(objects, list):
        raise invalid(file.name, f"[{index}] needs the name of an image and a list of annotations")
    return name, objects


def _box(item: Any, index: int) -> LabelledBox:
    coordinates = item.get("coordinates") if isinstance(item, dict) else None
    if not isinstance(coordinates, dict):
        raise InvalidValue("an annotation without coordinates")
    label = text_of(item.get("label"))
    if label is None:
        raise InvalidValue("an annotation without label")
    x, y, width, height = (number(coordinates.get(key)) for key in ("x", "y", "width", "height"))
    return LabelledBox(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2, number=index)
