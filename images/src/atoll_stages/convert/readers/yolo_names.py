"""The names of YOLO's classes: which file names them for a label file, and what a data.yaml says besides.

Ultralytics and Roboflow write `data.yaml`, labelImg and Label Studio `classes.txt`, Darknet and CVAT `obj.names`,
Roboflow's Darknet export `_darknet.labels` in each part.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.readers.base import Archive
from atoll_stages.convert.readers.parsing import annotation_text, invalid

LIST_NAMES = ("classes.txt", "class_names.txt", "predefined_classes.txt")
_LIST_SUFFIXES = (".names", ".labels")
_MAX_YAML = 2**20
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
        self.members = frozenset(found.file.number for files in self._by_folder.values() for found in files)

    def of(self, file: Member) -> NamedClasses:
        """Returns the names for a label file: of its own folder, else of the nearest above, else of the archive.

        Raises:
            DatasetError: AnnotationInvalid, two files that are as near give one number two names, or there is none.
        """
        path = PurePosixPath(file.folder or ".")
        for parent in (path, *path.parents):
            folder = "" if str(parent) == "." else str(parent)
            for near in (folder, *(posixpath.join(folder, inner) for inner in _FOLDERS)):
                if near in self._by_folder:
                    return self._merged(self._by_folder[near], file)
        return self._merged([found for files in self._by_folder.values() for found in files], file)

    def _merged(self, files: list[NamedClasses], file: Member) -> NamedClasses:
        if not files:
            raise invalid(file.name, f"needs the names of its classes in {LIST_NAMES[0]} or data.yaml")
        names: dict[int, str] = {}
        for found in files:
            for number, name in found.names.items():
                if names.setdefault(number, name) != name:
                    first = next(item for item in files if number in item.names)
                    both = f"{shown(first.names[number])} in {shown(first.file.name)} and {shown(name)} in "
                    raise invalid(
                        file.name,
                        f"has classes of two files: {number} is {both}{shown(found.file.name)}; remove the wrong file, "
                        "or put each beside the labels that it is for",
                    )
            self._archive.use(found.file)
        keypoints = next((found.keypoints for found in files if found.keypoints), None)
        return NamedClasses(files[0].file, names, keypoints)


def has_class_names(archive: Archive) -> bool:
    """Returns whether a file of the archive names YOLO's classes; it may be damaged."""
    if next(_list_files(archive), None) is not None:
        return True
    return any(_describes_dataset(archive, file) for file in _yaml_files(archive))


def load_yaml(archive: Archive, file: Member) -> Any:
    """Returns the document of a YAML file.

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
        if file.size <= _MAX_YAML and _NAMES_KEY.search(file.path.read_bytes()):
            yield file


def _describes_dataset(archive: Archive, file: Member) -> bool:
    """Returns whether a YAML has the names of classes: by its keys, or its own name; a damaged one may have them."""
    is_named = PurePosixPath(file.base).stem.lower() in _DATASET_STEMS
    try:
        document = load_yaml(archive, file)
    except DatasetError:
        return is_named or _TOP_KEY.search(file.path.read_bytes()) is not None
    if not isinstance(document, dict) or "names" not in document:
        return False
    return is_named or bool(_DATASET_KEYS & document.keys())


def _list_files(archive: Archive) -> Iterator[Member]:
    listed = [file for base in LIST_NAMES for file in archive.members.by_base(base)]
    listed += archive.files(*_LIST_SUFFIXES)
    # A Darknet `.data` may give the list any other name.
    for file in archive.files(".data"):
        listed += archive.members.by_base(PurePosixPath(darknet_entries(archive, file).get("names", "")).name)
    seen: set[int] = set()
    for file in listed:
        if file.number not in seen and not file.base.startswith("._"):
            seen.add(file.number)
            yield file


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
        # YAML reads a class `1` or `yes` as number or boolean.
        found[int(key)] = str(name)
    return found


def _keypoints_of(shape: Any, file: Member) -> tuple[int, int] | None:
    if shape is None:
        return None
    whole = isinstance(shape, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in shape)
    if not whole or len(shape) != 2 or shape[0] < 1 or shape[1] not in (2, 3):
        raise invalid(file.name, f"key kpt_shape must be [number of keypoints, 2 or 3], not {shown(str(shape), 40)}")
    return shape[0], shape[1]
