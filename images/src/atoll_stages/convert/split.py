"""The parts of a split, and the words that people have for them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import Split, SplitBy
from atoll_stages.convert.example_store import Catalog
from atoll_stages.convert.problems import counted

TRAIN, VALIDATION, TEST = "train", "validation", "test"

_PART_OF_WORD = {
    "train": TRAIN,
    "training": TRAIN,
    "trainval": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "eval": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
WORDS = tuple(_PART_OF_WORD)


def part_of_word(word: str) -> str | None:
    """The part that a tag or folder name means."""
    return _PART_OF_WORD.get(word.strip().lower())


def part_word_in(name: str) -> str | None:
    """The first word of a file name that means a part: `train` in `instances_train2017.json`."""
    words = re.findall(r"[A-Za-z]+", name)
    return next((word for word in words if part_of_word(word)), None)


# A group this much larger than a part's share would distort it; it stays in train while there is another.
_TOO_LARGE = 1.5

# An archive's number and a part; of all archives together.
_Share = tuple[int, str]
_ALL = -1

# An empty part gets the smallest group of those parts that keep another one.
_FILL = """
UPDATE hand SET part = :part
WHERE NOT EXISTS (SELECT 1 FROM hand WHERE part = :part) AND rowid = (
    SELECT rowid FROM hand
    WHERE part IN (SELECT part FROM hand GROUP BY part HAVING COUNT(*) > 1)
    ORDER BY size, part != 'train', rowid LIMIT 1
)
"""


def deal(catalog: Catalog, shares: Mapping[str, int], *, of: str | None = None) -> list[str]:
    """Give the usable examples (those of part `of`) to `shares` (part: percent); the rest is train.

    Groups are taken in the order of their seeded hash, within each archive and then of what is left. Returns warnings.
    A part stays empty only where there are fewer pictures than parts.
    """
    database = catalog.database
    where = "status = 'ready'" + ("" if of is None else " AND part = :of")
    database.execute("DROP TABLE IF EXISTS temp.hand")
    database.execute(
        "CREATE TEMP TABLE hand AS SELECT MIN(source) AS source, cluster, COUNT(*) AS size, "  # noqa: S608
        "seeded(cluster) AS place, 'train' AS part "
        f"FROM example WHERE {where} GROUP BY cluster ORDER BY place",
        {"of": of},
    )
    database.execute("CREATE INDEX temp.hand_cluster ON hand (cluster)")
    groups, total = database.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM hand").fetchone()
    wanted = {part: total * share / 100 for part, share in shares.items() if share}
    if groups <= len(wanted):
        _deal_in_order(catalog, wanted, total=total, where=where, of=of)
        return [
            f"only {counted(groups, 'group')} of neighbouring frames; pictures were divided in the order of their names"
        ]
    _deal_groups(catalog, shares, wanted)
    database.execute(
        "UPDATE example SET part = (SELECT part FROM hand WHERE hand.cluster = example.cluster) "  # noqa: S608
        f"WHERE {where}",
        {"of": of},
    )
    return []


def _deal_groups(catalog: Catalog, shares: Mapping[str, int], wanted: Mapping[str, float]) -> None:
    sizes = dict(catalog.database.execute("SELECT source, SUM(size) FROM hand GROUP BY source"))
    own = {(source, part): size * shares[part] / 100 for source, size in sizes.items() for part in wanted}
    taken = _hand_out(catalog, own, dict.fromkeys(own, 0), by_archive=True)
    # Archives that are too small to give a part their own share give it one together.
    together = {(_ALL, part): share for part, share in wanted.items()}
    given = {(_ALL, part): sum(count for (_, name), count in taken.items() if name == part) for part in wanted}
    _hand_out(catalog, together, given, by_archive=False)
    for part in (*wanted, TRAIN):
        catalog.database.execute(_FILL, {"part": part})


def _hand_out(
    catalog: Catalog, limits: Mapping[_Share, float], taken: dict[_Share, int], *, by_archive: bool
) -> dict[_Share, int]:
    """Move groups from train into the parts up to `limits`; `taken` counts their pictures."""
    parts = list(dict.fromkeys(part for _, part in limits))
    for number, source, size in _left(catalog):
        for part in parts:
            share = (source if by_archive else _ALL, part)
            if size <= _TOO_LARGE * limits[share] and taken[share] + size / 2 <= limits[share]:
                taken[share] += size
                catalog.database.execute("UPDATE hand SET part = ? WHERE rowid = ?", (part, number))
                break
    return taken


def _left(catalog: Catalog) -> Iterator[tuple[int, int, int]]:
    """Row, archive and size of the groups that are still in train, in their order."""
    query = "SELECT rowid, source, size FROM hand WHERE part = 'train' AND rowid > ? ORDER BY rowid LIMIT 1000"
    yield from catalog.pages(query)


def _deal_in_order(catalog: Catalog, wanted: Mapping[str, float], *, total: int, where: str, of: str | None) -> None:
    """Too few groups to keep them whole: cut the pictures, by name, into one run for each part."""
    database = catalog.database
    database.execute(f"UPDATE example SET part = 'train' WHERE {where}", {"of": of})  # noqa: S608
    where = where.replace(":of", "'train'")
    left = total
    for place, (part, share) in enumerate(wanted.items()):
        # One picture is kept for each part still to come, train among them.
        count = max(1, min(round(share), left - (len(wanted) - place)))
        left -= count
        database.execute(
            f"UPDATE example SET part = :part WHERE id IN (SELECT id FROM example WHERE {where} "  # noqa: S608
            "AND part = 'train' ORDER BY name DESC, id DESC LIMIT :count)",
            {"part": part, "count": count},
        )


FRAMES_PER_GROUP = 50

_FRAME = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)
# Roboflow writes `note_12_jpg.rf.<hash>.jpg`, one hash for each augmented copy of note_12.jpg.
_ROBOFLOW = re.compile(r"_(?:jpg|jpeg|png|webp)\.rf\.[0-9a-fA-F]+$")
# Label Studio puts eight digits of its own before the name of each picture that is uploaded.
_LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True)
class SplitOutcome:
    """How the parts came about, and what is worth knowing about it."""

    by: SplitBy
    warnings: tuple[str, ...] = ()


def assign_parts(catalog: Catalog, split: Split) -> SplitOutcome:
    """Give every usable example its part and its place among the others of that part.

    Raises:
        DatasetError: NoUsableExamples, a part would be empty, or the asked way does not apply.
    """
    _define_functions(catalog, split.seed)
    database = catalog.database
    database.execute("UPDATE example SET cluster = cluster_of(name), place = seeded(source_sha256 || name)")
    _join_duplicates(catalog)
    by, warnings = _chosen(catalog, split.by), []
    if by is SplitBy.HASH:
        warnings += deal(catalog, {VALIDATION: split.validation, TEST: split.test})
    else:
        warnings += _by_words(catalog, by, split)
    _require_parts(catalog, by, split)
    return SplitOutcome(by=by, warnings=tuple(warnings))


def cluster_of(name: str) -> str:
    """The group of a picture by its file name: stem, and frame number ÷ 50."""
    stem = _LABEL_STUDIO.sub("", _ROBOFLOW.sub("", PurePosixPath(name).stem))
    found = _FRAME.match(stem)
    if found is None:
        return stem
    before, frame, after = found.groups()
    # A number of more digits than any frame has is an id.
    return f"{before}#{after}/{int(frame[-18:]) // FRAMES_PER_GROUP}"


def _define_functions(catalog: Catalog, seed: int) -> None:
    def seeded(text: str) -> str:
        return hashlib.sha256(f"{seed}\0{text}".encode()).hexdigest()

    functions = {
        "seeded": seeded,
        "cluster_of": cluster_of,
        "part_of_tags": _part_of_tags,
        "part_of_dataset": _part_of_dataset,
    }
    for name, function in functions.items():
        catalog.database.create_function(name, 1, function, deterministic=True)


def _part_of_tags(tags: str) -> str | None:
    return next((part for tag in json.loads(tags) if (part := part_of_word(tag))), None)


def _part_of_dataset(dataset: str) -> str | None:
    """By the innermost folder of the dataset's path that means a part."""
    return next((part for word in reversed(dataset.split("/")) if (part := part_of_word(word))), None)


def _join_duplicates(catalog: Catalog) -> None:
    """Exact copies go where the first of them goes."""
    catalog.database.execute("CREATE INDEX IF NOT EXISTS example_source ON example (source_sha256, id)")
    catalog.database.execute(
        "UPDATE example SET cluster = (SELECT first.cluster FROM example AS first "
        "WHERE first.source_sha256 = example.source_sha256 AND first.status = 'ready' ORDER BY first.id LIMIT 1) "
        "WHERE status = 'ready'"
    )


def _chosen(catalog: Catalog, asked: SplitBy) -> SplitBy:
    if asked is SplitBy.HASH:
        return asked
    # One tag or one telling name is not yet a split: train and something to measure on must be there.
    for by, function in ((SplitBy.TAGS, "part_of_tags(tags)"), (SplitBy.DATASETS, "part_of_dataset(dataset)")):
        found = _parts(catalog, function)
        if asked is by and not found:
            raise DatasetError(
                Reason.NO_USABLE_EXAMPLES,
                f"split by {by}: no picture has one of {', '.join(WORDS)} there; use auto or hash",
            )
        if asked is by or (asked is SplitBy.AUTO and TRAIN in found and len(found) > 1):
            return by
    return SplitBy.HASH


def _parts(catalog: Catalog, expression: str) -> Mapping[str, int]:
    rows = catalog.database.execute(
        f"SELECT {expression} AS found, COUNT(*) FROM example WHERE status = 'ready' GROUP BY found"  # noqa: S608
    )
    return {part: count for part, count in rows if part is not None}


def _by_words(catalog: Catalog, by: SplitBy, split: Split) -> list[str]:
    expression = "part_of_tags(tags)" if by is SplitBy.TAGS else "part_of_dataset(dataset)"
    catalog.database.execute(f"UPDATE example SET part = {expression}")  # noqa: S608
    changed = catalog.database.execute("UPDATE example SET part = ? WHERE part IS NULL AND status = 'ready'", (TRAIN,))
    warnings = [f"{counted(changed.rowcount, 'picture')} without a part went to train"] if changed.rowcount else []
    if VALIDATION not in _parts(catalog, "part") and TRAIN in _parts(catalog, "part"):
        warnings.append(f"no picture is meant for validation by its {by}; a part of train was taken for it")
        warnings += deal(catalog, {VALIDATION: split.validation or 20}, of=TRAIN)
    return warnings


def _require_parts(catalog: Catalog, by: SplitBy, split: Split) -> None:
    found = _parts(catalog, "part")
    wanted = [TRAIN, VALIDATION] + ([TEST] if by is SplitBy.HASH and split.test else [])
    for part in wanted:
        if not found.get(part):
            total = sum(found.values())
            raise DatasetError(
                Reason.NO_USABLE_EXAMPLES,
                f"{part} split is empty ({counted(total, 'usable picture')}, split by {by} "
                f"{split.train}/{split.validation}/{split.test}); add pictures",
            )
