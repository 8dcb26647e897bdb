"""Removes profiles' snapshots that no unfinished run names, so that a season of edits leaves few."""

import asyncio
import logging
from collections.abc import Callable, Collection

from atoll_operator.kube.cluster import Body, Cluster
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.resources import PROFILES, REVISIONS
from atoll_operator.profiles.snapshot import PROFILE_LABEL, ProfileSnapshot, read_snapshot

logger = logging.getLogger(__name__)

# The newest that nobody needs stay: what a finished run was made of can be looked up for a while.
KEPT = 20


class SnapshotSweep:
    """One call is one round. A snapshot goes when two rounds in a row found it unneeded: a look that began before the
    first and pins it meanwhile is known by the second. Those of the profiles as they are now always stay."""

    def __init__(
        self, cluster: Cluster, *, own_namespace: str, named: Callable[[], Collection[str]], kept: int = KEPT
    ) -> None:
        """`named` gives the snapshots that unfinished runs name; `kept` of the others stay."""
        self._cluster = cluster
        self._kept = kept
        self._own_namespace = own_namespace
        self._named = named
        self._unneeded: frozenset[str] = frozenset()

    def __call__(self) -> list[str]:
        """The names of those that were removed."""
        found = self._cluster.list_all(REVISIONS, self._own_namespace, labels=PROFILE_LABEL)
        # Nothing else than snapshots, whatever label it bears.
        snapshots = [body for body in found if read_snapshot(body) is not None]
        current = {
            ProfileSnapshot(body["metadata"]["name"], body["spec"]).revision
            for body in self._cluster.list_all(PROFILES)
        }
        needed = current | set(self._named())
        spare = sorted((body for body in snapshots if body["metadata"]["name"] not in needed), key=_age)
        due = spare[: max(0, len(spare) - self._kept)]
        removed = [body for body in due if body["metadata"]["name"] in self._unneeded]
        for body in removed:
            self._cluster.delete(REVISIONS, self._own_namespace, body["metadata"]["name"], uid=body["metadata"]["uid"])
            logger.info("removed the profile's snapshot %s, which no unfinished run names", body["metadata"]["name"])
        self._unneeded = frozenset(body["metadata"]["name"] for body in due)
        return [body["metadata"]["name"] for body in removed]


def _age(body: Body) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], body["metadata"]["name"]


async def keep_swept(sweep: SnapshotSweep, *, leading: asyncio.Event, every: float) -> None:
    """A round every so many seconds, while this process leads."""
    while True:
        await leading.wait()
        try:
            await asyncio.to_thread(sweep)
        except (ClusterError, NotLeader) as error:
            logger.warning("old snapshots stay for now: %s", error)
        await asyncio.sleep(every)
