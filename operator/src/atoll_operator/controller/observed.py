"""What one reconcile knows: the run and, as far as they are needed, its Jobs with their pods, profile, stores and
releases. `StateReader` reads it, `Observed.view` turns it into what `decide` takes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from atoll_contract.document import DecodeError
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import ManifestRef
from atoll_contract.train_spec import Accelerator, InitFrom
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.api.object_store import ObjectStoreSpec
from atoll_operator.api.status import DONE, RunStatus, StagePhase, StageStatus
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import TrainingRunSpec, plain_digest, violation
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache, PodReading, Profile, Stores, key_of
from atoll_operator.controller.job_cache import RunUid, own_jobs
from atoll_operator.controller.pods import PodReader
from atoll_operator.controller.profile_snapshots import ProfileSnapshot, read_snapshot
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import RUN_UID_LABEL
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.objects import JOBS, NODES, PROFILES, RELEASES, REVISIONS, STORES
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.inputs import (
    MODEL_LABEL,
    RETRY_ANNOTATION,
    highest_version,
    own_release,
    profile_view,
    run_view,
)
from atoll_operator.lifecycle.model import AttemptNumber, JobState, JobView, PodView, QueueView, RunView

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observed:
    """A run as its API object and typed, and what belongs to it. `problem` is a sentence where the spec cannot be
    carried out; `stores` and `releases` are None while nothing needs them."""

    run: Body
    spec: TrainingRunSpec
    problem: str = ""
    status: RunStatus | None = None
    profile: Profile | None = None
    stores: Stores | None = None
    releases: tuple[Body, ...] | None = None
    readings: tuple[PodReading, ...] = ()

    @cached_property
    def key(self) -> Key:
        return key_of(self.run)

    @cached_property
    def ref(self) -> RunRef:
        return RunRef(*self.key, self.run["metadata"]["uid"])

    @property
    def run_uid(self) -> RunUid:
        return self.key[0], self.ref.uid

    @property
    def jobs(self) -> tuple[JobView, ...]:
        return tuple(reading.job for reading in self.readings)

    @property
    def pods(self) -> tuple[PodView, ...]:
        return tuple(pod for reading in self.readings for pod in reading.pods)

    @property
    def pods_requeue_after(self) -> float | None:
        """Seconds until the pods of a Job should be read again."""
        waits = [reading.requeue_after for reading in self.readings if reading.requeue_after is not None]
        return min(waits, default=None)

    def with_run(self, run: Body) -> Observed:
        """Returns the same after the run's status was written."""
        return replace(self, run=run, status=parse_status(run))

    def with_job(self, job: JobView, *, requeue_after: float | None = None) -> Observed:
        """Returns the same with this Job, new or changed, whose pods should be read in `requeue_after` seconds."""
        others = tuple(reading for reading in self.readings if reading.job.name != job.name)
        return replace(self, readings=(*others, PodReading(job, requeue_after=requeue_after)))

    def with_release(self, release: Body) -> Observed:
        name = release["metadata"]["name"]
        others = tuple(item for item in self.releases or () if item["metadata"]["name"] != name)
        return replace(self, releases=(*others, release))

    def view(self, queue: QueueManager, *, now: datetime) -> RunView:
        """Returns what `decide` takes. Call it while holding `queue.lock`, as it contains the position in the queue."""
        slots = self.profile.spec.max_concurrent_runs if self.profile else 1
        is_over = self.status is not None and self.status.is_terminal
        # Not from the object: a status that cannot be read must not keep the run from being reconciled.
        view = replace(
            run_view({**self.run, "status": None}, self.spec),
            status=self.status,
            profile=self.profile.view if self.profile else None,
            invalid=_invalid(self.spec, self.profile, problem=self.problem),
            missing=self.stores.missing if self.stores else "",
            queue=QueueView() if is_over else queue.position(self.run, slots=slots, now=now),
            release=own_release(self.releases or (), model=self.spec.publish.model, run_uid=self.ref.uid),
            highest_version=highest_version(self.releases or (), model=self.spec.publish.model),
        )
        if is_over or (self.status is not None and self.status.estimate is not None):
            return view
        default = self.profile.spec.estimate if self.profile else None
        estimate = queue.estimates.estimate(self.key[0], self.spec, on=view.runs_on, default=default)
        return replace(view, estimate=estimate)


class StateReader:
    """Reads an `Observed`, and of it only what a run in its state needs."""

    def __init__(self, cluster: Cluster, cache: Cache, settings: Settings, times: TimeSource) -> None:
        self._cluster = cluster
        self._cache = cache
        self.refs = ReferencedObjects(cluster, cache, own_namespace=settings.own_namespace)
        self.pods = PodReader(cluster, cache, settings.poll, times)

    def read(self, run: Body) -> Observed:
        spec, problem = parse_run(run)
        status = parse_status(run)
        observed = Observed(run, spec, problem, status)
        observed = replace(observed, readings=tuple(self._readings(observed)))
        if status is not None and status.is_terminal and _retry(run) == status.last_handled_retry:
            return observed
        namespace = observed.key[0]
        observed = replace(observed, profile=self.refs.profile(spec, status))
        if all(job.is_finished for job in observed.jobs):
            all_succeeded = all(job.state is JobState.SUCCEEDED for job in observed.jobs)
            stores = self.refs.stores(namespace, spec, cached=bool(observed.jobs) and all_succeeded)
            observed = replace(observed, stores=stores)
        return observed

    def with_releases(self, observed: Observed) -> Observed:
        """Returns the same with the ModelReleases of the run's model, which the reservation of a version needs."""
        return replace(observed, releases=tuple(self.refs.releases(observed.key[0], observed.spec.publish.model)))

    def _readings(self, observed: Observed) -> Iterator[PodReading]:
        namespace, uid = observed.run_uid
        labels = f"{RUN_UID_LABEL}={uid}"
        jobs = self._cache.read_jobs(observed.run_uid, lambda: self._cluster.list_all(JOBS, namespace, labels=labels))
        for job in own_jobs(observed.run, jobs):
            recorded, stops = _is_recorded(observed.status, job), observed.spec.suspend or observed.spec.cancel
            yield self.pods.read(namespace, job, recorded=recorded, stops=stops)


class ReferencedObjects:
    """Reads what a run refers to. Snapshots never change and stay in the cache, stores and what nodes offer for a
    moment; live profiles and releases are read each time."""

    def __init__(self, cluster: Cluster, cache: Cache, *, own_namespace: str) -> None:
        self._cluster = cluster
        self._cache = cache
        self._own_namespace = own_namespace

    def profile(self, spec: TrainingRunSpec, status: RunStatus | None) -> Profile | None:
        """Returns the snapshot that the run was accepted with, else the live profile; None where that is missing."""
        if status is None or status.resolved is None:
            body = self._cluster.read(PROFILES, None, spec.profile)
            if body is None:
                return None
            snapshot = ProfileSnapshot(spec.profile, body["spec"])
            return self._typed(snapshot, gpu_offered=self._gpu_offered(spec, snapshot))
        accepted = self._snapshot(status.resolved.profile_revision)
        # A snapshot of another profile is not this run's, whatever its status says.
        if accepted is None or accepted.profile != spec.profile:
            return None
        return self._typed(accepted, gpu_offered=status.resolved.accelerator == Accelerator.GPU)

    def stores(self, namespace: str, spec: TrainingRunSpec, *, cached: bool = False) -> Stores:
        """Returns the ObjectStores that the run names, and the release that it starts from.

        `cached`: they may be some seconds old. Where something has failed, a user may just have changed them.
        """
        key = (namespace, tuple(spec.store_names), spec.training.init_from.release)
        known = self._cache.stores.get(key) if cached else None
        if known is not None:
            return known
        stores = self._read_stores(namespace, spec)
        if not stores.missing:
            self._cache.stores.put(key, stores)
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
        """Returns the ModelReleases of the model."""
        return self._cluster.list_all(RELEASES, namespace, labels=f"{MODEL_LABEL}={model}")

    def _snapshot(self, revision: str) -> ProfileSnapshot | None:
        known = self._cache.snapshots.get(revision)
        if known is not None:
            return known
        body = self._cluster.read(REVISIONS, self._own_namespace, revision)
        snapshot = read_snapshot(body) if body is not None else None
        if snapshot is not None:
            self._cache.snapshots.put(revision, snapshot)
        return snapshot

    def _gpu_offered(self, spec: TrainingRunSpec, snapshot: ProfileSnapshot) -> bool:
        if spec.training.accelerator is not Accelerator.AUTO:
            return True
        if "trainGPU" not in snapshot.spec["images"]:
            return False
        resource = snapshot.spec["gpu"]["resourceName"]
        known = self._cache.gpu_offered.get(resource)
        if known is None:
            known = any(_allocatable(node, resource) > 0 for node in self._cluster.list_each(NODES))
            self._cache.gpu_offered.put(resource, known)
        return known

    def _typed(self, snapshot: ProfileSnapshot, *, gpu_offered: bool) -> Profile:
        key = (snapshot.digest, gpu_offered)
        known = self._cache.profiles.get(key)
        if known is not None:
            return known
        spec = training_profile(snapshot.document)
        view = profile_view(
            snapshot.profile,
            spec,
            revision=snapshot.revision,
            digest=snapshot.digest,
            # Without an image for it, a GPU is of no use to the runs of this profile.
            gpu_offered=gpu_offered and spec.images.train_gpu is not None,
        )
        profile = Profile(snapshot, spec, view)
        self._cache.profiles.put(key, profile)
        return profile


def parse_run(run: Body) -> tuple[TrainingRunSpec, str]:
    """Returns the run's spec, and a sentence where it cannot be carried out."""
    try:
        return training_run(run), ""
    except SpecError as error:
        # Only the hyperparameters are free text; without them the run can still be shown, and ended.
        training = run["spec"]["training"] | {"hyperparameters": {}}
        readable = run | {"spec": run["spec"] | {"training": training}}
        return training_run(readable), error.message


def parse_status(run: Body) -> RunStatus | None:
    """Returns the run's status; None where there is none yet, or where it cannot be read, so that a new one is made."""
    try:
        return read_status(run.get("status"))
    except DecodeError as error:
        logger.warning("the status of %s cannot be read: %s", run["metadata"]["name"], error)
        return None


def _invalid(spec: TrainingRunSpec, profile: Profile | None, *, problem: str) -> str:
    """Returns why the run cannot be carried out with this profile; empty where it can."""
    if problem or profile is None:
        return problem
    if spec.training.accelerator is Accelerator.GPU and profile.spec.images.train_gpu is None:
        return f"spec.training.accelerator is gpu, but TrainingProfile {spec.profile} names no images.trainGPU"
    return violation(spec, profile.spec, profile_name=spec.profile) or ""


def _is_recorded(status: RunStatus | None, job: JobView) -> bool:
    """Returns whether the status has the Job's end already, so that its pods need not be read."""
    if status is None:
        return False
    numbers = (AttemptNumber(job.stage, job.attempt), *job.following)
    stages = [(status.stage_of(number.stage, job.target), number.attempt) for number in numbers]
    if status.is_terminal or all(stage.phase in DONE for stage, _ in stages):
        return True
    # A failed Job is over with the first of its stages that is.
    return job.state is JobState.FAILED and any(_is_over(stage, attempt, job.uid) for stage, attempt in stages)


def _is_over(stage: StageStatus, attempt: int, job_uid: str) -> bool:
    """Returns whether this attempt of the stage has ended otherwise than with success."""
    waits = stage.phase is StagePhase.PENDING and stage.job_ref is not None and stage.job_ref.uid == job_uid
    left_out = stage.phase is StagePhase.SKIPPED
    return attempt < stage.attempts or (attempt == stage.attempts and (waits or left_out))


def _retry(run: Body) -> str | None:
    value = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    return None if value is None else str(value)


def _allocatable(node: Mapping[str, Any], resource: str) -> int:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return int(allocatable.get(resource, 0))
