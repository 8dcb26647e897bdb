"""All that the controller remembers of the cluster, so that one reconcile needs few calls.

The cache may be behind the API server, never ahead of it: a status patch names the version it was decided on, Jobs have
names of their own, and a call that fails is followed by a live read (`invalidate`). A re-sync clears the runs and Jobs,
so a missed event does no lasting harm.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from atoll_contract.release import ManifestRef
from atoll_operator.api.status import TERMINAL
from atoll_operator.api.types import ObjectStoreSpec, TrainingProfileSpec
from atoll_operator.controller.profile_snapshots import ProfileSnapshot
from atoll_operator.controller.workqueue import Key
from atoll_operator.kube.objects import bare_job, pod_view
from atoll_operator.kube.watch import MODIFIED
from atoll_operator.lifecycle.model import JobView, PodView, ProfileView

Body = dict[str, Any]
K = TypeVar("K")
V = TypeVar("V")

# Pods of Jobs that no reconcile has asked for yet.
MAX_SUCCEEDED_PODS = 2000
# Much longer than the time between two readings of one Job's pods, and longer than a busy pod reader defers one.
READINGS_SECONDS = 1800.0
STORES_SECONDS = 30.0
# Many runs at once have the same profile, and nobody but an admin deletes its snapshot.
SNAPSHOTTED_SECONDS = 60.0
MAX_REFS = 1000
# What a line of a watch of Jobs contains if it matters. The API server writes no spaces.
_MARKS = (b'"conditions":[', b'"deletionTimestamp":', b'"suspend":true')


@dataclass(frozen=True)
class PodReading:
    """The pods of a Job as last read. `requeue_after` (seconds) is None where they need not be read again."""

    job: JobView
    pods: tuple[PodView, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True)
class Profile:
    """The profile of a run: its snapshot, the snapshot's spec, and what `decide` takes of it."""

    snapshot: ProfileSnapshot
    spec: TrainingProfileSpec
    view: ProfileView


@dataclass(frozen=True)
class Stores:
    """The ObjectStores that a run names, the release it starts from, and a sentence on what does not exist."""

    by_name: Mapping[str, ObjectStoreSpec] = field(default_factory=dict)
    start_release: ManifestRef | None = None
    missing: str = ""


class ExpiringDict(Generic[K, V]):
    """Keeps each value for `seconds`, and at most `limit` values: the oldest gives way. For several threads."""

    def __init__(self, clock: Callable[[], float], *, seconds: float = math.inf, limit: float = math.inf) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        # Guards the items, which are in the order in which they were put.
        self._lock = threading.Lock()
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        known = self.get_with_age(key)
        return None if known is None else known[1]

    def get_with_age(self, key: K) -> tuple[float, V] | None:
        """Returns the value behind the seconds since it was put."""
        now = self._clock()
        with self._lock:
            known = self._items.get(key)
        return None if known is None or now - known[0] >= self._seconds else (now - known[0], known[1])

    def put(self, key: K, value: V, *, at: float | None = None) -> None:
        """Puts the value as of now, or as of the monotonic time `at`."""
        now = self._clock()
        with self._lock:
            self._items.pop(key, None)
            self._items[key] = (now if at is None else at, value)
            while self._items and (len(self._items) > self._limit or self._first() + self._seconds <= now):
                self._items.popitem(last=False)

    def pop(self, key: K) -> None:
        with self._lock:
            self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)

    def _first(self) -> float:
        """Returns when the first item was put."""
        return next(iter(self._items.values()))[0]


class Cache:
    """Runs by key, their Jobs by the run's UID, pods by the UID of their Job, and what runs refer to.

    `None` means unknown: it has to be read live and put here. For several threads; `clock` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Guards the runs and Jobs, which watches and workers change at once.
        self._lock = threading.RLock()
        self._runs: dict[Key, Body] = {}
        self._jobs: dict[str, dict[str, Body]] = {}
        # UID and version of finished runs, and UIDs of deleted ones: neither a late event nor a reconcile that is
        # under way may bring them back.
        self._finished: dict[Key, tuple[str, int]] = {}
        self._deleted: set[str] = set()
        # UIDs of Jobs that are suspended as far as the watch has reported.
        self._suspended: set[str] = set()
        self._succeeded_pods: ExpiringDict[str, tuple[PodView, ...]] = ExpiringDict(clock, limit=MAX_SUCCEEDED_PODS)
        # The last readings of unfinished Jobs.
        self.pod_readings: ExpiringDict[str, PodReading] = ExpiringDict(clock, seconds=READINGS_SECONDS)
        # Snapshots by revision, which never change; typed ones by digest and whether a GPU is offered.
        self.snapshots: ExpiringDict[str, ProfileSnapshot] = ExpiringDict(clock, limit=MAX_REFS)
        self.profiles: ExpiringDict[tuple[str, bool], Profile] = ExpiringDict(clock, limit=MAX_REFS)
        # Revisions whose ControllerRevision exists.
        self.snapshotted: ExpiringDict[str, bool] = ExpiringDict(clock, seconds=SNAPSHOTTED_SECONDS)
        # By namespace, names of stores, and name of the release to start from.
        self.stores: ExpiringDict[tuple[str, tuple[str, ...], str | None], Stores] = ExpiringDict(
            clock, seconds=STORES_SECONDS, limit=MAX_REFS
        )
        # Runs at which a call was forbidden: the message, and when the run's status got it (monotonic seconds).
        self.blocked: dict[Key, tuple[str, float]] = {}

    def run(self, key: Key) -> Body | None:
        with self._lock:
            return self._runs.get(key)

    def version(self, key: Key) -> tuple[str, int] | None:
        """Returns UID and version of the run as last put, finished or not."""
        with self._lock:
            run = self._runs.get(key)
            return self._finished.get(key) if run is None else (run["metadata"]["uid"], _version(run))

    def put_run(self, run: Body) -> bool:
        """Takes a run as read, written or reported, and returns whether this version is new.

        A finished run is not kept, as it is hardly reconciled again.
        """
        key, uid = key_of(run), run["metadata"]["uid"]
        with self._lock:
            known = self._runs.get(key)
            newest = self._finished.get(key, ("", 0))[1] if known is None else _version(known)
            if uid in self._deleted or 0 < newest >= _version(run):
                return False
            if known is not None and known["metadata"]["uid"] != uid:
                self._forget_jobs(known["metadata"]["uid"])
            if (run.get("status") or {}).get("phase") in TERMINAL:
                self._runs.pop(key, None)
                self._forget_jobs(uid)
                self._finished[key] = (uid, _version(run))
            else:
                self._runs[key] = _bare_run(run)
                self._finished.pop(key, None)
            return True

    def jobs(self, run_uid: str) -> list[Body] | None:
        with self._lock:
            known = self._jobs.get(run_uid)
            return None if known is None else list(known.values())

    def put_jobs(self, run_uid: str, jobs: Iterable[Body]) -> None:
        """Takes all Jobs of the run, as just listed."""
        with self._lock:
            self._jobs[run_uid] = {job["metadata"]["name"]: bare_job(job) for job in jobs}

    def put_job(self, run_uid: str, job: Body, *, deleted: bool = False) -> bool:
        """Takes one Job, as created or reported, and returns whether a reconcile may find something new in it.

        The Job is not kept where the others of its run are not known.
        """
        name, bare = job["metadata"]["name"], bare_job(job)
        with self._lock:
            if "spec" in bare and not deleted:
                self._suspended.add(job["metadata"]["uid"])
            else:
                self._suspended.discard(job["metadata"]["uid"])
            jobs = self._jobs.get(run_uid)
            if jobs is None:
                return True
            known = jobs.get(name)
            if known is not None and _version(known) > _version(job):
                return False
            if deleted:
                return jobs.pop(name, None) is not None
            jobs[name] = bare
            # Most events of a Job are about its counters.
            return known is None or _without_version(known) != _without_version(bare)

    def drop_jobs(self, run_uid: str) -> None:
        """The next reconcile lists the run's Jobs."""
        with self._lock:
            self._jobs.pop(run_uid, None)

    def may_matter(self, line: bytes) -> bool:
        """Returns whether a line of a watch of Jobs may matter to a reconcile, without parsing it.

        Most lines are about counters alone. Ends and Kueue's suspension stand in conditions; where Kueue resumes a
        Job, `suspend` may go before the condition comes.
        """
        if self._suspended or not line.startswith(MODIFIED):
            return True
        return any(mark in line for mark in _MARKS)

    def succeeded_pod(self, job_uid: str) -> tuple[PodView, ...]:
        """Returns the one pod of this Job, which succeeded; empty where it is not known, or is not the only one."""
        pods = self._succeeded_pods.get(job_uid) or ()
        return pods if len(pods) == 1 else ()

    def put_succeeded_pod(self, pod: Body) -> None:
        """Takes a pod that succeeded, unless no Job controls it."""
        owners = pod["metadata"].get("ownerReferences") or []
        job = next((owner for owner in owners if owner.get("controller") and owner.get("kind") == "Job"), None)
        if job is not None:
            known = self._succeeded_pods.get(job["uid"]) or ()
            self._succeeded_pods.put(job["uid"], (*known, pod_view(pod, job=job["name"])))

    def forget_pods(self, job_uid: str) -> None:
        self.pod_readings.pop(job_uid)
        self._succeeded_pods.pop(job_uid)

    def invalidate(self, key: Key) -> None:
        """The next reconcile reads the run and its Jobs live, as what is known may have been wrong."""
        with self._lock:
            self._finished.pop(key, None)
            run = self._runs.pop(key, None)
            if run is not None:
                self._jobs.pop(run["metadata"]["uid"], None)

    def forget(self, key: Key, *, uid: str = "") -> None:
        """The run was deleted: nothing of it stays. With its `uid`, no late event brings it back either."""
        with self._lock:
            run = self._runs.get(key)
            if run is not None:
                self._forget_jobs(run["metadata"]["uid"])
            if uid:
                self._deleted.add(uid)
                self._forget_jobs(uid)
            self.invalidate(key)
        self.blocked.pop(key, None)

    def clear_jobs(self) -> None:
        with self._lock:
            self._jobs.clear()
            self._suspended.clear()

    def clear(self) -> None:
        """Every run and its Jobs are read anew."""
        with self._lock:
            self.clear_jobs()
            self._runs.clear()
            self._finished.clear()
            self._deleted.clear()

    def _forget_jobs(self, run_uid: str) -> None:
        for job in self._jobs.pop(run_uid, {}).values():
            self.forget_pods(job["metadata"]["uid"])


def key_of(run: Mapping[str, Any]) -> Key:
    return run["metadata"]["namespace"], run["metadata"]["name"]


def _bare_run(run: Body) -> Body:
    """Returns the run without `managedFields`, which are longer than all the rest."""
    return run | {"metadata": {key: value for key, value in run["metadata"].items() if key != "managedFields"}}


def _without_version(job: Body) -> Body:
    metadata = {key: value for key, value in job["metadata"].items() if key != "resourceVersion"}
    return job | {"metadata": metadata}


def _version(body: Body) -> int:
    """Versions of one resource can be compared as numbers (Kubernetes ≥ 1.35 promises what etcd always did)."""
    version = str(body["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0
