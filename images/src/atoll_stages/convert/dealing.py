"""Dealing groups of examples into parts, near the wanted shares and with no part empty.

Each archive is dealt for itself first: one that is added later then leaves the pictures of the others in their parts,
so that a model which goes on from another is not measured on what that one learnt from.
"""

from collections.abc import Iterator, Mapping

from atoll_stages.convert.catalog import Catalog
from atoll_stages.convert.parts import TRAIN
from atoll_stages.convert.wording import counted

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
