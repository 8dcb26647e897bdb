"""Finding the picture that an annotation means, wherever the export put it."""

import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath

from atoll_contract.archive import Member, Members
from atoll_stages.convert.example import PICTURE_SUFFIXES
from atoll_stages.convert.parts import part_word_in

_PICTURE_FOLDERS = ("images", "JPEGImages", "img", "data", "")


def picture_by_name(members: Members, name: str, *, near: str) -> Member | None:
    """The member that an annotation in the folder `near` calls `name` (a file name or path, in any notation).

    First where exports put pictures beside annotations, then anywhere, if only one there has this name.
    """
    path = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
    while path.startswith("../"):
        path = path[3:]
    for folder in _folders(near):
        if (found := members.get(posixpath.join(folder, path))) is not None:
            return found
    return _only(members.by_base(PurePosixPath(path).name), path, near)


def picture_by_stem(members: Members, stem: str, *, near: str) -> Member | None:
    """The picture `stem` plus some suffix, in `near` or the folders beside it."""
    for folder in _folders(near):
        for suffix in PICTURE_SUFFIXES:
            if (found := members.get(posixpath.join(folder, stem + suffix))) is not None:
                return found
    return None


def dataset_of(member: Member) -> str:
    """What an annotation file for many pictures calls its dataset: its folder, and the part in its name."""
    word = part_word_in(member.base)
    return "/".join(part for part in (member.folder, word) if part) or PurePosixPath(member.name).stem


def _folders(near: str) -> Iterator[str]:
    parent = posixpath.dirname(near)
    yield near
    for base in dict.fromkeys((near, parent)):
        for folder in _PICTURE_FOLDERS:
            yield posixpath.join(base, folder) if folder else base


def _only(found: list[Member], path: str, near: str) -> Member | None:
    """The one member meant: of several, the one whose path ends alike, or that shares the annotation's folder."""
    if len(found) < 2:
        return found[0] if found else None
    alike = [member for member in found if f"/{member.name}".endswith(f"/{path}")]
    beside = [member for member in found if near and member.name.startswith(f"{near}/")]
    return next((chosen[0] for chosen in (alike, beside) if len(chosen) == 1), None)
