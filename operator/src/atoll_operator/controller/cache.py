"""What the watches last told of the runs at work and their Jobs, so that a look needs few calls.

It may be behind the API server, never ahead of it: a status patch names the version it was decided on, Jobs have
names of their own, and whatever the server refuses is followed by a live read. A re-sync clears it, so an event that
never came does no lasting harm. Safe for several threads.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from atoll_operator.api.status import TERMINAL
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import RUN_UID_LABEL
from atoll_operator.kube.objects import PODS, bare_job, pod_view
from atoll_operator.kube.watch import ADDED, MODIFIED, Watched
from atoll_operator.lifecycle.model import PodView

Body = dict[str, Any]
# What the API server writes into the lines of a watch, without spaces.
_MARKS = (b'"conditions":[', b'"deletionTimestamp":', b'"suspend":true')


class WatchCache:
    """Runs by key, Jobs by the UID of their run. `None` means unknown: read it live, and tell with `keep_…`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Key, Body] = {}
        self._jobs: dict[str, dict[str, Body]] = {}
        # UID and version of the runs that are over, and UIDs of deleted ones: neither an event that comes late nor a
        # look that was under way must bring them back.
        self._over: dict[Key, tuple[str, int]] = {}
        self._gone: set[str] = set()
        # Jobs that were told to be suspended and not yet to be no more.
        self._suspended: set[str] = set()

    def run(self, key: Key) -> Body | None:
        with self._lock:
            return self._runs.get(key)

    def version(self, key: Key) -> tuple[str, int] | None:
        """UID and version of the run as last told, over or not."""
        with self._lock:
            run = self._runs.get(key)
            return self._over.get(key) if run is None else (run["metadata"]["uid"], _version(run))

    def jobs(self, run_uid: str) -> list[Body] | None:
        with self._lock:
            known = self._jobs.get(run_uid)
            return None if known is None else list(known.values())

    def keep_run(self, run: Body) -> bool:
        """The run as just read, written or told; whether this version is new. One that is over is not kept: it is
        hardly looked at again."""
        key = (run["metadata"]["namespace"], run["metadata"]["name"])
        with self._lock:
            known, uid = self._runs.get(key), run["metadata"]["uid"]
            newest = self._over.get(key, ("", 0))[1] if known is None else _version(known)
            if uid in self._gone or 0 < newest >= _version(run):
                return False
            if known is not None and known["metadata"]["uid"] != uid:
                self._jobs.pop(known["metadata"]["uid"], None)
            if (run.get("status") or {}).get("phase") in TERMINAL:
                self._runs.pop(key, None)
                self._jobs.pop(uid, None)
                self._over[key] = (uid, _version(run))
            else:
                self._runs[key] = _bare_run(run)
                self._over.pop(key, None)
            return True

    def keep_jobs(self, run_uid: str, jobs: Iterable[Body]) -> None:
        """All Jobs of the run, as just listed."""
        with self._lock:
            self._jobs[run_uid] = {job["metadata"]["name"]: bare_job(job) for job in jobs}

    def may_matter(self, line: bytes) -> bool:
        """Whether a line of a watch of Jobs may hold what a look wants to know, without reading it: most tell of
        counters alone. Conditions tell ends and Kueue's suspension; the end of one may come before its condition."""
        if self._suspended or not line.startswith(MODIFIED):
            return True
        return any(mark in line for mark in _MARKS)

    def keep_job(self, run_uid: str, job: Body, *, deleted: bool = False) -> bool:
        """One Job of the run, as just created or told; whether a look at the run may find something new in it.
        Passed over where the others of its run are not known."""
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
            # Most events of a Job tell of its counters.
            return known is None or _without_version(known) != _without_version(bare)

    def forget(self, key: Key) -> None:
        """The next look at the run reads it and its Jobs live."""
        with self._lock:
            self._over.pop(key, None)
            run = self._runs.pop(key, None)
            if run is not None:
                self._jobs.pop(run["metadata"]["uid"], None)

    def delete(self, run: Body) -> None:
        """The run is gone."""
        with self._lock:
            self._gone.add(run["metadata"]["uid"])
        self.forget((run["metadata"]["namespace"], run["metadata"]["name"]))
        self.forget_jobs(run["metadata"]["uid"])

    def forget_jobs(self, run_uid: str) -> None:
        with self._lock:
            self._jobs.pop(run_uid, None)

    def clear_jobs(self) -> None:
        with self._lock:
            self._jobs.clear()
            self._suspended.clear()

    def clear(self) -> None:
        self.clear_jobs()
        with self._lock:
            self._runs.clear()
            self._over.clear()
            self._gone.clear()


def _bare_run(run: Body) -> Body:
    """The run without the API server's notes on who wrote what, which are longer than the run."""
    return run | {"metadata": {key: value for key, value in run["metadata"].items() if key != "managedFields"}}


def _without_version(job: Body) -> Body:
    metadata = {key: value for key, value in job["metadata"].items() if key != "resourceVersion"}
    return job | {"metadata": metadata}


def _version(body: Body) -> int:
    """Versions of one resource can be compared as numbers (Kubernetes ≥ 1.35 promises what etcd always did)."""
    version = str(body["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


# Pods of Jobs that no look has asked for yet; the oldest gives way.
MAX_KEPT = 2000


class PodEnds:
    """Pods that succeeded, by the UID of their Job. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pods: OrderedDict[str, tuple[PodView, ...]] = OrderedDict()

    def watched(self, namespace: str | None) -> Watched:
        """The watch that tells."""
        return Watched(PODS, namespace, self._tell, labels=RUN_UID_LABEL, fields="status.phase=Succeeded")

    def keep(self, pod: Body) -> None:
        owners = pod["metadata"].get("ownerReferences") or []
        job = next((owner for owner in owners if owner.get("controller") and owner.get("kind") == "Job"), None)
        if job is None:
            return
        view = pod_view(pod, job=job["name"])
        with self._lock:
            self._pods[job["uid"]] = (*self._pods.get(job["uid"], ()), view)
            if len(self._pods) > MAX_KEPT:
                self._pods.popitem(last=False)

    def of(self, job_uid: str) -> tuple[PodView, ...]:
        """The pod of this Job, which succeeded; empty where it is not known, or is not the only one."""
        with self._lock:
            pods = self._pods.get(job_uid, ())
        return pods if len(pods) == 1 else ()

    def forget(self, job_uid: str) -> None:
        with self._lock:
            self._pods.pop(job_uid, None)

    def _tell(self, line: bytes) -> None:
        # Later changes of such a pod say nothing new.
        if line.startswith(ADDED):
            self.keep(json.loads(line)["object"])
