"""Dealing groups of examples into parts, near the wanted shares and with no part empty."""

from collections.abc import Mapping

from atoll_stages.convert.catalog import Catalog
from atoll_stages.convert.parts import TRAIN
from atoll_stages.convert.wording import counted

# A group this much larger than a part's share would distort it; it stays in train while there is another.
_TOO_LARGE = 1.5

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

    Groups are taken in the order of their seeded hash. Returns warnings. A part stays empty only where there are
    fewer pictures than parts.
    """
    database = catalog.database
    where = "status = 'ready'" + ("" if of is None else " AND part = :of")
    database.execute("DROP TABLE IF EXISTS temp.hand")
    database.execute(
        "CREATE TEMP TABLE hand AS SELECT cluster, COUNT(*) AS size, seeded(cluster) AS place, 'train' AS part "  # noqa: S608
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
    _deal_groups(catalog, wanted)
    database.execute(
        "UPDATE example SET part = (SELECT part FROM hand WHERE hand.cluster = example.cluster) "  # noqa: S608
        f"WHERE {where}",
        {"of": of},
    )
    return []


def _deal_groups(catalog: Catalog, wanted: Mapping[str, float]) -> None:
    database = catalog.database
    taken = dict.fromkeys(wanted, 0)
    rows = catalog.pages("SELECT rowid, size FROM hand WHERE rowid > ? ORDER BY rowid LIMIT 1000")
    for number, size in rows:
        for part, share in wanted.items():
            if size <= _TOO_LARGE * share and taken[part] + size / 2 <= share:
                taken[part] += size
                database.execute("UPDATE hand SET part = ? WHERE rowid = ?", (part, number))
                break
    for part in (*wanted, TRAIN):
        database.execute(_FILL, {"part": part})


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
