"""The profile that a run started with, kept as a ControllerRevision in the operator's own namespace. Pure.

A run keeps its profile, whatever becomes of the TrainingProfile. The snapshot's name and hash stand in the run's
status; as a tenant may be able to write there, neither is believed: the hash is computed anew from what the snapshot
holds, and a snapshot of another profile than the run names counts as none.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from atoll_contract.codec import to_json

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
