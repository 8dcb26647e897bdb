"""Dividing the examples into train, validation and test: by tags, by dataset names, or by seeded hash.

By hash, what belongs together stays together: 50 neighbouring frames of a video, copies that an export made of
one picture, exact duplicates. No part is ever empty: where that cannot be, the conversion fails and says so.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import Split, SplitBy
from atoll_stages.convert.catalog import Catalog
from atoll_stages.convert.dealing import deal
from atoll_stages.convert.parts import TEST, TRAIN, VALIDATION, WORDS, part_of_word
from atoll_stages.convert.wording import counted

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
