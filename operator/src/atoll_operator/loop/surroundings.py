"""What a look at a run reads beside the run itself: its Jobs, profile, stores and releases."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll_contract.errors import SpecError
from atoll_contract.manifest import ManifestRef
from atoll_contract.stage import Accelerator, InitFrom
from atoll_operator.api.limits import violation
from atoll_operator.api.parse import object_store, plain_digest, training_profile, training_run
from atoll_operator.api.types import ObjectStoreSpec, TrainingProfileSpec, TrainingRunSpec
from atoll_operator.kube.cluster import Body, Cluster
from atoll_operator.kube.resources import NODES, PROFILES, RELEASES, REVISIONS, STORES
from atoll_operator.profiles.snapshot import ProfileSnapshot, read_snapshot
from atoll_operator.releases import MODEL_LABEL
from atoll_operator.status import RunStatus
from atoll_operator.views import ProfileView
from atoll_operator.views_spec import profile_view

logger = logging.getLogger(__name__)

STORES_KEPT_SECONDS = 30.0
MAX_STORES_KEPT = 1000


@dataclass(frozen=True)
class Profile:
    """The profile of a run: the snapshot that it keeps, typed, and as a decision sees it."""

    snapshot: ProfileSnapshot
    spec: TrainingProfileSpec
    view: ProfileView


@dataclass(frozen=True)
class Stores:
    """What the run reads from, by name, and a sentence on what does not exist."""

    by_name: Mapping[str, ObjectStoreSpec] = field(default_factory=dict)
    start_release: ManifestRef | None = None
    missing: str = ""


def parse_run(run: Body) -> tuple[TrainingRunSpec, str]:
    """The run's spec, and a sentence where it cannot be carried out."""
    try:
        return training_run(run), ""
    except SpecError as error:
        # Only hyperparameters are free text; without them the run can still be shown, and ended.
        training = run["spec"]["training"] | {"hyperparameters": {}}
        readable = run | {"spec": run["spec"] | {"training": training}}
        return training_run(readable), error.message


def invalid(spec: TrainingRunSpec, profile: Profile | None, *, problem: str) -> str:
    """Why the run cannot be carried out with this profile; empty where it can."""
    if problem or profile is None:
        return problem
    if spec.training.accelerator is Accelerator.GPU and profile.spec.images.train_gpu is None:
        return f"spec.training.accelerator is gpu, but TrainingProfile {spec.profile} names no images.trainGPU"
    return violation(spec, profile.spec, profile_name=spec.profile) or ""


class Surroundings:
    """Reads with the operator's rights. Snapshots are immutable and kept; stores are kept for a moment where a run
    goes on smoothly; everything else is read anew. `clock` is monotonic; safe for several workers."""

    def __init__(self, cluster: Cluster, *, own_namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._own_namespace = own_namespace
        self._clock = clock
        self._snapshots: dict[str, ProfileSnapshot] = {}
        self._profiles: dict[tuple[str, bool], Profile] = {}
        self._stores: dict[tuple[str, tuple[str, ...], str | None], tuple[float, Stores]] = {}

    def profile(self, spec: TrainingRunSpec, status: RunStatus | None) -> Profile | None:
        """The snapshot that the run was accepted with, else the live profile; None where that does not exist."""
        if status is None or status.resolved is None:
            body = self._cluster.read(PROFILES, None, spec.profile)
            if body is None:
                return None
            snapshot = ProfileSnapshot(spec.profile, body["spec"])
            return self._typed(snapshot, gpu_offered=self._gpu_offered(spec, snapshot))
        kept = self._snapshot(status.resolved.profile_revision)
        # A snapshot of another profile is not this run's, whatever its status says.
        if kept is None or kept.profile != spec.profile:
            return None
        return self._typed(kept, gpu_offered=status.resolved.accelerator == Accelerator.GPU)

    def stores(self, namespace: str, spec: TrainingRunSpec, *, smoothly: bool = False) -> Stores:
        """The ObjectStores that the run names, and the release it starts from. `smoothly`: they may be as they were
        a moment ago, as nothing has failed that they could have been changed for."""
        key = (namespace, tuple(spec.store_names), spec.training.start.release)
        kept = self._stores.get(key)
        if smoothly and kept is not None and self._clock() - kept[0] < STORES_KEPT_SECONDS:
            return kept[1]
        stores = self._read_stores(namespace, spec)
        if len(self._stores) >= MAX_STORES_KEPT:
            self._stores.clear()
        if not stores.missing:
            self._stores[key] = (self._clock(), stores)
        return stores

    def _read_stores(self, namespace: str, spec: TrainingRunSpec) -> Stores:
        found: dict[str, ObjectStoreSpec] = {}
        for name in spec.store_names:
            body = self._cluster.read(STORES, namespace, name)
            if body is None:
                return Stores(missing=f"there is no ObjectStore {name!r} in namespace {namespace}")
            found[name] = object_store(body)
        start = spec.training.start
        if start.type is not InitFrom.RELEASE or start.release is None:
            return Stores(found)
        body = self._cluster.read(RELEASES, namespace, start.release)
        manifest = ((body or {}).get("status") or {}).get("manifest")
        if not manifest:
            return Stores(found, missing=f"there is no published ModelRelease {start.release!r} in {namespace}")
        digest = plain_digest(manifest["sha256"])
        assert digest is not None
        return Stores(found, ManifestRef(manifest["key"], digest, manifest.get("size", 0)))

    def releases(self, namespace: str, model: str) -> list[Body]:
        """The ModelReleases of the model."""
        return self._cluster.list_all(RELEASES, namespace, labels=f"{MODEL_LABEL}={model}")

    def _snapshot(self, revision: str) -> ProfileSnapshot | None:
        if revision not in self._snapshots:
            body = self._cluster.read(REVISIONS, self._own_namespace, revision)
            snapshot = read_snapshot(body) if body is not None else None
            if snapshot is None:
                return None
            self._snapshots[revision] = snapshot
        return self._snapshots[revision]

    def _gpu_offered(self, spec: TrainingRunSpec, snapshot: ProfileSnapshot) -> bool:
        if spec.training.accelerator is not Accelerator.AUTO:
            return True
        if "trainGPU" not in snapshot.spec["images"]:
            return False
        resource = snapshot.spec["gpu"]["resourceName"]
        nodes = self._cluster.list_all(NODES)
        return any(_amount(node, resource) > 0 for node in nodes)

    def _typed(self, snapshot: ProfileSnapshot, *, gpu_offered: bool) -> Profile:
        key = (snapshot.digest, gpu_offered)
        if key not in self._profiles:
            spec = training_profile(snapshot.document)
            view = profile_view(
                snapshot.profile,
                spec,
                revision=snapshot.revision,
                digest=snapshot.digest,
                # Without an image for it, a GPU is of no use to the runs of this profile.
                gpu_offered=gpu_offered and spec.images.train_gpu is not None,
            )
            self._profiles[key] = Profile(snapshot, spec, view)
        return self._profiles[key]


def _amount(node: Mapping[str, Any], resource: str) -> int:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return int(allocatable.get(resource, 0))
