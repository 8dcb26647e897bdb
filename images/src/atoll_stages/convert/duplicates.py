"""Finds exact and near duplicates among the images, and those that a split separates."""

from collections.abc import Iterator
from dataclasses import dataclass

from atoll_contract.archive.limits import shown
from atoll_stages.convert.duplicate_table import Fingerprint
from atoll_stages.convert.example_store import ExampleStore
from atoll_stages.convert.problems import Action, Kind, Problems

# Near duplicates differ in at most this many bits of the hash: at least one of its four bands is then unchanged.
MAX_BITS = 3
# The largest mean difference of their 16×16 grey thumbnails, of 255 steps.
MAX_STEPS = 3
_BANDS = 4
# Neighbouring frames give thousands of equal bands; the latest few are enough to find one that looks the same.
_CANDIDATES = 32


def drop_exact_copies(store: ExampleStore, problems: Problems) -> None:
    """Drops images whose file equals another's of the same archive and dataset; reports copies in other datasets."""
    for copy in store.duplicates.exact_copies():
        action = Action.DROPPED if copy.same_dataset else Action.KEPT
        problems.add(Kind.DUPLICATE, action, file=copy.name, detail=f"the same file as {shown(copy.first)}")
        if copy.same_dataset:
            store.drop(copy.id, Kind.DUPLICATE)


def report_leakage(store: ExampleStore, problems: Problems) -> int:
    """Returns the number of images of which an exact copy is in another split, and reports them."""
    count = 0
    for copy in store.duplicates.copies_across_splits():
        count += 1
        detail = f"in {copy.split}, and as {shown(copy.first)} in {copy.first_split}"
        problems.add(Kind.SPLIT_LEAKAGE, Action.KEPT, file=copy.name, detail=detail)
    return count


@dataclass(frozen=True)
class NearCounts:
    """Images that look like an earlier one, and those of them that look like one in another split."""

    pairs: int
    across_split: int


def report_near(store: ExampleStore, problems: Problems) -> NearCounts:
    """Counts the images that look like an earlier one (exact copies left out).

    Neighbouring frames of a video look alike; they are reported as problems only where the split separates them.
    """
    pairs = across = 0
    for image in store.duplicates.fingerprints():
        like = _find_similar(store, image)
        store.duplicates.index_dhash(image.id, _bands(image.dhash))
        if like is None:
            continue
        pairs += 1
        across += image.split != like.split
        if image.split != like.split or image.group != like.group:
            splits = f" (in {image.split} and {like.split})" if image.split != like.split else ""
            detail = f"looks like {shown(like.name)}{splits}"
            problems.add(Kind.NEAR_DUPLICATE, Action.KEPT, file=image.name, detail=detail)
    return NearCounts(pairs=pairs, across_split=across)


def _find_similar(store: ExampleStore, image: Fingerprint) -> Fingerprint | None:
    """Returns an indexed image that looks the same."""
    for band, bits in _bands(image.dhash):
        for other in store.duplicates.same_band(band, bits, other_than=image.source_sha256, limit=_CANDIDATES):
            if (
                _differing_bits(image.dhash, other.dhash) <= MAX_BITS
                and _mean_difference(image.thumbnail, other.thumbnail) <= MAX_STEPS
            ):
                return other
    return None


def _bands(dhash: int) -> Iterator[tuple[int, int]]:
    """Yields the number and the 16 bits of each band of a difference hash."""
    return ((band, dhash >> 16 * band & 0xFFFF) for band in range(_BANDS))


def _differing_bits(one: int, other: int) -> int:
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _mean_difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)
