"""Finds the picture that an annotation means: by its name in any notation, or by its stem, where exports keep pictures.

Where two pictures fit and nothing decides between them, none is taken.
"""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from atoll_contract.archive.extract import Member, Members
from atoll_contract.archive.limits import comparable, shown
from atoll_contract.archive.members import UPLOAD_PREFIX
from atoll_stages.convert.problems import Action, Kind
from atoll_stages.convert.readers.base import IMAGE_SUFFIXES, Archive
from atoll_stages.convert.split_names import split_name_in, split_of_dataset, split_of_folder

# Folders in which exports keep pictures beside annotations or their folder; names are compared without case.
_IMAGE_FOLDERS = ("images", "JPEGImages", "img", "imgs", "image", "data")
# Folders of annotations, beside which a folder of pictures has the same folders below it.
_LABEL_FOLDERS = frozenset(
    ("labels", "label", "annotations", "annotation", "anns", "ann", "annots", "xml", "xmls", "txt", "bbox")
)
_DRIVE = re.compile(r"^[A-Za-z]:")
_WEB = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_LABEL_SUFFIXES = (".xml", ".txt", ".json", ".csv", ".yaml", ".yml")
# `instances_Train.json` is about the pictures of the subset Train.
_SUBSET = re.compile(r"^(?:instances|person_keypoints|captions)_")


@dataclass(frozen=True)
class Match:
    """The picture that fits, or several of which none is to be taken. `name` is what was searched for."""

    name: str
    image: Member | None = None
    others: tuple[Member, ...] = ()

    @property
    def renamed(self) -> bool:
        """Whether the picture's file name differs by more than its suffix's case or Unicode's form."""
        return self.image is not None and _same_file(self.image.base) != _same_file(PurePosixPath(self.name).name)


def match_name(members: Members, name: str, *, near: str, label: str = "", own: Member | None = None) -> Match:
    """Returns the picture that an annotation in the folder `near` calls `name`: a file name, path or URL.

    It is looked for under that name where exports keep pictures, then anywhere; then under the name that a URL or an
    upload's prefix hides, and with another suffix. `label` is the file name of an annotation for many pictures, `own`
    the annotation of one picture.
    """
    search = _Search(members, near, label, own)
    spellings = _spellings(name)
    for path in spellings:
        if (found := search.by_base(path)) is not None:
            return replace(found, name=spellings[0])
    path = spellings[-1]
    suffix = PurePosixPath(path).suffix.lower()
    stem = path.removesuffix(PurePosixPath(path).suffix) if suffix in IMAGE_SUFFIXES else path
    return search.by_stem(stem, suffix) or Match(path)


def named_image(archive: Archive, name: str, file: Member, *, objects: int = 0) -> Member | None:
    """Returns the picture that the annotation `file` for many pictures calls `name`; counts it as `counted_image`."""
    found = match_name(archive.members, name, near=file.folder, label=file.base)
    return counted_image(archive, file, found, f"{shown(name)} is not in the archive", objects=objects)


def annotated_image(archive: Archive, file: Member, *, name: str = "", objects: int = 0) -> Member | None:
    """Returns the picture of an annotation for one picture: the one that it calls `name`, else the one of its stem.

    It is counted as by `counted_image`.
    """
    found = match_annotation(archive.members, file, name=name)
    missing = f"neither {shown(name)} nor a picture of this name" if name else "no picture of this name"
    return counted_image(archive, file, found, f"{missing} is in the archive", objects=objects)


def match_annotation(members: Members, file: Member, *, name: str = "") -> Match:
    """Returns what `annotated_image` finds, and counts nothing."""
    own = _of_own_stem(members, file)
    if not name:
        return own
    named = match_name(members, name, near=file.folder, own=file)
    if named.image is None and not named.others:
        return Match(name, own.image, own.others)
    # A copied annotation still has the name of the picture it was copied from, which has an annotation of its own.
    if named.image and own.image and named.image != own.image and _label_of(members, named.image, file) is not None:
        return Match(name, own.image)
    return named


def counted_image(archive: Archive, file: Member, found: Match, missing: str, *, objects: int = 0) -> Member | None:
    """Returns the picture found; counts it where it is `missing`, ambiguous, or found under another name.

    `objects` of its annotation were not seen yet; without the picture they are left out.
    """
    if found.others:
        first, second = (shown(other.name) for other in found.others[:2])
        more = f" and {len(found.others) - 2} more" if len(found.others) > 2 else ""
        detail = f"{shown(found.name)} may be {first} or {second}{more}"
        archive.skip_missing_image(file, detail, objects=objects, kind=Kind.IMAGE_AMBIGUOUS)
    elif found.image is None:
        archive.skip_missing_image(file, missing, objects=objects)
    elif found.renamed:
        detail = f"{shown(found.name)} is {shown(found.image.name)}"
        archive.problems.add(Kind.IMAGE_RENAMED, Action.KEPT, file=file.name, detail=detail)
    return found.image


def dataset_of(member: Member) -> str:
    """Returns the dataset of an annotation file for many images: its folder, and the split that its name contains."""
    split = split_name_in(member.base)
    return "/".join(part for part in (member.folder, split) if part) or PurePosixPath(member.name).stem


def _of_own_stem(members: Members, file: Member) -> Match:
    """Returns the picture of an annotation's own name: of `x.txt`, and of `x.jpg.txt` and `x.xml.txt`."""
    stem = PurePosixPath(file.name).stem
    search = _Search(members, file.folder, own=file)
    found = search.by_stem(stem)
    if found is None and stem.lower().endswith(IMAGE_SUFFIXES):
        found = search.by_base(stem) or search.by_stem(PurePosixPath(stem).stem, PurePosixPath(stem).suffix.lower())
        return (found and Match(stem, found.image, found.others)) or Match(stem)
    bare = stem
    while found is None and bare.lower().endswith(_LABEL_SUFFIXES):
        bare = PurePosixPath(bare).stem
        found = search.by_stem(bare)
    if found is None or found.image is None:
        return found or Match(stem)
    # The suffix is not part of what was searched for.
    return Match(stem + PurePosixPath(found.image.base).suffix if bare == stem else stem, found.image)


class _Search:
    """Searches for one annotation in the folder `near`; `label` is the name of an annotation file of many pictures,
    `own` the annotation file of one picture."""

    def __init__(self, members: Members, near: str, label: str = "", own: Member | None = None) -> None:
        self._members = members
        self._near = near
        self._own = own
        self._usual_folders = _usual_folders(near)
        subset = _SUBSET.sub("", PurePosixPath(label).stem)
        self._subset = comparable(subset)
        self._split = split_of_folder(subset)
        self._label_suffix = PurePosixPath(label).suffix.lower()

    def by_base(self, path: str) -> Match | None:
        base = PurePosixPath(path).name
        if base.lower().endswith(_LABEL_SUFFIXES):
            return None
        return self._found(path, lambda folders: self._members.by_base(base, folders=folders))

    def by_stem(self, stem: str, suffix: str = "") -> Match | None:
        """Returns the picture of this stem; of several, the one with this suffix."""
        base = PurePosixPath(stem).name

        def query(folders: Sequence[str]) -> list[Member]:
            found = self._members.by_stem(base, IMAGE_SUFFIXES, folders=folders)
            found = [image for image in found if not _other_upload(image.base, base)]
            found = _prefer(found, lambda image: comparable(PurePosixPath(image.base).stem) == comparable(base))
            return _prefer(found, lambda image: PurePosixPath(image.base).suffix.lower() == suffix)

        return self._found(stem + suffix, query)

    def _found(self, path: str, query: Callable[[Sequence[str]], list[Member]]) -> Match | None:
        inner = posixpath.dirname(path)
        folders = [posixpath.join(folder, inner).rstrip("/") for folder in self._usual_folders]
        usual: dict[str, list[Member]] = {}
        for image in query(folders):
            usual.setdefault(comparable(image.folder), []).append(image)
        for folder in folders if usual else ():
            if images := usual.get(comparable(folder)):
                return self._match(path, images)
        images = self._elsewhere(query(()), inner)
        return self._match(path, images) if images else None

    def _match(self, path: str, images: list[Member]) -> Match:
        images = _prefer(images, lambda image: _same_file(image.base) == _same_file(PurePosixPath(path).name))
        return Match(path, images[0]) if len(images) == 1 else Match(path, others=tuple(images))

    def _elsewhere(self, images: list[Member], inner: str) -> list[Member]:
        """Returns those of the pictures that the annotation may mean although they are in no usual folder."""
        if not split_of_dataset(inner):
            images = [image for image in images if not self._of_other_split(image)]
        depth = max((_common_end(image.folder, inner) for image in images), default=0)
        if depth:
            return [image for image in images if _common_end(image.folder, inner) == depth]
        below = [image for image in images if not self._near or image.folder.startswith(f"{self._near}/")]
        images = below or self._of_other_trees(images)
        if (own := self._own) is not None:
            images = [image for image in images if _label_of(self._members, image, own) is None]
        return _prefer(images, self._of_subset)

    def _of_other_trees(self, images: list[Member]) -> list[Member]:
        """Returns the pictures without those of another annotation file: where the annotation's own folders have
        pictures, one that they lack is missing and not moved."""
        if not images or not self._has_own_images():
            return images
        if not self._label_suffix:
            return []
        return [image for image in images if not self._members.has_in(image.folder, (self._label_suffix,))]

    def _of_other_split(self, image: Member) -> bool:
        near, folder = _without_common_start(self._near, image.folder)
        split, own = split_of_dataset(folder), self._split or split_of_dataset(near)
        return bool(own and split and split != own)

    def _of_subset(self, image: Member) -> bool:
        parts = comparable(image.folder).split("/")
        if self._subset and self._subset in parts:
            return True
        own = self._split or split_of_dataset(self._near)
        return own is not None and split_of_dataset(image.folder) == own

    def _has_own_images(self) -> bool:
        own = (self._near, *(posixpath.join(self._near, folder) for folder in _IMAGE_FOLDERS), *_parallel(self._near))
        return any(self._members.has_in(folder, IMAGE_SUFFIXES) for folder in own)


@lru_cache
def _usual_folders(near: str) -> tuple[str, ...]:
    """Returns the folders in which exports keep the pictures of annotations in `near`, the nearest first."""
    parent = posixpath.dirname(near)
    beside = (posixpath.join(near, folder) for folder in _IMAGE_FOLDERS)
    above = (posixpath.join(parent, folder) for folder in _IMAGE_FOLDERS)
    return tuple(dict.fromkeys((near, *beside, *_parallel(near), *above, parent)))


def _parallel(near: str) -> Iterator[str]:
    """Yields `images/train` for `annotations/train`: the same folders below another one, from the innermost out."""
    parts = near.split("/")
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].lower() in _LABEL_FOLDERS:
            for folder in _IMAGE_FOLDERS:
                yield "/".join((*parts[:index], folder, *parts[index + 1 :]))
            yield "/".join((*parts[:index], *parts[index + 1 :]))


def _label_of(members: Members, image: Member, file: Member) -> Member | None:
    """Returns the annotation of the picture's own stem, of the kind of `file`, where that is another file."""
    base = PurePosixPath(image.base).stem + PurePosixPath(file.base).suffix
    parts = image.folder.split("/")
    for index, part in enumerate(parts):
        if part.lower() in map(str.lower, _IMAGE_FOLDERS):
            for folder in ("labels", "Annotations", "ann"):
                found = members.get("/".join((*parts[:index], folder, *parts[index + 1 :], base)))
                if found is not None and found != file:
                    return found
    found = members.get(posixpath.join(image.folder, base))
    return found if found != file else None


def _other_upload(one: str, other: str) -> bool:
    """Returns whether two names have different prefixes of an upload: the files only had one name before it."""
    prefixes = UPLOAD_PREFIX.match(one), UPLOAD_PREFIX.match(other)
    return all(prefixes) and len({match[0] for match in prefixes if match}) > 1


def _prefer(images: list[Member], fits: Callable[[Member], bool]) -> list[Member]:
    """Returns the pictures that fit, or all where none does."""
    return [image for image in images if fits(image)] or images


def _without_common_start(one: str, other: str) -> tuple[str, str]:
    """Returns what two paths have below the folders that they share."""
    parts, others = one.split("/"), other.split("/")
    while parts and others and parts[0] == others[0]:
        del parts[0], others[0]
    return "/".join(parts), "/".join(others)


def _common_end(folder: str, inner: str) -> int:
    """Returns how many folders at the end of two paths are the same."""
    pairs = zip(reversed(comparable(folder).split("/")), reversed(comparable(inner).split("/")), strict=False)
    count = 0
    for one, other in pairs:
        if not one or one != other:
            break
        count += 1
    return count


def plain_path(name: str) -> str:
    """Returns a file name, path or URL as a path inside the archive."""
    path = _DRIVE.sub("", name.strip().replace("\\", "/"))
    if _WEB.match(path):
        # Of a web address the host is no folder.
        path = urlsplit(path).path
    path = posixpath.normpath(path).lstrip("/")
    while path.startswith("../"):
        path = path[3:]
    return path


def _spellings(name: str) -> tuple[str, ...]:
    """Returns the paths that a name may mean: itself, and without percent-encoding.

    Label Studio's `/data/local-files/?d=a/b.jpg` means `a/b.jpg` alone.
    """
    path, _, query = name.partition("?")
    if local := parse_qs(query).get("d"):
        return (plain_path(local[0]),)
    plain = unquote(path if _WEB.match(name) else name)
    return tuple(dict.fromkeys((plain_path(name), plain_path(plain))))


def _same_file(base: str) -> str:
    """Returns a file name as it is compared: its suffix's case and Unicode's forms do not count."""
    path = PurePosixPath(unicodedata.normalize("NFC", base))
    return path.stem + path.suffix.lower()
