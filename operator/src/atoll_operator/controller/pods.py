"""Reads the pods of a run's Jobs, as seldom as it can: but for their success (`pod_ends.py`) pods are not watched, as a
cluster may have very many."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from atoll_operator.config import Settings
from atoll_operator.controller.cache import PodEnds
from atoll_operator.controller.workqueue import Allowance
from atoll_operator.jobs.manifest import CONTAINER
from atoll_operator.kube.client import Body, Cluster
from atoll_operator.kube.errors import Forbidden
from atoll_operator.kube.objects import (
    EVENTS,
    NODES,
    PODS,
    PodDetails,
    lost_node,
    may_be_lost,
    newest_warning,
    pod_view,
)
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView

logger = logging.getLogger(__name__)

LOG_LINES = 50
# Of the time, for all runs together: where very many wait for their pods at once, reading each of them every few
# seconds would be most of what the API server does. Events cost it far more than pods: it has no index of them and
# goes through all of the namespace.
READINGS_SHARE = 0.1
EVENTS_SHARE = 0.05
# When a Job is asked for again whose turn was not now.
BUSY_SECONDS = 10.0
# Much longer than the time between two readings of one Job.
KEPT_SECONDS = 600.0


@dataclass(frozen=True)
class Reading:
    """The pods of a Job as last read. `again_after` is None where no further reading is wanted."""

    job: JobView
    pods: tuple[PodView, ...] = ()
    again_after: float | None = None


@dataclass(frozen=True)
class _Memory:
    read_at: float
    reading: Reading


class PodReader:
    """Remembers the last reading of each unfinished Job. `clock` is monotonic, `now` the cluster's time; safe for
    several workers, as no two have the same run."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        ends: PodEnds | None = None,
    ) -> None:
        self._cluster = cluster
        self._ends = ends or PodEnds()
        self._now = now
        self._settings = settings
        self._clock = clock
        self._allowance = Allowance(READINGS_SHARE, clock)
        self._events = Allowance(EVENTS_SHARE, clock)
        self._memory: dict[str, _Memory] = {}
        self._clean_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether no unfinished Job's pods would be read now."""
        return self._allowance.is_spent

    def read(self, namespace: str, job: JobView, *, recorded: bool) -> Reading:
        """The Job with its pods. `recorded`: the Job's end stands in the run's status, so its pods matter no more."""
        if recorded:
            self._memory.pop(job.uid, None)
            self._ends.forget(job.uid)
            return Reading(job)
        if job.is_finished:
            told = self._ends.of(job.uid) if job.state is JobState.SUCCEEDED else ()
            return Reading(job, told or self._read(namespace, Reading(job))[1])
        return self._read_unfinished(namespace, job)

    def _read_unfinished(self, namespace: str, job: JobView) -> Reading:
        known, now = self._memory.get(job.uid), self._clock()
        if known is None:
            age = (self._now() - job.created).total_seconds()
            if 0 <= age < self._settings.poll.first:
                return Reading(job, again_after=self._settings.poll.first - age)
        elif (rest := known.read_at + (known.reading.again_after or 0) - now) > 0:
            return _as_known(known.reading, job, again_after=rest)
        before = known.reading if known else Reading(job)
        if self._allowance.is_spent:
            return _as_known(before, job, again_after=BUSY_SECONDS)
        with self._allowance.spend():
            error, pods = self._read(namespace, _as_known(before, job, again_after=0.0))
        running = any(pod.phase is PodPhase.RUNNING for pod in pods)
        wait = self._settings.poll.running if running else self._settings.poll.starting
        reading = Reading(replace(job, create_error=error), pods, again_after=wait)
        self._remember(job.uid, _Memory(now, reading))
        return reading

    def _remember(self, uid: str, memory: _Memory) -> None:
        self._memory[uid] = memory
        if memory.read_at < self._clean_at:
            return
        # What nobody asks for any more belongs to runs that were deleted.
        self._clean_at = memory.read_at + KEPT_SECONDS
        for known, item in list(self._memory.items()):
            if item.read_at + KEPT_SECONDS < memory.read_at:
                self._memory.pop(known, None)

    def _read(self, namespace: str, before: Reading) -> tuple[str, tuple[PodView, ...]]:
        """Why the Job has no pod, and its pods. What Events say is taken from `before` where none may be read now."""
        job = before.job
        bodies = self._cluster.list_all(PODS, namespace, labels=f"batch.kubernetes.io/job-name={job.name}")
        if not bodies and not job.is_finished:
            return self._warning(namespace, job.uid, job.create_error, reason="FailedCreate"), ()
        known = {pod.uid: pod.warning for pod in before.pods}
        return "", tuple(pod_view(body, job=job.name, details=self._details(namespace, body, known)) for body in bodies)

    def _details(self, namespace: str, pod: Body, known: Mapping[str, str]) -> PodDetails:
        """`known`: the warnings of pods, by UID."""
        phase = (pod.get("status") or {}).get("phase")
        name, node = pod["metadata"]["name"], (pod.get("spec") or {}).get("nodeName")
        if node and may_be_lost(pod, now=self._now()):
            lost = lost_node(node, self._cluster.read(NODES, None, node))
            if lost:
                return PodDetails(node_lost=lost)
        if phase == "Running":
            return PodDetails(log=self._cluster.read_log_tail(namespace, name, container=CONTAINER, lines=LOG_LINES))
        if phase == "Pending" and node:
            uid = pod["metadata"]["uid"]
            return PodDetails(warning=self._warning(namespace, uid, known.get(uid, "")))
        return PodDetails()

    def _warning(self, namespace: str, uid: str, known: str, *, reason: str = "") -> str:
        if self._events.is_spent:
            return known
        try:
            with self._events.spend():
                events = self._cluster.list_all(EVENTS, namespace, fields=f"involvedObject.uid={uid}")
        except Forbidden:
            # Events make a message better; without them the deadlines still hold.
            logger.warning("may not read Events in %s", namespace)
            return ""
        return newest_warning(events, reason=reason)


def _as_known(known: Reading, job: JobView, *, again_after: float) -> Reading:
    """The Job itself is newer than the one remembered, its trouble is not."""
    return replace(known, job=replace(job, create_error=known.job.create_error), again_after=again_after)
