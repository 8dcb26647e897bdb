"""Exact and near duplicates among the pictures, and those that stand on both sides of the split."""

from dataclasses import dataclass

from atoll_contract.archive.limits import shown
from atoll_stages.convert.example_store import Catalog
from atoll_stages.convert.problems import Action, Kind, Problems

# Of 64 bits of the difference hash; three flipped bits leave at least one of four bands untouched.
MAX_BITS = 3
# Mean difference of the 16×16 grey thumbnails, of 255 steps.
MAX_STEPS = 3
_BANDS = 4
# Neighbouring frames fill a band with thousands of equal hashes; the nearest few tell enough.
_CANDIDATES = 32


def drop_exact(catalog: Catalog, problems: Problems) -> None:
    """Drop pictures whose file is, byte for byte, another's of the same archive and dataset; report the others."""
    database = catalog.database
    database.execute("CREATE INDEX IF NOT EXISTS example_source ON example (source_sha256, id)")
    rows = catalog.pages(
        "SELECT b.id, b.name, a.name, a.source = b.source AND a.dataset = b.dataset "
        "FROM example AS b JOIN example AS a ON a.source_sha256 = b.source_sha256 "
        "AND a.id = (SELECT MIN(c.id) FROM example AS c "
        "WHERE c.source_sha256 = b.source_sha256 AND c.status = 'ready') "
        "WHERE b.status = 'ready' AND a.id < b.id AND b.id > ? ORDER BY b.id LIMIT 256"
    )
    for number, name, first, same_dataset in rows:
        action = Action.DROPPED if same_dataset else Action.KEPT
        problems.add(Kind.DUPLICATE, action, file=name, detail=f"the same file as {shown(first)}")
        if same_dataset:
            catalog.drop(number, "duplicate")


def report_leakage(catalog: Catalog, problems: Problems) -> int:
    """Count pictures of which an exact copy lies in another part of the split."""
    rows = catalog.pages(
        "SELECT b.id, b.name, b.part, a.name, a.part FROM example AS b JOIN example AS a "
        "ON a.source_sha256 = b.source_sha256 AND a.id < b.id AND a.status = 'ready' AND a.part != b.part "
        "WHERE b.status = 'ready' AND b.id > ? GROUP BY b.id ORDER BY b.id LIMIT 256"
    )
    count = 0
    for _, name, part, other, other_part in rows:
        count += 1
        problems.add(
            Kind.SPLIT_LEAKAGE, Action.KEPT, file=name, detail=f"in {part}, and as {shown(other)} in {other_part}"
        )
    return count


@dataclass(frozen=True)
class NearCounts:
    """Pictures that look like an earlier one, and those of them whose like lies in another part."""

    pairs: int
    across_split: int


def report_near(catalog: Catalog, problems: Problems) -> NearCounts:
    """Count pictures that look like an earlier one (exact copies left out).

    Neighbouring frames of one video do; they are listed as problems only where the split parts them.
    """
    database = catalog.database
    database.execute("CREATE TABLE band (number INTEGER, bits INTEGER, id INTEGER)")
    database.execute("CREATE INDEX band_bits ON band (number, bits, id)")
    pairs = across = 0
    rows = catalog.pages(
        "SELECT id, name, part, cluster, dhash, thumb, source_sha256 FROM example "
        "WHERE status = 'ready' AND id > ? ORDER BY id LIMIT 256"
    )
    for number, name, part, cluster, dhash, thumb, sha256 in rows:
        like = _like(catalog, dhash, thumb, sha256)
        for band in range(_BANDS):
            database.execute("INSERT INTO band VALUES (?, ?, ?)", (band, _bits(dhash, band), number))
        if like is None:
            continue
        pairs += 1
        across += part != like.part
        if part != like.part or cluster != like.cluster:
            place = f" (in {part} and {like.part})" if part != like.part else ""
            detail = f"looks like {shown(like.name)}{place}"
            problems.add(Kind.NEAR_DUPLICATE, Action.KEPT, file=name, detail=detail)
    return NearCounts(pairs=pairs, across_split=across)


@dataclass(frozen=True)
class _Like:
    name: str
    part: str
    cluster: str


def _like(catalog: Catalog, dhash: int, thumb: bytes, sha256: str) -> _Like | None:
    """An earlier picture that looks the same."""
    for band in range(_BANDS):
        candidates = catalog.database.execute(
            "SELECT e.name, e.part, e.cluster, e.dhash, e.thumb FROM band JOIN example AS e ON e.id = band.id "
            "WHERE band.number = ? AND band.bits = ? AND e.source_sha256 != ? ORDER BY band.id DESC LIMIT ?",
            (band, _bits(dhash, band), sha256, _CANDIDATES),
        )
        for name, part, cluster, other_dhash, other_thumb in candidates:
            if _differing(dhash, other_dhash) <= MAX_BITS and _steps(thumb, other_thumb) <= MAX_STEPS:
                return _Like(name, part, cluster)
    return None


def _bits(dhash: int, band: int) -> int:
    return dhash >> 16 * band & 0xFFFF


def _differing(one: int, other: int) -> int:
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _steps(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)
