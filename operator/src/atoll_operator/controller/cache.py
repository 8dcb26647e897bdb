"""All that the controller remembers of the cluster, so that one reconcile needs few calls.

The cache may be behind the API server, never ahead of it: a status patch names the version it was decided on, Jobs have
names of their own, and a call that fails is followed by a live read (`invalidate`). A re-sync clears the runs and Jobs,
so a missed event does no lasting harm.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from atoll_contract.release import ManifestRef
from atoll_operator.api.object_store import ObjectStoreSpec
from atoll_operator.api.status import TERMINAL
from atoll_operator.api.types import TrainingProfileSpec
from atoll_operator.controller.job_cache import JobCache, RunUid, is_unfinished, run_of
from atoll_operator.controller.profile_snapshots import ProfileSnapshot
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import RUN_LABEL, RUN_UID_LABEL
from atoll_operator.kube.objects import controller_of, resource_version
from atoll_operator.kube.pod_views import pod_views, speaks_for_job
from atoll_operator.lifecycle.model import JobView, PodView, ProfileView

Body = dict[str, Any]
K = TypeVar("K")
V = TypeVar("V")

# An event or a reconcile of a run that was deleted comes no later than this.
DELETED_SECONDS = 600.0
MAX_OWN_WRITES = 4000
_VERSION = re.compile(rb'"resourceVersion":"([^"]*)"')
# Pods of Jobs that no reconcile has asked for yet.
MAX_SUCCEEDED_PODS = 2000
# Much longer than the time between two readings of one Job's pods, and longer than a busy pod reader defers one.
READINGS_SECONDS = 1800.0
STORES_SECONDS = 30.0
NODES_SECONDS = 30.0
# Many runs at once have the same profile, and nobody but an admin deletes its snapshot.
SNAPSHOTTED_SECONDS = 60.0
MAX_REFS = 1000


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

    def clear(self) -> None:
        with self._lock:
            self._items.clear()

    def pop(self, key: K) -> None:
        with self._lock:
            self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)

    def _first(self) -> float:
        """Returns when the first item was put."""
        return next(iter(self._items.values()))[0]


class Cache:
    """Runs by key, their Jobs, pods by namespace and UID of their Job, and what runs refer to.

    `None` means unknown: it has to be read live and put here. For several threads; `clock` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Guards the runs, which watches and workers change at once.
        self._lock = threading.RLock()
        self._runs: dict[Key, Body] = {}
        self.jobs = JobCache()
        # UID and version of finished runs, and UIDs of deleted ones: neither a late event nor a reconcile that is
        # under way may bring them back.
        self._finished: dict[Key, tuple[str, int]] = {}
        self._deleted: ExpiringDict[str, bool] = ExpiringDict(clock, seconds=DELETED_SECONDS)
        # Versions of runs that this process wrote: their events say nothing new.
        self._own_writes: ExpiringDict[str, bool] = ExpiringDict(clock, limit=MAX_OWN_WRITES)
        # Finished runs of which an unfinished Job was reported since their last reconcile.
        self._outlived: set[RunUid] = set()
        # By namespace and UID of the Job.
        self._succeeded_pods: ExpiringDict[tuple[str, str], tuple[PodView, ...]] = ExpiringDict(
            clock, limit=MAX_SUCCEEDED_PODS
        )
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
        # Whether any node offers the resource: each reconcile of a run that waits in the queue asks it.
        self.gpu_offered: ExpiringDict[str, bool] = ExpiringDict(clock, seconds=NODES_SECONDS)
        # Runs at which a call was forbidden: the message, and when the run's status got it (monotonic seconds).
        self.blocked: dict[Key, tuple[str, float]] = {}

    def run(self, key: Key) -> Body | None:
        with self._lock:
            return self._runs.get(key)

    def version(self, key: Key) -> tuple[str, int] | None:
        """Returns UID and version of the run as last put, finished or not."""
        with self._lock:
            run = self._runs.get(key)
            return self._finished.get(key) if run is None else (run["metadata"]["uid"], resource_version(run))

    def put_run(self, run: Body) -> bool:
        """Takes a run as read, written or reported, and returns whether this version is new.

        A finished run is not kept, as it is hardly reconciled again.
        """
        key, uid = key_of(run), run["metadata"]["uid"]
        with self._lock:
            known = self._runs.get(key)
            newest = self._finished.get(key, ("", 0))[1] if known is None else resource_version(known)
            if self._deleted.get(uid) or newest > resource_version(run):
                return False
            is_over = (run.get("status") or {}).get("phase") in TERMINAL
            if is_over:
                # They may have been listed for the reconcile that ends with this call.
                self._forget_jobs(key, uid)
            if 0 < newest == resource_version(run):
                return False
            if known is not None and known["metadata"]["uid"] != uid:
                self._forget_jobs(key, known["metadata"]["uid"])
            if is_over:
                self._runs.pop(key, None)
                self._finished[key] = (uid, resource_version(run))
            else:
                self._runs[key] = _bare_run(run)
                self._finished.pop(key, None)
            return True

    def note_own_write(self, run: Body) -> None:
        """Called with a run as this process has just written it: the event of that write says nothing new."""
        self._own_writes.put(run["metadata"]["resourceVersion"], True)

    def is_own_write(self, line: bytes) -> bool:
        """Returns whether a line of a watch of runs is about a version that this process wrote."""
        # Where an annotation or so has the same name, all of them have to be known.
        versions = _VERSION.findall(line)
        return bool(versions) and all(self._own_writes.get(version.decode()) for version in versions)

    def unfinished(self, namespace: str | None) -> set[RunUid]:
        """Returns the runs of this namespace (None: of all) that are known and not over."""
        with self._lock:
            return {(key[0], run["metadata"]["uid"]) for key, run in self._runs.items() if namespace in (None, key[0])}

    def read_jobs(self, run: RunUid, list_live: Callable[[], Iterable[Body]]) -> list[Body]:
        """Returns the run's Jobs, for a reconcile of it; `list_live` lists them where they are not known."""
        with self._lock:
            self._outlived.discard(run)
        return self.jobs.read(run, list_live)

    def put_job(self, job: Body, *, deleted: bool = False) -> bool:
        """Takes one Job, as created or reported, and returns whether a reconcile of its run may find something new.

        A Job whose namespace or owner is not a run's is not kept, whatever its labels say; nor is one where the others
        of its run are not known.
        """
        run = run_of(job)
        if run is None:
            return False
        with self._lock:
            key = (run[0], (job["metadata"].get("labels") or {}).get(RUN_LABEL, ""))
            if self._finished.get(key, ("", 0))[0] == run[1]:
                return self._put_job_of_finished(run, job, deleted=deleted)
            changed = self.jobs.put(run, job, deleted=deleted)
            known = self._runs.get(key)
            return known is not None and known["metadata"]["uid"] == run[1] if changed is None else changed

    def _put_job_of_finished(self, run: RunUid, job: Body, *, deleted: bool) -> bool:
        self.jobs.put(run, job, deleted=deleted)
        if deleted or run in self._outlived or not is_unfinished(job):
            return False
        self._outlived.add(run)
        return True

    def is_outlived(self, run: RunUid) -> bool:
        """Returns whether an unfinished Job of this finished run was reported since its last reconcile."""
        with self._lock:
            return run in self._outlived

    def succeeded_pod(self, namespace: str, job_uid: str) -> tuple[PodView, ...]:
        """Returns the one pod of this Job, which succeeded, as its stages see it; empty where it is not known, or is
        not the only one."""
        pods = self._succeeded_pods.get((namespace, job_uid)) or ()
        return pods if len({pod.uid for pod in pods}) == 1 else ()

    def put_succeeded_pod(self, pod: Body) -> None:
        """Takes a pod that succeeded, unless its namespace has no such run at work or no Job controls it.

        Of an Indexed Job index 0 has the result; the others are listed at its end, so that they are counted.
        """
        namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}
        run, job = self.run((namespace, labels.get(RUN_LABEL, ""))), controller_of(pod, "Job")
        if not speaks_for_job(pod):
            return
        if job and run is not None and run["metadata"]["uid"] == labels.get(RUN_UID_LABEL):
            known = self._succeeded_pods.get((namespace, job["uid"])) or ()
            self._succeeded_pods.put((namespace, job["uid"]), (*known, *pod_views(pod, job=job["name"])))

    def forget_pods(self, namespace: str, job_uid: str) -> None:
        self.pod_readings.pop(job_uid)
        self._succeeded_pods.pop((namespace, job_uid))

    def invalidate(self, key: Key) -> None:
        """The next reconcile reads the run and its Jobs live, as what is known may have been wrong."""
        with self._lock:
            self._finished.pop(key, None)
            run = self._runs.pop(key, None)
            if run is not None:
                self.jobs.drop((key[0], run["metadata"]["uid"]))

    def forget(self, key: Key, *, uid: str = "") -> None:
        """The run was deleted: nothing of it stays. With its `uid`, no late event brings it back either."""
        with self._lock:
            run = self._runs.get(key)
            for known in {uid, run["metadata"]["uid"] if run is not None else ""} - {""}:
                self._forget_jobs(key, known)
                self._outlived.discard((key[0], known))
            if uid:
                self._deleted.put(uid, True)
            self.invalidate(key)
        self.blocked.pop(key, None)

    def clear(self) -> None:
        """Every run and its Jobs are read anew."""
        with self._lock:
            self.jobs.clear()
            self._outlived.clear()
            self._runs.clear()
            self._finished.clear()
            self._deleted.clear()

    def _forget_jobs(self, key: Key, run_uid: str) -> None:
        for job in self.jobs.drop((key[0], run_uid)):
            self.forget_pods(key[0], job["metadata"]["uid"])


def key_of(run: Mapping[str, Any]) -> Key:
    return run["metadata"]["namespace"], run["metadata"]["name"]


def _bare_run(run: Body) -> Body:
    """Returns the run without `managedFields`, which are longer than all the rest."""
    return run | {"metadata": {key: value for key, value in run["metadata"].items() if key != "managedFields"}}
