"""The snapshots of TrainingProfiles that runs keep."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from atoll_contract.document import to_json
from atoll_operator.kube.client import Body, Cluster
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import PROFILES, REVISIONS

NAME_PREFIX = "atoll-profile-"
PROFILE_LABEL = "atoll.dev/profile"


@dataclass(frozen=True)
class ProfileSnapshot:
    """A profile's name and spec (as the API server stores it), with the digest over both."""

    profile: str
    spec: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(to_json({"profile": self.profile, "spec": self.spec})).hexdigest()

    @property
    def revision(self) -> str:
        """Name of the ControllerRevision."""
        return NAME_PREFIX + self.digest.removeprefix("sha256:")[:16]

    @property
    def document(self) -> dict[str, Any]:
        """As a TrainingProfile, for the functions that read one."""
        return {"metadata": {"name": self.profile}, "spec": self.spec}

    def manifest(self) -> dict[str, Any]:
        """The ControllerRevision that keeps this snapshot."""
        return {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": self.revision,
                "labels": {PROFILE_LABEL: self.profile, "app.kubernetes.io/managed-by": "atoll-operator"},
            },
            "data": {"profile": self.profile, "spec": self.spec},
            "revision": 1,
        }


def read_snapshot(revision: Mapping[str, Any]) -> ProfileSnapshot | None:
    """The snapshot in a ControllerRevision; None where it holds none, or not the one that its name says."""
    data = revision.get("data") or {}
    if not isinstance(data.get("profile"), str) or not isinstance(data.get("spec"), Mapping):
        return None
    snapshot = ProfileSnapshot(data["profile"], data["spec"])
    return snapshot if snapshot.revision == revision["metadata"]["name"] else None


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
