"""The names of YOLO's classes: which file names them for a label file, and what a data.yaml says besides.

Ultralytics and Roboflow write `data.yaml`, labelImg and Label Studio `classes.txt`, Darknet and CVAT `obj.names`,
Roboflow's Darknet export `_darknet.labels` in each part.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import Archive
from atoll_stages.convert.readers.parsing import annotation_text, invalid

LIST_NAMES = ("classes.txt", "class_names.txt", "predefined_classes.txt")
_LIST_SUFFIXES = (".names", ".labels")
_MAX_YAML = 2**20
_YAML_NULL = "tag:yaml.org,2002:null"
_NAMES_KEY = re.compile(rb"""(?:^|[{,])\s*["']?names["']?\s*:""", re.MULTILINE)
_TOP_KEY = re.compile(rb"""^["']?names["']?\s*:""", re.MULTILINE)
# A YAML with names and one of these describes a data set; so does one of these file names.
_DATASET_KEYS = frozenset(("train", "val", "test", "nc", "path"))
_DATASET_STEMS = ("data", "dataset")
# Beside labels or above them, names are also kept in these folders.
_FOLDERS = ("labels", "data")


@dataclass(frozen=True)
class NamedClasses:
    """The names of classes by number, the file (the first of several) that has them, and its `kpt_shape`."""

    file: Member
    names: Mapping[int, str]
    keypoints: tuple[int, int] | None = None


class ClassNameFiles:
    """All files of an archive that name YOLO's classes; each label file takes the nearest."""

    def __init__(self, archive: Archive) -> None:
        """Reads the files.

        Raises:
            DatasetError: AnnotationInvalid, one of them is damaged; DatasetTooLarge.
        """
        self._archive = archive
        self._by_folder: dict[str, list[NamedClasses]] = {}
        for found in _read_all(archive):
            archive.check_class_count(found.file, len(found.names))
            self._by_folder.setdefault(found.file.folder, []).append(found)
        # Label files come folder by folder.
        self._of_folder: dict[str, NamedClasses] = {}
        self._reported: set[tuple[int, int]] = set()
        self.members = frozenset(found.file.number for files in self._by_folder.values() for found in files)

    def of(self, file: Member) -> NamedClasses:
        """Returns the names for a label file: of its own folder, else of the nearest above, else of the archive.

        A file farther above with other names is counted.

        Raises:
            DatasetError: AnnotationInvalid, two files that are as near give one number two names, or there is none.
        """
        if file.folder not in self._of_folder:
            self._of_folder = {file.folder: self._nearest(file)}
        return self._of_folder[file.folder]

    def _nearest(self, file: Member) -> NamedClasses:
        nearest, *farther = list(self._above(file.folder)) or [
            [found for files in self._by_folder.values() for found in files]
        ]
        chosen = self._merged(nearest, file)
        for found in (found for files in farther for found in files):
            if (number := _first_difference(chosen.names, found.names)) is None:
                self._archive.use(found.file)
            else:
                self._report_other(file, chosen, found, number)
        shapes = (found.keypoints for files in (nearest, *farther) for found in files if found.keypoints)
        return replace(chosen, keypoints=next(shapes, None))

    def _above(self, folder: str) -> Iterator[list[NamedClasses]]:
        """Yields the files of a folder and of those above it, the nearest first."""
        path = PurePosixPath(folder or ".")
        seen: set[str] = set()
        for parent in (path, *path.parents):
            base = "" if str(parent) == "." else str(parent)
            for near in (base, *(posixpath.join(base, inner) for inner in _FOLDERS)):
                if near in self._by_folder and near not in seen:
                    seen.add(near)
                    yield self._by_folder[near]

    def _merged(self, files: list[NamedClasses], file: Member) -> NamedClasses:
        if not files:
            raise invalid(file.name, f"needs the names of its classes in {LIST_NAMES[0]} or data.yaml")
        names: dict[int, str] = {}
        for found in files:
            if (number := _first_difference(names, found.names)) is not None:
                first = next(item for item in files if number in item.names)
                both = f"{shown(first.names[number])} in {shown(first.file.name)} and {shown(found.names[number])} in "
                raise invalid(
                    file.name,
                    f"has classes of two files: {number} is {both}{shown(found.file.name)}; remove the wrong file, "
                    "or put each beside the labels that it is for",
                )
            names = {**found.names, **names}
            self._archive.use(found.file)
        return NamedClasses(files[0].file, dict(sorted(names.items())))

    def _report_other(self, file: Member, chosen: NamedClasses, other: NamedClasses, number: int) -> None:
        """Counts a file above the nearest one that gives a number another name, once for each pair."""
        pair = chosen.file.number, other.file.number
        if pair not in self._reported:
            self._reported.add(pair)
            self._archive.use(other.file)
            detail = (
                f"class {number} of {shown(file.name, 60)} is {shown(chosen.names[number], 40)} by the nearer "
                f"{shown(chosen.file.name, 60)}, not {shown(other.names[number], 40)}"
            )
            self._archive.problems.add(Kind.CLASS_NAMES_DIFFER, Action.KEPT, file=other.file.name, detail=detail)


def _first_difference(names: Mapping[int, str], others: Mapping[int, str]) -> int | None:
    """Returns the first number to which both give names, and not the same."""
    return next((number for number, name in others.items() if names.get(number, name) != name), None)


def has_class_names(archive: Archive) -> bool:
    """Returns whether a file of the archive names YOLO's classes; it may be damaged."""
    if next(_list_files(archive), None) is not None:
        return True
    return any(_describes_dataset(archive, file) for file in _yaml_files(archive))


def load_yaml(archive: Archive, file: Member) -> Any:
    """Returns the document of a YAML file, whose plain values are text as it is written, or None.

    YAML itself would make true of a class `yes`, 7 of `007` and 750 of `12:30`.

    Raises:
        DatasetError: AnnotationInvalid with line and column, also where it has aliases; DatasetTooLarge.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses aliases, with which a small file becomes a huge document."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    "aliases are not allowed",
                    self.peek_event().start_mark,  # type: ignore[no-untyped-call]
                )
            return super().compose_node(parent, index)

    Loader.yaml_implicit_resolvers = {
        first: [resolver for resolver in resolvers if resolver[0] == _YAML_NULL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(annotation_text(archive, file), Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1} col {mark.column + 1}: " if mark else ""
        raise invalid(file.name, f"{where}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(file.name, f"no YAML: {shown(str(error))}") from None


def dataset_yamls(archive: Archive) -> Iterator[tuple[Member, dict[str, Any]]]:
    """Yields the YAML files that describe a data set, with their documents.

    Raises:
        DatasetError: AnnotationInvalid, one that has the key `names` is damaged.
    """
    for file in _yaml_files(archive):
        if _describes_dataset(archive, file):
            yield file, load_yaml(archive, file)


def _read_all(archive: Archive) -> Iterator[NamedClasses]:
    for file, document in dataset_yamls(archive):
        yield NamedClasses(file, _names_of(document["names"], file), _keypoints_of(document.get("kpt_shape"), file))
    for file in _list_files(archive):
        lines = annotation_text(archive, file).rstrip().splitlines()
        yield NamedClasses(file, {number: line.strip() for number, line in enumerate(lines)})


def _yaml_files(archive: Archive) -> Iterator[Member]:
    for file in archive.files(".yaml", ".yml"):
        if file.size <= _MAX_YAML and _NAMES_KEY.search(file.read()):
            yield file


def _describes_dataset(archive: Archive, file: Member) -> bool:
    """Returns whether a YAML has the names of classes: by its keys, or its own name; a damaged one may have them."""
    is_named = PurePosixPath(file.base).stem.lower() in _DATASET_STEMS
    try:
        document = load_yaml(archive, file)
    except DatasetError:
        return is_named or _TOP_KEY.search(file.read()) is not None
    if not isinstance(document, dict) or "names" not in document:
        return False
    return is_named or bool(_DATASET_KEYS & document.keys())


def _list_files(archive: Archive) -> Iterator[Member]:
    listed = [file for base in LIST_NAMES for file in archive.members.by_base(base)]
    listed += (file for file in archive.files(*_LIST_SUFFIXES) if not _is_json(file))
    # A Darknet `.data` may give the list any other name.
    for file in archive.files(".data"):
        listed += archive.members.by_base(PurePosixPath(darknet_entries(archive, file).get("names", "")).name)
    seen: set[int] = set()
    for file in listed:
        if file.number not in seen and not file.base.startswith("._"):
            seen.add(file.number)
            yield file


def _is_json(file: Member) -> bool:
    """Returns whether a file is JSON, as Edge Impulse's `bounding_boxes.labels`, and no list."""
    with file.open() as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))


def darknet_entries(archive: Archive, file: Member) -> dict[str, str]:
    """Returns the entries `key = value` of a Darknet `.data` file; none where it is something else."""
    try:
        lines = annotation_text(archive, file).splitlines() if file.size <= _MAX_YAML else []
    except DatasetError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


def _names_of(names: Any, file: Member) -> dict[int, str]:
    """Returns `names` of a data.yaml, which is a list, or a map from number to name."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    pairs: Iterable[tuple[Any, Any]] = names.items() if isinstance(names, dict) else [("", None)]
    found: dict[int, str] = {}
    for key, name in pairs:
        if not str(key).isdecimal() or isinstance(name, dict | list) or name is None:
            raise invalid(file.name, "key names must be a list of names, or a map from number to name")
        found[int(key)] = str(name)
    return found


def _keypoints_of(shape: Any, file: Member) -> tuple[int, int] | None:
    if shape is None:
        return None
    numbers = [int(str(item)) if str(item).isdecimal() else -1 for item in shape] if isinstance(shape, list) else []
    if len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise invalid(file.name, f"key kpt_shape must be [number of keypoints, 2 or 3], not {shown(str(shape), 40)}")
    return numbers[0], numbers[1]
