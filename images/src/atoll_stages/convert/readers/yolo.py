"""YOLO: one text file for each image, with a line for each object.

`yolo_names` finds the names of the classes, `yolo_lines` reads the lines.
"""

from collections.abc import Iterator
from functools import partial

from atoll_contract.archive.extract import Member
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import AnnotatedImage, Annotations, Archive, LabelledBox, Reader
from atoll_stages.convert.readers.lookup import counted_image, match_annotation
from atoll_stages.convert.readers.parsing import annotation_text, parse_boxes
from atoll_stages.convert.readers.shapes import count_around
from atoll_stages.convert.readers.values import InvalidValue
from atoll_stages.convert.readers.yolo_lines import LineColumns, Shape, label_lines, line_edges, may_be_label
from atoll_stages.convert.readers.yolo_names import ClassNameFiles, NamedClasses, has_class_names


class YoloReader(Reader):
    format = DatasetFormat.YOLO
    layout = "data.yaml, classes.txt or obj.names, and a .txt for each picture"

    def detects(self, archive: Archive) -> bool:
        return has_class_names(archive)

    def read(self, archive: Archive) -> Annotations:
        export = _Export(archive)
        return Annotations(export.classes(), export.images())


def has_label_lines(archive: Archive, file: Member) -> bool:
    """Returns whether a text file has lines, and all are lines of YOLO."""
    lines, others = _label_lines(archive, file)
    return bool(lines) and not others


class _Export:
    """The label files of an archive, with the names and the columns that belong to each."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._names = ClassNameFiles(archive)
        self._classes: dict[str, None] = {}
        self._columns: dict[int, LineColumns] = {}
        for file in self._label_files():
            lines, others = _label_lines(archive, file)
            if lines and len(lines) >= others:
                names = self._names.of(file)
                self._classes.update(dict.fromkeys(names.names.values()))
                for values in lines:
                    self._columns_of(names).add(values)

    def classes(self) -> tuple[str, ...]:
        return tuple(self._classes)

    def images(self) -> Iterator[AnnotatedImage]:
        for file in self._label_files():
            found = match_annotation(self._archive.members, file)
            if found.image is None and not found.others and not self._is_label(file):
                continue
            objects = len(_label_lines(self._archive, file)[0]) if found.image is None else 0
            missing = "no picture of this name is in the archive"
            if (image := counted_image(self._archive, file, found, missing, objects=objects)) is not None:
                yield from self._annotated(image, file)

    def _annotated(self, image: Member, file: Member) -> Iterator[AnnotatedImage]:
        texts = []
        with self._archive.skipping_unreadable(file):
            texts.append(annotation_text(self._archive, file))
        # Names that contradict each other end the reading; only what is wrong with this file skips it.
        for text in texts:
            objects = [(index, line) for index, line in enumerate(text.splitlines()) if line.split()]
            if objects and not _is_in_labels(file) and not any(may_be_label(line) for _, line in objects):
                # A caption, a README or a list, with the name of a picture.
                return
            boxes = self._boxes(file, objects) if objects else ()
            dataset = "/".join(part for part in file.folder.split("/") if part.lower() != "labels")
            yield AnnotatedImage(image, file.name, dataset, boxes, relative=True)

    def _boxes(self, file: Member, objects: list[tuple[int, str]]) -> tuple[LabelledBox, ...]:
        names = self._names.of(file)
        parse = partial(_box, self._archive, file, names, self._columns_of(names))
        return parse_boxes(self._archive, file, objects, parse)

    def _label_files(self) -> Iterator[Member]:
        return (file for file in self._archive.files(".txt") if file.number not in self._names.members)

    def _columns_of(self, names: NamedClasses) -> LineColumns:
        return self._columns.setdefault(names.file.number, LineColumns(names.keypoints))

    def _is_label(self, file: Member) -> bool:
        """Returns whether a text file without picture has labels, and is no README or list of files."""
        if _is_in_labels(file) and not file.size:
            return True
        return has_label_lines(self._archive, file)


def _is_in_labels(file: Member) -> bool:
    return "labels" in file.folder.lower().split("/")


def _label_lines(archive: Archive, file: Member) -> tuple[list[list[float]], int]:
    """Returns what `label_lines` finds in a text file; nothing where it cannot be read."""
    if file.size > archive.limits.annotation_bytes:
        return [], 0
    try:
        return label_lines(annotation_text(archive, file))
    except DatasetError:
        return [], 0


def _box(
    archive: Archive, file: Member, names: NamedClasses, columns: LineColumns, line: str, index: int
) -> LabelledBox:
    try:
        label, edges, meaning = line_edges(names.names, columns, line)
    except InvalidValue as error:
        raise InvalidValue(f"line {index + 1}: {error}") from None
    if meaning.shape is not Shape.BOX:
        count_around(archive, file, index, f"line {index + 1}: the box around {meaning.shape.value}")
    if meaning.unread:
        detail = f"line {index + 1}: {meaning.unread} not read"
        archive.problems.add(Kind.COLUMN_UNREAD, Action.KEPT, file=file.name, number=index, detail=detail)
    return LabelledBox(label, *edges, number=index)
