"""The groups and splits of the examples in a conversion's SQLite file: see `example_store`."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from atoll_contract.convert_spec import SplitBy
from atoll_stages.convert.split_names import TRAIN


class NumberedExample(NamedTuple):
    """An example of a series, `frame` the number in its name."""

    id: int
    source: int
    series: str
    frame: int
    thumbnail: bytes


@dataclass(slots=True)
class Group:
    """Examples that stay together in a split; `id` is one of them, `source` the first archive that has any."""

    id: int
    source: int
    size: int
    split: str = TRAIN


class SplitTable:
    """What `example_store`'s table says of groups and splits; `ExampleStore.splits` is one."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def set_groups(
        self, group_of: Callable[[str], str], series_of: Callable[[str], str], frame_of: Callable[[str], int]
    ) -> None:
        """Sets the group, the series and the number in the series of every example by its name."""
        for name, function in (("group_of", group_of), ("series_of", series_of), ("frame_of", frame_of)):
            self._database.create_function(name, 1, function, deterministic=True)
        self._database.execute(
            "UPDATE example SET frame_group = group_of(name), series = series_of(name), frame = frame_of(name)"
        )

    def by_series(self) -> Iterator[NumberedExample]:
        """Yields the usable examples with a number in their name, by archive, series and number."""
        rows = self._database.execute(
            "SELECT id, source, series, frame, thumbnail FROM usable WHERE series != '' "
            "ORDER BY source, series, frame, id"
        )
        return map(NumberedExample._make, rows)

    def by_series_at_random(self) -> Iterator[tuple[int, str, bytes]]:
        """Yields archive, series and thumbnail of the same examples, each series in the order of its files' digests."""
        return self._database.execute(
            "SELECT source, series, thumbnail FROM usable WHERE series != '' ORDER BY source, series, source_sha256"
        )

    def by_source_at_random(self) -> Iterator[tuple[int, str, bytes]]:
        """Yields archive, an empty series and thumbnail of the usable examples, in the order of their digests."""
        return self._database.execute("SELECT source, '', thumbnail FROM usable ORDER BY source, source_sha256")

    def set_single_groups(
        self, source: int, series: str, group_of: Callable[[str, int], str], firsts: Iterable[tuple[int, int]]
    ) -> None:
        """Makes every number of a series a group of its own.

        `firsts` has the examples that belong to the group of another number: the example's id and that number.
        """
        self._database.create_function("single_group_of", 2, group_of, deterministic=True)
        self._database.execute(
            "UPDATE example SET frame_group = single_group_of(name, frame) WHERE source = ? AND series = ?",
            (source, series),
        )
        self._database.executemany(
            "UPDATE example SET frame_group = single_group_of(name, ?) WHERE id = ?",
            ((first, number) for number, first in firsts),
        )

    def order_records(self, shuffle: Callable[[str], str]) -> None:
        """Sets the position of every example among the records, and puts exact copies into the group of the first.

        `shuffle` is a seeded hash that gives the order of records and, in `groups`, of groups.
        """
        self._database.create_function("shuffle", 1, shuffle, deterministic=True)
        self._database.execute("UPDATE example SET position = shuffle(source_sha256 || name)")
        self._database.execute(
            "UPDATE example SET frame_group = (SELECT first.frame_group FROM usable AS first "
            "WHERE first.source_sha256 = example.source_sha256 ORDER BY first.id LIMIT 1) WHERE status = 'usable'"
        )
        self._database.execute("CREATE INDEX example_group ON example (frame_group)")

    def groups(self, within: str | None = None) -> list[Group]:
        """Returns the groups of the usable examples (of those in the split `within`) in shuffled order."""
        rows = self._database.execute(
            "SELECT MIN(id), MIN(source), COUNT(*) FROM usable WHERE :within IS NULL OR split = :within "
            "GROUP BY frame_group ORDER BY shuffle(frame_group)",
            {"within": within},
        )
        return [Group(*row) for row in rows]

    def assign_groups(self, groups: Iterable[Group], within: str | None = None) -> None:
        """Puts the usable examples of each group (those in the split `within`) into the group's split."""
        self._database.executemany(
            "UPDATE example SET split = :split WHERE status = 'usable' AND (:within IS NULL OR split = :within) "
            "AND frame_group = (SELECT frame_group FROM example WHERE id = :id)",
            ({"split": group.split, "within": within, "id": group.id} for group in groups),
        )

    def assign_last(self, count: int, split: str) -> None:
        """Moves the last `count` usable examples of train, by name, into another split."""
        self._database.execute(
            "UPDATE example SET split = ? WHERE id IN "
            "(SELECT id FROM usable WHERE split = ? ORDER BY name DESC, id DESC LIMIT ?)",
            (split, TRAIN, count),
        )

    def assign_named(self, by: SplitBy) -> int:
        """Puts usable examples into the splits that their tags or datasets name, the others into train.

        Returns the number of the others.
        """
        self._database.execute(
            "UPDATE example SET split = CASE ? WHEN 'tags' THEN split_of_tags ELSE split_of_dataset END", (by,)
        )
        return self._database.execute(
            "UPDATE example SET split = ? WHERE split IS NULL AND status = 'usable'", (TRAIN,)
        ).rowcount

    def count_named(self, by: SplitBy) -> dict[str, int]:
        """Returns the number of usable examples for each split that their tags or datasets name."""
        return dict(
            self._database.execute(
                "SELECT CASE ? WHEN 'tags' THEN split_of_tags ELSE split_of_dataset END AS named, COUNT(*) "
                "FROM usable WHERE named IS NOT NULL GROUP BY named",
                (by,),
            )
        )

    def count_by_split(self) -> dict[str, int]:
        """Returns the number of usable examples in each split."""
        return dict(self._database.execute("SELECT split, COUNT(*) FROM usable GROUP BY split"))
