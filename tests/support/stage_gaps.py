"""Measures the time from the end of a Job to the next one of its chain, by the audit log."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from atoll_contract.stage import Stage
from cluster.audit import Write
from support.bare_chains import LENGTH

# `<run>-<stage>-<attempt>-<hash>` of Atoll, `<chain>-<step>` of the bare chains.
_ATOLL = re.compile(rf"(.+)-({'|'.join(Stage)})-1-[0-9a-f]{{8}}")
_BARE = re.compile(rf"(.+)-([1-{LENGTH}])")
_ORDER = list(Stage)


@dataclass(frozen=True)
class Gaps:
    """Seconds until the next Job was there, for each Job that has a next one: since its Job was complete (the
    earliest that anybody who watches Jobs can know), and since its pod had ended."""

    since_job: tuple[float, ...]
    since_pod: tuple[float, ...]


def gaps(writes: Iterable[Write], *, namespace: str) -> Gaps:
    """The gaps of all chains of the namespace. The last write of a status is the one that told the end."""
    created: dict[str, float] = {}
    complete: dict[str, float] = {}
    ended: dict[str, float] = {}
    for write in writes:
        if write.namespace != namespace or not 200 <= write.code < 300:
            continue
        if (write.resource, write.verb) == ("jobs", "create"):
            created[write.name] = write.time
        elif write.resource == "jobs/status":
            complete[write.name] = max(write.time, complete.get(write.name, 0.0))
        elif write.resource == "pods/status":
            job = write.name.rpartition("-")[0]
            ended[job] = max(write.time, ended.get(job, 0.0))
    pairs = _neighbours(created)
    return Gaps(_between(complete, created, pairs), _between(ended, created, pairs))


def place(job: str) -> tuple[str, int] | None:
    """Chain and number (from 0) of the Job of this name; None for a Job of no chain."""
    if found := _ATOLL.fullmatch(job):
        return found[1], _ORDER.index(Stage(found[2]))
    if found := _BARE.fullmatch(job):
        return found[1], int(found[2]) - 1
    return None


def _neighbours(created: Iterable[str]) -> list[tuple[str, str]]:
    """Each Job with the next one of its chain; not every stage has a Job of its own."""
    chains: dict[str, dict[int, str]] = defaultdict(dict)
    for job in created:
        if at := place(job):
            chains[at[0]][at[1]] = job
    ordered = ([jobs[number] for number in sorted(jobs)] for jobs in chains.values())
    return [pair for jobs in ordered for pair in pairwise(jobs)]


def _between(
    ends: Mapping[str, float], created: Mapping[str, float], pairs: Iterable[tuple[str, str]]
) -> tuple[float, ...]:
    return tuple(created[after] - ends[before] for before, after in pairs if before in ends)
