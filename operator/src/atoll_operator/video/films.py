"""Which videos there are, and the name that each of them and each of its frames gets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_contract.errors import SpecError

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv")

_UNPORTABLE = re.compile(r"[^A-Za-z0-9._-]+")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Film:
    """A video and the name that its frames begin with: unique, and safe in every labelling tool and archive."""

    path: Path
    name: str

    def frame_name(self, number: int) -> str:
        """The file of frame `number`.

        The convert stage keeps together what has the same text before its last number, and the numbers 0–49, 50–99
        and so on: neighbours in time, as the number counts the samples since the video began.
        """
        return f"{self.name}_{number:06d}.jpg"


def films_in(paths: Sequence[Path]) -> list[Film]:
    """The videos of the files and folders given, folders with all that is below them, in natural order.

    Raises:
        SpecError: a path does not exist, or there is no video.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for video in _videos(path):
            found.setdefault(video.resolve(), video)
    if not found:
        raise SpecError(f"{', '.join(map(str, paths))}: no video; known are {', '.join(SUFFIXES)}")
    return _named(list(found.values()))


def _videos(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SpecError(f"{path}: no such file or folder")
    videos = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    return sorted(videos, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """match2 before match10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(str(path))]


def _named(videos: Sequence[Path]) -> list[Film]:
    """The stem; where two videos share one, also the folder and the suffix; where that is not enough, a number."""
    stems = [_portable(video.stem) for video in videos]
    # Windows and macOS take Match.mp4 and match.mp4 for one name.
    folded = [stem.lower() for stem in stems]
    taken: set[str] = set()
    films = []
    for video, stem in zip(videos, stems, strict=True):
        alone = folded.count(stem.lower()) == 1
        wanted = stem if alone else _portable(f"{video.resolve().parent.name}-{stem}-{video.suffix[1:]}")
        name, copy = wanted, 1
        while name.lower() in taken or (not alone and name.lower() in folded):
            copy += 1
            name = f"{wanted}-{copy}"
        taken.add(name.lower())
        films.append(Film(video, name))
    return films


def _portable(text: str) -> str:
    return _UNPORTABLE.sub("-", text).strip("-.") or "video"
