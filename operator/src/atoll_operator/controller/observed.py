"""What a look at a run reads beside the run itself: its Jobs, profile, stores and releases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from atoll_contract.document import DecodeError
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.stage import Accelerator, InitFrom, Stage
from atoll_operator.api.parse import object_store, plain_digest, training_profile, training_run, violation
from atoll_operator.api.status import DONE, RunStatus, StagePhase, read_status
from atoll_operator.api.types import ObjectStoreSpec, TrainingProfileSpec, TrainingRunSpec
from atoll_operator.controller.cache import WatchCache
from atoll_operator.controller.pods import PodReader, Reading
from atoll_operator.controller.profile_snapshots import ProfileSnapshot, read_snapshot
from atoll_operator.controller.queue import RunIndex
from atoll_operator.jobs.manifest import ATTEMPT_LABEL, RUN_UID_LABEL, STAGE_LABEL, job_name
from atoll_operator.kube.client import Body, Cluster
from atoll_operator.kube.objects import JOBS, NODES, PROFILES, RELEASES, REVISIONS, STORES, job_view
from atoll_operator.lifecycle.inputs import (
    MODEL_LABEL,
    RETRY_ANNOTATION,
    highest_version,
    own_release,
    profile_view,
    run_view,
)
from atoll_operator.lifecycle.model import JobState, JobView, PodView, ProfileView, QueueView, RunView

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
        key = (namespace, tuple(spec.store_names), spec.training.init_from.release)
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
        start = spec.training.init_from
        if start.type is not InitFrom.RELEASE or start.release is None:
            return Stores(found)
        body = self._cluster.read(RELEASES, namespace, start.release)
        manifest = ((body or {}).get("status") or {}).get("manifest")
        if not manifest:
            return Stores(found, missing=f"there is no published ModelRelease {start.release!r} in {namespace}")
        digest = plain_digest(manifest["sha256"])
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


@dataclass(frozen=True)
class Look:
    """A run as its API object, typed, and with what is around it. `stores` and `releases` are None while nothing
    needs them."""

    run: Body
    spec: TrainingRunSpec
    problem: str = ""
    status: RunStatus | None = None
    profile: Profile | None = None
    stores: Stores | None = None
    releases: tuple[Body, ...] | None = None
    readings: tuple[Reading, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.run["metadata"]["namespace"], self.run["metadata"]["name"]

    @property
    def ref(self) -> RunRef:
        return RunRef(*self.key, self.run["metadata"]["uid"])

    @property
    def jobs(self) -> tuple[JobView, ...]:
        return tuple(reading.job for reading in self.readings)

    @property
    def pods(self) -> tuple[PodView, ...]:
        return tuple(pod for reading in self.readings for pod in reading.pods)

    @property
    def pods_again_after(self) -> float | None:
        waits = [reading.again_after for reading in self.readings if reading.again_after is not None]
        return min(waits, default=None)

    def with_run(self, run: Body) -> Look:
        """The same after the run's status was written."""
        return replace(self, run=run, status=parse_status(run))

    def with_job(self, job: JobView, *, again_after: float | None = None) -> Look:
        """The same with this Job in its place, whose pods are to be read so many seconds from now."""
        others = tuple(reading for reading in self.readings if reading.job.name != job.name)
        return replace(self, readings=(*others, Reading(job, again_after=again_after)))

    def with_release(self, release: Body) -> Look:
        name = release["metadata"]["name"]
        others = tuple(item for item in self.releases or () if item["metadata"]["name"] != name)
        return replace(self, releases=(*others, release))

    def view(self, index: RunIndex, *, now: datetime) -> RunView:
        """What `decide` sees. Ask while holding `index.deciding`, as it contains the place in the queue."""
        slots = self.profile.spec.max_concurrent_runs if self.profile else 1
        idle = self.status is not None and self.status.is_terminal
        # The status is left out here: one that nobody can read must not keep the run from being looked at.
        view = replace(
            run_view({**self.run, "status": None}, self.spec),
            status=self.status,
            profile=self.profile.view if self.profile else None,
            invalid=invalid(self.spec, self.profile, problem=self.problem),
            missing=self.stores.missing if self.stores else "",
            queue=QueueView() if idle else index.place(self.run, slots=slots, now=now),
            release=own_release(self.releases or (), model=self.spec.publish.model, run_uid=self.ref.uid),
            highest_version=highest_version(self.releases or (), model=self.spec.publish.model),
        )
        if idle or (self.status is not None and self.status.estimate is not None):
            return view
        default = self.profile.spec.estimate if self.profile else None
        return replace(view, estimate=index.timings.estimate(self.key[0], self.spec, on=view.runs_on, default=default))


class Looker:
    """Reads a Look. What a run that rests or works does not need is left unread."""

    def __init__(self, cluster: Cluster, surroundings: Surroundings, pods: PodReader, cache: WatchCache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._surroundings = surroundings
        self._pods = pods

    def look(self, run: Body) -> Look:
        spec, problem = parse_run(run)
        status = parse_status(run)
        found = Look(run, spec, problem, status)
        found = replace(found, readings=tuple(self._readings(found)))
        if status is not None and status.is_terminal and _retry(run) == status.last_handled_retry:
            return found
        namespace = found.key[0]
        found = replace(found, profile=self._surroundings.profile(spec, status))
        if all(job.is_finished for job in found.jobs):
            smoothly = bool(found.jobs) and all(job.state is JobState.SUCCEEDED for job in found.jobs)
            found = replace(found, stores=self._surroundings.stores(namespace, spec, smoothly=smoothly))
        return found

    def with_releases(self, look: Look) -> Look:
        """The same with the ModelReleases of the run's model: a version is about to be reserved."""
        return replace(look, releases=tuple(self._surroundings.releases(look.key[0], look.spec.publish.model)))

    def _readings(self, look: Look) -> Iterator[Reading]:
        namespace, uid = look.key[0], look.ref.uid
        bodies = self._cache.jobs(uid)
        if bodies is None:
            bodies = self._cluster.list_all(JOBS, namespace, labels=f"{RUN_UID_LABEL}={uid}")
            self._cache.keep_jobs(uid, bodies)
        for job in own_jobs(look.run, bodies):
            yield self._pods.read(namespace, job, recorded=_is_recorded(look.status, job))


def own_jobs(run: Body, bodies: Iterable[Body]) -> Iterator[JobView]:
    """The views of those Jobs whose names are the run's."""
    metadata = run["metadata"]
    ref = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    for body in bodies:
        job = view_of_own_job(ref, body)
        if job is not None:
            yield job


def view_of_own_job(run: RunRef, body: Body, *, stage: Stage | None = None, attempt: int = 0) -> JobView | None:
    """The Job's view, or None where its name is not the one that a Job of its stage and attempt has. Stage and
    attempt are read from its labels unless given."""
    if stage is None:
        labels = body["metadata"].get("labels") or {}
        if labels.get(STAGE_LABEL) not in list(Stage) or not labels.get(ATTEMPT_LABEL, "").isdecimal():
            return None
        stage, attempt = Stage(labels[STAGE_LABEL]), int(labels[ATTEMPT_LABEL])
    if body["metadata"]["name"] != job_name(run.name, run.uid, stage, attempt):
        return None
    return job_view(body, stage=stage, attempt=attempt)


def parse_status(run: Body) -> RunStatus | None:
    """The run's status; None where there is none, or one that no operator wrote: the Jobs then tell what is."""
    try:
        return read_status(run.get("status"))
    except DecodeError as error:
        logger.warning("the status of %s is none: %s", run["metadata"]["name"], error)
        return None


def _is_recorded(status: RunStatus | None, job: JobView) -> bool:
    """Whether the Job's end stands in the status already, so that its pods need not be read."""
    if status is None:
        return False
    stage = next((item for item in status.stages if item.name is job.stage), None)
    if status.is_terminal or (stage is not None and stage.phase in DONE):
        return True
    if stage is None or job.state is not JobState.FAILED:
        return False
    over = stage.phase is StagePhase.PENDING and stage.job_ref is not None and stage.job_ref.uid == job.uid
    return job.attempt < stage.attempts or (job.attempt == stage.attempts and over)


def _retry(run: Body) -> str | None:
    value = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    return None if value is None else str(value)
