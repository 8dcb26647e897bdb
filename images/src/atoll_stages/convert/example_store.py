"""Everything known about the examples, on disk: a SQLite file and one file with the re-encoded pictures.

Memory stays flat however many pictures there are; every pass reads rows as a stream.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError
from atoll_stages.convert.classes import ClassNames
from atoll_stages.convert.example import Box, Example, LabelledBox, fit, turned
from atoll_stages.convert.images import Picture
from atoll_stages.convert.problems import Action, Kind, Problems

_SCHEMA = """
CREATE TABLE example (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,
    member INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    annotation TEXT NOT NULL,
    dataset TEXT NOT NULL,
    tags TEXT NOT NULL,
    raw TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'read',
    boxes TEXT,
    box_count INTEGER,
    width INTEGER,
    height INTEGER,
    source_sha256 TEXT,
    sha256 TEXT,
    dhash INTEGER,
    thumb BLOB,
    offset INTEGER,
    size INTEGER,
    cluster TEXT,
    part TEXT,
    place TEXT,
    UNIQUE (source, member)
);
"""
_PAGE = 256


@dataclass(frozen=True)
class ClassBox:
    """A usable box: final class name and edges relative to the picture."""

    label: str
    box: Box


@dataclass(frozen=True)
class Waiting:
    """An example whose picture was not looked at yet."""

    id: int
    source: int
    name: str
    path: Path
    annotation: str
    boxes: tuple[LabelledBox, ...]
    size: tuple[int, int] | None
    relative: bool


@dataclass(frozen=True)
class Ready:
    """An example with a readable picture; `offset` and `size` say where its JPEG lies in the spool."""

    id: int
    source: int
    name: str
    dataset: str
    tags: tuple[str, ...]
    width: int
    height: int
    source_sha256: str
    sha256: str
    offset: int
    size: int
    part: str | None
    boxes: tuple[ClassBox, ...]


class Catalog(AbstractContextManager["Catalog"]):
    """The examples of one conversion, in `folder`; used by one thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)
        # A killed conversion starts over: no journal, no fsync, one transaction. Sorting spills to disk.
        self.database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE;" + _SCHEMA + "BEGIN;"
        )
        self._spool = (folder / "pictures.bin").open("w+b")
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()
        self._spool.close()

    def add(self, source: int, example: Example) -> bool:
        """Enter an example; False where its picture is annotated already."""
        boxes = [[b.label, b.xmin, b.ymin, b.xmax, b.ymax, b.number] for b in example.boxes]
        raw = json.dumps({"boxes": boxes, "size": example.size, "relative": example.relative})
        row = (
            source,
            example.picture.number,
            example.picture.name,
            str(example.picture.path),
            example.annotation,
            example.dataset,
            json.dumps(example.tags),
            raw,
        )
        try:
            self.database.execute(
                "INSERT INTO example (source, member, name, path, annotation, dataset, tags, raw) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def has_picture(self, source: int, member: int) -> bool:
        found = self.database.execute(
            "SELECT 1 FROM example WHERE source = ? AND member = ?", (source, member)
        ).fetchone()
        return found is not None

    def count(self, status: str | None = None) -> int:
        where = "" if status is None else "WHERE status = ?"
        values = () if status is None else (status,)
        total: int = self.database.execute(f"SELECT COUNT(*) FROM example {where}", values).fetchone()[0]  # noqa: S608
        return total

    def waiting(self, source: int) -> Iterator[Waiting]:
        """Every example of a source, in the order of reading."""
        columns = "id, source, name, path, annotation, raw"
        query = f"SELECT {columns} FROM example WHERE source = ? AND id > ? ORDER BY id LIMIT {_PAGE}"  # noqa: S608
        for row in self.pages(query, source):
            raw = json.loads(row[5])
            yield Waiting(
                id=row[0],
                source=row[1],
                name=row[2],
                path=Path(row[3]),
                annotation=row[4],
                boxes=tuple(LabelledBox(*box) for box in raw["boxes"]),
                size=tuple(raw["size"]) if raw["size"] else None,
                relative=raw["relative"],
            )

    def pages(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query ending in `WHERE … id > ? … LIMIT`, page by page, so that rows may be changed between."""
        last = 0
        while rows := self.database.execute(query, (*values, last)).fetchall():
            yield from rows
            last = rows[-1][0]

    def keep(self, number: int, picture: Picture, boxes: tuple[ClassBox, ...]) -> None:
        """The example's picture is good: spool it, with its usable boxes."""
        self._spool.write(picture.data)
        listed = [[b.label, b.box.xmin, b.box.ymin, b.box.xmax, b.box.ymax] for b in boxes]
        # SQLite's integers are signed.
        dhash = picture.dhash - 2**64 if picture.dhash >= 2**63 else picture.dhash
        self.database.execute(
            "UPDATE example SET status = 'ready', boxes = ?, box_count = ?, width = ?, height = ?, source_sha256 = ?, "
            "sha256 = ?, dhash = ?, thumb = ?, offset = ?, size = ?, raw = '' WHERE id = ?",
            (
                json.dumps(listed),
                len(listed),
                picture.width,
                picture.height,
                picture.source_sha256,
                picture.sha256,
                dhash,
                picture.thumb,
                self._end,
                len(picture.data),
                number,
            ),
        )
        self._end += len(picture.data)

    def source_counts(self, source: int) -> tuple[int, int]:
        """Usable pictures and boxes of a source."""
        row: tuple[int, int] = self.database.execute(
            "SELECT COUNT(*), COALESCE(SUM(box_count), 0) FROM example WHERE status = 'ready' AND source = ?",
            (source,),
        ).fetchone()
        return row

    def drop(self, number: int, status: str) -> None:
        self.database.execute("UPDATE example SET status = ?, raw = '' WHERE id = ?", (status, number))

    def jpeg(self, example: Ready) -> bytes:
        """The re-encoded picture."""
        self._spool.seek(example.offset)
        return self._spool.read(example.size)

    def ready(self, part: str | None = None) -> Iterator[Ready]:
        """Usable examples: all in the order of reading, or those of one part of the split by `place`."""
        columns = "id, source, name, dataset, tags, width, height, source_sha256, sha256, offset, size, part, boxes"
        select = f"SELECT {columns} FROM example WHERE status = 'ready'"  # noqa: S608
        if part is None:
            rows: Iterator[tuple[Any, ...]] = self.pages(f"{select} AND id > ? ORDER BY id LIMIT {_PAGE}")
        else:
            rows = self.database.execute(f"{select} AND part = ? ORDER BY place, id", (part,))
        for row in rows:
            boxes = tuple(ClassBox(label, Box(*edges)) for label, *edges in json.loads(row[12]))
            yield Ready(*row[:4], tuple(json.loads(row[4])), *row[5:12], boxes)  # type: ignore[call-arg]  # 4 + 1 + 7 + 1 fields, in the order of the columns


# Sizes whose ratios differ by less are the same picture at another scale.
_SAME_RATIO = 0.01


@dataclass(frozen=True)
class Frame:
    """What a box's numbers are relative to, and the EXIF orientation that still has to be applied to them."""

    width: float
    height: float
    orientation: int = 1
    scaled: bool = False


def frame_of(waiting: Waiting, picture: Picture) -> Frame | None:
    """The frame in which the example was annotated; None where its claimed size fits the picture in no way.

    Labelling tools show pictures upright, so that is assumed unless the claimed size says that the annotation
    was made on the picture as it is stored.
    """
    stored = picture.stored_size
    upright = (stored[1], stored[0]) if picture.orientation >= 5 else stored
    if waiting.relative:
        return Frame(1, 1)
    if waiting.size is None or waiting.size == upright:
        return Frame(*upright)
    if waiting.size == stored:
        return Frame(*stored, orientation=picture.orientation)
    claimed, real = waiting.size[0] / waiting.size[1], upright[0] / upright[1]
    if abs(claimed - real) <= _SAME_RATIO * real:
        return Frame(*waiting.size, scaled=True)
    return None


def fit_boxes(waiting: Waiting, frame: Frame, *, names: ClassNames, problems: Problems) -> tuple[ClassBox, ...]:
    """The usable boxes of an example; everything else is counted."""
    usable = []
    for raw in waiting.boxes:
        try:
            label = names.resolve(raw.label)
        except DatasetError as error:
            place = f"{shown(waiting.annotation)} object {raw.number}"
            raise DatasetError(error.reason, f"{place}: {error.message}") from None
        if label is None:
            problems.add(
                Kind.CLASS_IGNORED, Action.DROPPED, file=waiting.annotation, number=raw.number, detail=raw.label
            )
            continue
        fitted = fit(raw, width=frame.width, height=frame.height)
        edges = f"[{raw.xmin:g}, {raw.ymin:g}, {raw.xmax:g}, {raw.ymax:g}] in {frame.width:g}×{frame.height:g}"
        if isinstance(fitted, Kind):
            problems.add(fitted, Action.DROPPED, file=waiting.annotation, number=raw.number, detail=edges)
            continue
        if fitted.clipped:
            problems.add(Kind.BOX_CLIPPED, Action.CLIPPED, file=waiting.annotation, number=raw.number, detail=edges)
        usable.append(ClassBox(label, turned(fitted.box, frame.orientation)))
    return tuple(usable)
