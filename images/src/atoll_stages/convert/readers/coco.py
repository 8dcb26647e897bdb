"""COCO detection: one JSON with `images`, `annotations` and `categories` for many images.

Format: cocodataset.org/#format-data; Roboflow writes `<split>/_annotations.coco.json` beside its images, CVAT
`annotations/instances_<subset>.json` and the images below `images/<subset>`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.convert_spec import DatasetFormat
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.coco_boxes import annotation_edges, is_crowd
from atoll_stages.convert.readers.lookup import dataset_of, named_image
from atoll_stages.convert.readers.parsing import (
    invalid,
    json_object,
    list_of,
    parse_boxes,
)
from atoll_stages.convert.readers.shapes import count_around
from atoll_stages.convert.readers.values import InvalidValue, NoBox, id_of, positive_size, text_of
from atoll_stages.convert.split_names import TRAIN, VALIDATION, split_of_dataset
from atoll_stages.convert.totals import REPEATED

Id = int | str

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
# The tasks of COCO's own archives, before the name of a subset.
_PREFIX = re.compile(r"^(?:instances|person_keypoints|captions|stuff|panoptic|image_info)_?")


class CocoReader(Reader):
    format = DatasetFormat.COCO
    layout = "a .json with images, annotations and categories"

    def detects(self, archive: Archive) -> bool:
        return next(_annotation_files(archive), None) is not None

    def read(self, archive: Archive) -> Annotations:
        files = _chosen(archive)
        if len(files) == 1:
            document = json_object(archive, files[0])
            names = _categories(archive, document, files[0])
            return Annotations(tuple(names.values()), _Document(archive, files[0], document, names).images())
        # The classes of all files are needed first. Each file is then parsed again for its images, so that only one
        # is in memory.
        classes: dict[str, None] = {}
        for file in files:
            classes.update(dict.fromkeys(_categories(archive, json_object(archive, file), file).values()))
        return Annotations(tuple(classes), _images_of_all(archive, files))


def _annotation_files(archive: Archive) -> Iterator[Member]:
    return (file for file in archive.files(".json") if archive.json_texts.has(file, *_KEYS))


def _chosen(archive: Archive) -> list[Member]:
    """Returns the files to read, those whose name means a split first, so that `train.json` beats `all.json`.

    COCO's own archives have captions and keypoints of the same images beside the instances; these are left aside.
    """
    files = list(_annotation_files(archive))
    instances = {(file.folder, _subset(file)) for file in files if file.base.startswith("instances")}
    chosen = []
    for file in files:
        if file.base.startswith("instances") or (file.folder, _subset(file)) not in instances:
            chosen.append(file)
        else:
            archive.use(file)
    return sorted(chosen, key=lambda file: split_of_dataset(dataset_of(file)) is None)


def _subset(file: Member) -> str:
    """Returns the subset of which a file has the annotations: `Train` of `instances_Train.json`."""
    return _PREFIX.sub("", PurePosixPath(file.name).stem)


def _categories(archive: Archive, document: dict[str, Any], file: Member) -> dict[Id, str]:
    names: dict[Id, str] = {}
    for index, item in enumerate(list_of(document, "categories", file=file.name)):
        key, name = (id_of(item.get("id")), text_of(item.get("name"))) if isinstance(item, dict) else (None, None)
        if key is None or name is None:
            raise invalid(file.name, f"categories[{index}] needs a whole number or text as id, and a name")
        _require_same(names.setdefault(key, name), name, f"categories[{index}]", key, file)
        archive.check_class_count(file, len(names), "categories")
    return names


def _require_same(first: str, other: str, where: str, own_id: Id, file: Member) -> None:
    """Raises AnnotationInvalid where two items of a list have one id and say different things."""
    if first != other:
        what = own_id if isinstance(own_id, int) else shown(own_id, 40)
        raise invalid(file.name, f"{where}: id {what} is there twice")


def _images_of_all(archive: Archive, files: list[Member]) -> Iterator[AnnotatedImage]:
    """Yields the images of all files; those with a split are first in the list."""
    splits: set[str] = set()
    listed: set[int] = set()
    for file in files:
        document = json_object(archive, file)
        images = _Document(archive, file, document, _categories(archive, document, file)).images()
        split = split_of_dataset(dataset_of(file))
        if split is None and listed:
            images = _with_rest(list(images), splits, listed)
        for item in images:
            if split is not None:
                splits.add(split)
                listed.add(item.image.number)
            yield item


def _with_rest(images: list[AnnotatedImage], splits: set[str], listed: set[int]) -> Iterator[AnnotatedImage]:
    """Yields the images of a file without a split; those that files of one split left over are the other one.

    With `train.json` beside `all.json`, the rest of `all.json` is for validation.
    """
    is_whole = listed <= {item.image.number for item in images}
    rest = TRAIN if TRAIN not in splits else VALIDATION
    for item in images:
        is_rest = is_whole and rest not in splits and split_of_dataset(item.dataset) is None
        if is_rest and item.image.number not in listed:
            item = replace(item, dataset=f"{item.dataset}/{rest}".lstrip("/"))
        yield item


def _id_and_name(item: Any) -> tuple[Id | None, str | None]:
    """Returns the id and the file name of an item of `images`, each None where it is not usable."""
    if not isinstance(item, dict):
        return None, None
    return id_of(item.get("id")), text_of(item.get("file_name"))


@dataclass
class _ImageEntry:
    """An item of `images`, and the indices of its annotations."""

    file_name: str
    size: tuple[int, int] | None
    annotations: list[int] = field(default_factory=list)


class _Crowd(NoBox):
    kind = Kind.CROWD


class _Document:
    """One annotation file; the order of its images is kept."""

    def __init__(self, archive: Archive, file: Member, document: dict[str, Any], names: dict[Id, str]) -> None:
        self._archive, self._file, self._names = archive, file, names
        self._document = document
        items = document.get("annotations")
        self._annotations = [] if items is None else list_of(document, "annotations", file=file.name)
        objects = [item for item in self._annotations if isinstance(item, dict)]
        # Some tools mark every mask as a crowd. Where there is nothing else, they are the objects.
        self._only_crowds = bool(objects) and all(map(is_crowd, objects))

    def images(self) -> Iterator[AnnotatedImage]:
        dataset = dataset_of(self._file)
        for image, entries in self._entries_by_image():
            indices = sorted(index for entry in entries for index in entry.annotations)
            objects = ((index, self._annotations[index]) for index in indices)
            boxes = parse_boxes(self._archive, self._file, objects, self._box)
            if len(entries) > 1:
                boxes = self._merged(image, len(entries), boxes)
            size = next((entry.size for entry in entries if entry.size), None)
            yield AnnotatedImage(image, self._file.name, dataset, boxes, size)

    def _entries_by_image(self) -> Iterable[tuple[Member, list[_ImageEntry]]]:
        """Returns the images in the archive with all their entries, of which some tools write several.

        Boxes that were drawn at another scale are no second part of the first ones, but another annotation.
        """
        by_image: dict[tuple[int, tuple[int, int] | None], tuple[Member, list[_ImageEntry]]] = {}
        sizes: dict[int, tuple[int, int] | None] = {}
        for entry in self._entries_by_id().values():
            objects = len(entry.annotations)
            image = named_image(self._archive, entry.file_name, self._file, objects=objects)
            if image is not None:
                sizes[image.number] = sizes.get(image.number) or entry.size
                key = image.number, entry.size or sizes[image.number]
                by_image.setdefault(key, (image, []))[1].append(entry)
        return by_image.values()

    def _entries_by_id(self) -> dict[Id, _ImageEntry]:
        entries: dict[Id, _ImageEntry] = {}
        items = list_of(self._document, "images", file=self._file.name)
        bad = 0
        for index, item in enumerate(items):
            own_id, name = _id_and_name(item)
            if own_id is None or name is None:
                bad += 1
                if bad == len(items):
                    what = f"images[{index}] needs a whole number or text as id, and a file_name"
                    raise invalid(self._file.name, what)
            if own_id is None:
                self._archive.skip_missing_image(self._file, f"images[{index}] has no usable id")
                continue
            size = positive_size(item.get("width"), item.get("height"))
            first = entries.setdefault(own_id, _ImageEntry(name or "", size))
            _require_same(first.file_name, name or "", f"images[{index}]", own_id, self._file)
        for index, item in enumerate(self._annotations):
            image_id = item.get("image_id") if isinstance(item, dict) else None
            key = id_of(image_id)
            if key is None or key not in entries:
                detail = f"image_id {shown(repr(image_id), 40)} is not in images"
                self._archive.drop_object(Kind.BOX_MALFORMED, self._file, index, detail)
            else:
                entries[key].annotations.append(index)
        return entries

    def _merged(self, image: Member, entries: int, boxes: tuple[LabelledBox, ...]) -> tuple[LabelledBox, ...]:
        """Returns the boxes of an image that is entered more than once; of equal ones, the first."""
        unique: dict[Any, LabelledBox] = {}
        for box in boxes:
            unique.setdefault(box[:5], box)
        self._archive.totals.objects_left_out[REPEATED] += len(boxes) - len(unique)
        self._archive.problems.add(
            Kind.IMAGE_MERGED,
            Action.MERGED,
            file=self._file.name,
            detail=f"{shown(image.name)} is entered {entries} times; {len(boxes) - len(unique)} boxes are there twice",
        )
        return tuple(unique.values())

    def _box(self, item: dict[str, Any], index: int) -> LabelledBox:
        if is_crowd(item) and not self._only_crowds:
            raise _Crowd("a crowd has no single box")
        category = id_of(item.get("category_id"))
        if category is None or category not in self._names:
            raise InvalidValue(f"category_id {shown(repr(item.get('category_id')), 40)} is not in categories")
        edges, shape = annotation_edges(item)
        if is_crowd(item):
            self._archive.problems.add(
                Kind.CROWD_USED, Action.KEPT, file=self._file.name, number=index, detail="every object is a crowd"
            )
        if shape:
            count_around(self._archive, self._file, index, f"the box around its {shape}")
        return LabelledBox(self._names[category], *edges, number=index)
