"""Splits the usable examples: by tags, by the names of datasets, or by a seeded hash over groups of frames."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll_contract.convert_spec import Split, SplitBy
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.example_store import ExampleStore
from atoll_stages.convert.frames import group_frames
from atoll_stages.convert.problems import counted
from atoll_stages.convert.split_names import KNOWN_NAMES, TEST, TRAIN, VALIDATION
from atoll_stages.convert.split_table import Group, SplitTable

# Percent of train that becomes validation where neither names nor the spec give one.
_DEFAULT_VALIDATION = 20
# A group larger than this multiple of a split's share stays in train, unless a split would stay empty.
_TOO_LARGE = 1.5


@dataclass(frozen=True)
class SplitOutcome:
    """How the examples were split, and what the user should know about it."""

    by: SplitBy
    warnings: tuple[str, ...] = ()
    # A split that names give and that could not be kept, and why.
    lost: str = ""


def assign_splits(store: ExampleStore, split: Split) -> SplitOutcome:
    """Gives every usable example its split, and its position among the records of that split.

    Raises:
        DatasetError: NoUsableExamples, a split would be empty, or the requested way finds no names.
    """

    def shuffle(text: str) -> str:
        return hashlib.sha256(f"{split.seed}\0{text}".encode()).hexdigest()

    table = store.splits
    group_frames(table)
    table.order_records(shuffle)
    by = _choose_way(table, split.by)
    lost = _lost_split(store) if by is SplitBy.HASH and split.by is SplitBy.AUTO else ""
    if by is SplitBy.HASH:
        warnings = _split_by_hash(table, {VALIDATION: split.validation, TEST: split.test})
    else:
        warnings = _split_by_names(table, by, split)
    _require_splits(table, by, split)
    return SplitOutcome(by=by, warnings=tuple(warnings), lost=lost)


def _choose_way(table: SplitTable, requested: SplitBy) -> SplitBy:
    if requested is SplitBy.HASH:
        return requested
    for by in (SplitBy.TAGS, SplitBy.DATASETS):
        found = table.count_named(by)
        if requested is by and not found:
            raise DatasetError(
                Reason.NO_USABLE_EXAMPLES,
                f"split by {by}: no picture has one of {', '.join(KNOWN_NAMES)} there; use auto or hash",
            )
        # Names are used only where they give train and a split to measure on.
        if requested is by or (requested is SplitBy.AUTO and TRAIN in found and len(found) > 1):
            return by
    return SplitBy.HASH


def _lost_split(store: ExampleStore) -> str:
    """Returns why a split that tags or datasets name is not kept; nothing where all pictures have one name, or none."""
    total = sum(store.splits.count_by_split().values())
    for by in (SplitBy.TAGS, SplitBy.DATASETS):
        found = store.splits.count_named(by)
        if found.keys() - {TRAIN} and total not in found.values():
            named = " and ".join(f"{counted(count, 'picture')} for {name}" for name, count in found.items())
            return f"{named} by {by}, but no picture for {TRAIN}"
    return ""


def _split_by_names(table: SplitTable, by: SplitBy, split: Split) -> list[str]:
    unnamed = table.assign_named(by)
    warnings = [f"{counted(unnamed, 'picture')} without a part went to train"] if unnamed else []
    counts = table.count_by_split()
    if VALIDATION not in counts and TRAIN in counts:
        warnings.append(f"no picture is meant for validation by its {by}; a part of train was taken for it")
        warnings += _split_by_hash(table, {VALIDATION: split.validation or _DEFAULT_VALIDATION}, within=TRAIN)
    return warnings


def _split_by_hash(table: SplitTable, shares: Mapping[str, int], *, within: str | None = None) -> list[str]:
    """Moves examples (those in the split `within`) to the splits of `shares` (in percent); the rest is train.

    Returns warnings. A split stays empty only where there are fewer examples than splits.
    """
    groups = table.groups(within)
    total = sum(group.size for group in groups)
    wanted = {split: total * share / 100 for split, share in shares.items() if share}
    if len(groups) > len(wanted):
        _split_groups(groups, {split: shares[split] for split in wanted})
        table.assign_groups(groups, within)
        return []
    table.assign_groups(groups, within)
    _split_by_order(table, wanted, total)
    found = counted(len(groups), "group")
    return [f"only {found} of neighbouring frames; pictures were divided in the order of their names"]


def _split_groups(groups: Sequence[Group], shares: Mapping[str, int]) -> None:
    """Moves groups from train into the splits of `shares` (percent of the examples), in the order of `groups`.

    First each archive gives its own share, so that adding an archive does not change the split of the others. Then
    archives too small for that give a share together. An empty split gets the smallest group of a split with several.
    """
    by_source: dict[int, list[Group]] = {}
    for group in groups:
        by_source.setdefault(group.source, []).append(group)
    taken = dict.fromkeys(shares, 0)
    for own in by_source.values():
        for split, count in _fill_splits(own, shares, dict.fromkeys(shares, 0)).items():
            taken[split] += count
    _fill_splits(groups, shares, taken)
    for split in (*shares, TRAIN):
        if all(group.split != split for group in groups):
            _move_smallest(groups, split)


def _fill_splits(groups: Sequence[Group], shares: Mapping[str, int], taken: dict[str, int]) -> dict[str, int]:
    """Moves groups from train into the splits, up to their shares of `groups`.

    `taken` counts the examples that the splits have already; it is updated and returned.
    """
    total = sum(group.size for group in groups)
    limits = {split: total * share / 100 for split, share in shares.items()}
    for group in groups:
        if group.split != TRAIN:
            continue
        for split, limit in limits.items():
            if group.size <= _TOO_LARGE * limit and taken[split] + group.size / 2 <= limit:
                taken[split] += group.size
                group.split = split
                break
    return taken


def _move_smallest(groups: Sequence[Group], split: str) -> None:
    """Moves the smallest group among the splits that keep another one; of equal groups, one of train."""
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.split] = counts.get(group.split, 0) + 1
    spare = [group for group in groups if counts[group.split] > 1]
    if spare:
        min(spare, key=lambda group: (group.size, group.split != TRAIN)).split = split


def _split_by_order(table: SplitTable, wanted: Mapping[str, float], total: int) -> None:
    """Divides the examples in the order of their names, because there are too few groups to keep them whole."""
    left = total
    for index, (split, share) in enumerate(wanted.items()):
        # One example is kept for each split still to come, and for train.
        count = max(1, min(round(share), left - (len(wanted) - index)))
        left -= count
        table.assign_last(count, split)


def _require_splits(table: SplitTable, by: SplitBy, split: Split) -> None:
    counts = table.count_by_split()
    for name in (TRAIN, VALIDATION, *((TEST,) if by is SplitBy.HASH and split.test else ())):
        if not counts.get(name):
            raise DatasetError(
                Reason.NO_USABLE_EXAMPLES,
                f"{name} split is empty ({counted(sum(counts.values()), 'usable picture')}, split by {by} "
                f"{split.train}/{split.validation}/{split.test}); add pictures",
            )
