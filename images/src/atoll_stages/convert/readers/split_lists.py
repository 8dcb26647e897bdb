"""The split that an export gives its pictures: in lists (`train.txt`, `ImageSets/Main`) or entries of a data.yaml.

Lists are Darknet's and Ultralytics' (paths of pictures) or Pascal VOC's (names without suffix).
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from atoll_contract.archive.extract import Member
from atoll_contract.archive.limits import comparable, shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import IMAGE_SUFFIXES, AnnotatedImage, Archive
from atoll_stages.convert.readers.lookup import match_name, plain_path
from atoll_stages.convert.readers.parsing import annotation_text
from atoll_stages.convert.readers.yolo_lines import label_lines
from atoll_stages.convert.readers.yolo_names import darknet_entries, dataset_yamls
from atoll_stages.convert.split_names import TRAIN, split_of_dataset, split_of_folder, split_of_name

_QUOTED = re.compile(r"""^(?:"([^"]*)"|'([^']*)')""")
# Pascal VOC's list of one class has 1, 0 or -1 after each name.
_FLAG = re.compile(r"\s+-?[01]$")
_ENTRIES = ("train", "val", "valid", "test")
# The number of a list is a byte for each picture.
_MAX_LISTS = 254
_SHOWN_LISTS = 4


@dataclass(frozen=True)
class _SplitList:
    """A file that lists the pictures of a split; `is_union` is set for those of train and validation together."""

    file: Member
    split: str
    is_union: bool = False


class SplitLists:
    """The split of each picture that a list, or an entry of a data.yaml, gives."""

    def __init__(self, archive: Archive, *, is_wanted: bool = True) -> None:
        """Reads the lists; where the user wants another split they are known files, and no more."""
        self._archive = archive
        self._is_wanted = is_wanted
        self._lists: list[_SplitList] = []
        self._folders: dict[str, str] = {}
        found = sorted(self._find(), key=lambda item: item.is_union)[:_MAX_LISTS]
        # For each member the number of its list from 1, 0 where it is in none. A list may name any of them: a picture
        # needs no suffix.
        self._list_of = bytearray(archive.members.next_number if found else 0)
        for item in found:
            self._read(item)
        splits = {item.split for item in self._lists}
        self._is_split = TRAIN in splits and len(splits) > 1

    def applied(self, images: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
        """Yields the images, those with a split in the dataset that their list gives; counts those without."""
        for item in images:
            if not self._is_wanted:
                yield item
                continue
            split = self._of(item.image)
            if split is None and split_of_dataset(item.dataset) is None:
                split = split_of_dataset(item.image.folder)
                if split is None and self._is_split:
                    lists = ", ".join(shown(item.file.name) for item in self._lists[:_SHOWN_LISTS])
                    self._lost(item.image.name, f"in none of the lists {lists}")
            if split not in (None, split_of_dataset(item.dataset)):
                item = replace(item, dataset=f"{item.dataset}/{split}".lstrip("/"))
            yield item

    def _of(self, image: Member) -> str | None:
        if self._list_of and (number := self._list_of[image.number]):
            return self._lists[number - 1].split
        folder = comparable(image.folder)
        while folder and folder not in self._folders:
            folder = posixpath.dirname(folder)
        return self._folders.get(folder)

    def _find(self) -> Iterator[_SplitList]:
        """Yields the lists of the archive once each, and collects the folders of data.yaml files."""
        seen = set()
        for item in (*self._of_descriptions(), *self._of_names()):
            if item.file.number not in seen:
                seen.add(item.file.number)
                yield item

    def _of_descriptions(self) -> Iterator[_SplitList]:
        """Yields the lists that a Darknet `.data` or a data.yaml names."""
        for file in self._archive.files(".data"):
            entries = darknet_entries(self._archive, file)
            yield from self._entries(file, entries)
        try:
            for file, document in dataset_yamls(self._archive):
                yield from self._entries(file, document)
        except DatasetError:
            # The reader of YOLO refuses a damaged data.yaml; to others it is nothing.
            return

    def _entries(self, file: Member, document: dict[str, Any]) -> Iterator[_SplitList]:
        root = document.get("path")
        folders: dict[str, set[str]] = {}
        for key in _ENTRIES:
            value, split = document.get(key), split_of_name(key) or TRAIN
            for entry in value if isinstance(value, list) else [value]:
                if not isinstance(entry, str):
                    continue
                if entry.lower().endswith(".txt"):
                    yield from (_SplitList(found, split) for found in self._named_file(entry))
                elif (folder := self._folder(file, root if isinstance(root, str) else "", entry)) is not None:
                    folders.setdefault(comparable(folder), set()).add(split)
        # One folder for train and val is a place holder, and no split.
        self._folders.update({folder: splits.pop() for folder, splits in folders.items() if len(splits) == 1})

    def _named_file(self, entry: str) -> list[Member]:
        found = self._archive.members.by_base(PurePosixPath(plain_path(entry)).name)
        return found if len(found) == 1 else []

    def _folder(self, file: Member, root: str, entry: str) -> str | None:
        """Returns the folder of the archive that an entry of a data.yaml means, by as much of its path as there is."""
        parts = plain_path(entry).split("/")
        tails = ["/".join(parts[index:]) for index in range(len(parts))]
        paths = [posixpath.join(file.folder, plain_path(root), tails[0])]
        paths += [posixpath.join(folder, tail) for tail in tails for folder in (file.folder, "")]
        usable = (posixpath.normpath(path) for path in paths)
        return next((path for path in usable if path != "." and self._archive.members.has_below(path)), None)

    def _of_names(self) -> Iterator[_SplitList]:
        """Yields the text files whose names mean a split; only of `Main` where VOC has lists for other tasks."""
        for file in self._archive.files(".txt"):
            stem = PurePosixPath(file.base).stem
            split = split_of_folder(stem)
            above = PurePosixPath(file.folder)
            other_task = above.parent.name == "ImageSets" and above.name != "Main"
            has_main = other_task and self._archive.members.has_below(str(above.parent / "Main"))
            if split and not has_main:
                yield _SplitList(file, split, "trainval" in stem.lower())

    def _read(self, item: _SplitList) -> None:
        if item.file.size > self._archive.limits.annotation_bytes:
            return
        try:
            text = annotation_text(self._archive, item.file)
        except DatasetError:
            return
        labels, others = label_lines(text)
        if labels and not others:
            # The labels of a picture that is called `train`.
            return
        near = item.file.folder.partition("ImageSets")[0].rstrip("/")
        names = found = 0
        for line in filter(None, map(str.strip, text.splitlines())):
            image = self._image(line, near)
            names += plain_path(line).lower().endswith(IMAGE_SUFFIXES)
            if image is not None:
                if not found:
                    self._lists.append(item)
                    self._archive.use(item.file)
                found += 1
                self._assign(image, item)
        if names and not found:
            self._archive.use(item.file)
            self._lost(item.file.name, f"none of its {names} pictures is in the archive")

    def _image(self, line: str, near: str) -> Member | None:
        """Returns the picture that a line names: alone, in quotes, or before a flag or other columns.

        The line as it stands comes first, as quotes may be part of a name.
        """
        quoted = _QUOTED.match(line)
        names = (line, _FLAG.sub("", line), (quoted[1] or quoted[2]) if quoted else line.split()[0])
        for name in dict.fromkeys(names):
            image = match_name(self._archive.members, name, near=near).image
            if image is not None:
                return image
        return None

    def _assign(self, image: Member, item: _SplitList) -> None:
        if not self._list_of[image.number]:
            self._list_of[image.number] = len(self._lists)
        first = self._lists[self._list_of[image.number] - 1]
        if first.split != item.split and not item.is_union:
            self._lost(image.name, f"in {shown(first.file.name)} and in {shown(item.file.name)}")

    def _lost(self, file: str, detail: str) -> None:
        if self._is_wanted:
            self._archive.problems.add(Kind.SPLIT_LOST, Action.KEPT, file=file, detail=detail)
