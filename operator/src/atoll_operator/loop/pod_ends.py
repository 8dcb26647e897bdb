"""The pods that ended well, as a watch tells of them: one event for each, instead of a list for each Job.

Pods as such are not watched. This watch is narrowed down to the stages' pods that have succeeded: the API server sends
such a pod once, and what is kept of it is what a look at its run needs. It only saves calls. Where it knows nothing,
or the operator may not watch pods, a finished Job's pods are listed.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any

from atoll_operator.jobs.manifest import RUN_UID_LABEL
from atoll_operator.kube.resources import PODS
from atoll_operator.kube.views import pod_view
from atoll_operator.kube.watching import ADDED, Watched
from atoll_operator.views import PodView

Body = dict[str, Any]
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
