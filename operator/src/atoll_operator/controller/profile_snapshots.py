"""Snapshots of TrainingProfiles: a run keeps the one that it started with, in a ControllerRevision."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from atoll_contract.document import to_json
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.lease import NotLeader
from atoll_operator.kube.objects import PROFILES, REVISIONS
from atoll_operator.kube.transport import Body

logger = logging.getLogger(__name__)

NAME_PREFIX = "atoll-profile-"
PROFILE_LABEL = "atoll.dev/profile"
# So many snapshots that no unfinished run uses stay, so that one can see what a finished run was made with.
KEPT = 20


@dataclass(frozen=True)
class ProfileSnapshot:
    """The name and spec of a profile, the spec as the API server stores it."""

    profile: str
    spec: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the digest of name and spec."""
        return "sha256:" + hashlib.sha256(to_json({"profile": self.profile, "spec": self.spec})).hexdigest()

    @property
    def revision(self) -> str:
        """The name of the ControllerRevision."""
        return NAME_PREFIX + self.digest.removeprefix("sha256:")[:16]

    @property
    def document(self) -> dict[str, Any]:
        """The snapshot as a TrainingProfile object."""
        return {"metadata": {"name": self.profile}, "spec": self.spec}

    def manifest(self) -> dict[str, Any]:
        """Returns the ControllerRevision that keeps this snapshot."""
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
    """Returns the snapshot in a ControllerRevision; None where it holds none, or one that does not match its name."""
    data = revision.get("data") or {}
    if not isinstance(data.get("profile"), str) or not isinstance(data.get("spec"), Mapping):
        return None
    snapshot = ProfileSnapshot(data["profile"], data["spec"])
    return snapshot if snapshot.revision == revision["metadata"]["name"] else None


class SnapshotSweep:
    """Removes old snapshots; one call is one round.

    A snapshot is removed when two rounds in a row found it unused, as a reconcile that began before the first round may
    have started a run with it since. The snapshots of the profiles as they are now always stay.
    """

    def __init__(
        self, cluster: Cluster, *, own_namespace: str, in_use: Callable[[], Collection[str]], kept: int = KEPT
    ) -> None:
        """`in_use` returns the snapshots of unfinished runs; `kept` of the others stay."""
        self._cluster = cluster
        self._kept = kept
        self._own_namespace = own_namespace
        self._in_use = in_use
        self._unused: frozenset[str] = frozenset()

    def __call__(self) -> list[str]:
        """Returns the names of the snapshots that were removed."""
        found = self._cluster.list_all(REVISIONS, self._own_namespace, labels=PROFILE_LABEL)
        # Whatever its labels are, nothing but a snapshot is removed.
        snapshots = [body for body in found if read_snapshot(body) is not None]
        current = {
            ProfileSnapshot(body["metadata"]["name"], body["spec"]).revision
            for body in self._cluster.list_all(PROFILES)
        }
        needed = current | set(self._in_use())
        spare = sorted((body for body in snapshots if body["metadata"]["name"] not in needed), key=_age)
        due = spare[: max(0, len(spare) - self._kept)]
        removed = [body for body in due if body["metadata"]["name"] in self._unused]
        for body in removed:
            self._cluster.delete(REVISIONS, self._own_namespace, body["metadata"]["name"], uid=body["metadata"]["uid"])
            logger.info("removed the profile's snapshot %s, which no unfinished run names", body["metadata"]["name"])
        self._unused = frozenset(body["metadata"]["name"] for body in due)
        return [body["metadata"]["name"] for body in removed]


def _age(body: Body) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], body["metadata"]["name"]


async def sweep_snapshots(sweep: SnapshotSweep, *, leading: asyncio.Event, every: float) -> None:
    """Runs a round every so many seconds, while this process leads."""
    while True:
        await leading.wait()
        try:
            await asyncio.to_thread(sweep)
        except (ClusterError, NotLeader) as error:
            logger.warning("old snapshots stay for now: %s", error)
        await asyncio.sleep(every)
