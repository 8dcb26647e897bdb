"""Reads the pods of a run's Jobs, and no more often than needed: a cluster may have very many pods, so that only their
success is watched (`Cache.put_succeeded_pod`)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from atoll_operator.controller.cache import Cache, ExpiringDict, PodReading
from atoll_operator.controller.workqueue import TimeBudget
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import Forbidden
from atoll_operator.kube.objects import (
    EVENTS,
    NODES,
    PODS,
    WORKLOAD_JOB_LABEL,
    WORKLOADS,
    controller_of,
    queue_message,
)
from atoll_operator.kube.pod_views import (
    PodDetails,
    lost_node,
    may_be_lost,
    newest_warning,
    pod_views,
    running_container,
    speaks_for_job,
)
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView, PollIntervals

logger = logging.getLogger(__name__)

LOG_LINES = 50
# Shares of the time, for all runs together: where very many wait for their pods at once, reading each of them every few
# seconds would be most of what the API server does. Events cost it far more than pods, as it has no index of them and
# goes through all of the namespace.
READINGS_SHARE = 0.1
EVENTS_SHARE = 0.05
# A reading this new is good enough for what the pods have used.
NEW_SECONDS = 1.0
# A container that has printed no progress yet is read often for so long; then it is one that prints none.
SILENT_SECONDS = 15.0
# A queue that has said nothing about a suspended Job for so long is not asked again: perhaps no Kueue suspended it.
SILENT_QUEUE_SECONDS = 60.0
# When to ask for a Job's pods again after the time budget was spent.
BUSY_SECONDS = 10.0
MAX_HOLDS = 10_000


@dataclass(frozen=True)
class Hold:
    """Since when (monotonic seconds) a Job is known to be suspended, and what its queue says about it."""

    since: float
    message: str = ""


class PodReader:
    """Reads pods into the cache at the intervals `poll`. For several workers, as no two have the same run."""

    def __init__(self, cluster: Cluster, cache: Cache, poll: PollIntervals, times: TimeSource) -> None:
        self._cluster = cluster
        self._cache = cache
        self._poll = poll
        self._times = times
        self._budget = TimeBudget(READINGS_SHARE, times.monotonic)
        self._events_budget = TimeBudget(EVENTS_SHARE, times.monotonic)
        # By UID of the Job.
        self._holds: ExpiringDict[str, Hold] = ExpiringDict(times.monotonic, limit=MAX_HOLDS)

    @property
    def is_busy(self) -> bool:
        """Whether no unfinished Job's pods would be read now."""
        return self._budget.is_spent

    def read(self, namespace: str, job: JobView, *, recorded: bool, stops: bool = False) -> PodReading:
        """Returns the Job with its pods. `recorded`: the run's status has the Job's end, so its pods no longer
        matter. `stops`: the run is to be suspended or cancelled, and what its pods used is counted now."""
        if recorded:
            self._cache.forget_pods(namespace, job.uid)
            return PodReading(job)
        if job.state is JobState.SUSPENDED:
            return self._read_held(namespace, job)
        self._holds.pop(job.uid)
        if job.is_finished:
            known = self._cache.succeeded_pod(namespace, job.uid) if job.state is JobState.SUCCEEDED else ()
            if known and known[0].index is None:
                return PodReading(job, known)
            pods = self._list(namespace, PodReading(job))[1]
            # It may be gone by now.
            return PodReading(job, (*pods, *(pod for pod in known if pod.uid not in {item.uid for item in pods})))
        return self._read_unfinished(namespace, job, stops=stops and not job.deleting)

    def _read_unfinished(self, namespace: str, job: JobView, *, stops: bool) -> PodReading:
        known, started = self._cache.pod_readings.get_with_age(job.uid), self._times.monotonic()
        if known is None:
            before, age = PodReading(job), (self._times.now() - job.created).total_seconds()
            if 0 <= age < self._poll.first:
                return PodReading(job, requeue_after=self._poll.first - age)
        else:
            age, before = known
            left = (before.requeue_after or 0) - age
            if left > 0 and not (stops and age >= NEW_SECONDS):
                return _with_job(before, job, requeue_after=left)
        if self._budget.is_spent and not stops:
            return _with_job(before, job, requeue_after=BUSY_SECONDS)
        with self._budget.spend():
            create_error, pods = self._list(namespace, _with_job(before, job, requeue_after=0.0))
        wait = self._poll.running if self._is_settled(pods) else self._poll.starting
        reading = PodReading(replace(job, create_error=create_error), pods, requeue_after=wait)
        self._cache.pod_readings.put(job.uid, reading, at=started)
        return reading

    def _read_held(self, namespace: str, job: JobView) -> PodReading:
        """Returns the Job with what its queue says. It has no pods, and an event reports that it has been resumed: once
        the queue has said something, or is silent for long, nothing more is read."""
        self._cache.forget_pods(namespace, job.uid)
        now = self._times.monotonic()
        hold = self._holds.get(job.uid) or Hold(now)
        if hold.message or now - hold.since > SILENT_QUEUE_SECONDS:
            return PodReading(replace(job, queue_message=hold.message))
        if self._budget.is_spent:
            return PodReading(job, requeue_after=BUSY_SECONDS)
        with self._budget.spend():
            hold = replace(hold, message=self._read_queue_message(namespace, job.uid))
        self._holds.put(job.uid, hold)
        wait = None if hold.message else self._poll.starting
        return PodReading(replace(job, queue_message=hold.message), requeue_after=wait)

    def _read_queue_message(self, namespace: str, job_uid: str) -> str:
        for version in WORKLOADS:
            try:
                workloads = self._cluster.list_all(version, namespace, labels=f"{WORKLOAD_JOB_LABEL}={job_uid}")
            except Forbidden:
                # It makes a message better; the Job is resumed without them.
                logger.warning("may not read Workloads in %s", namespace)
                return ""
            if workloads:
                return queue_message(workloads[0])
        return ""

    def _is_settled(self, pods: tuple[PodView, ...]) -> bool:
        """Whether a stage is at work, so that little is to be learnt soon: a new one may be waiting for its store."""
        running = [pod for pod in pods if pod.phase is PodPhase.RUNNING]
        now = self._times.now()
        new = (pod for pod in running if pod.started and 0 <= (now - pod.started).total_seconds() < SILENT_SECONDS)
        return bool(running) and all(pod.progress is not None for pod in new)

    def _list(self, namespace: str, before: PodReading) -> tuple[str, tuple[PodView, ...]]:
        """Returns why the Job has no pod, and its pods. Warnings are those of `before` where no Events may be read."""
        job = before.job
        listed = self._cluster.list_all(PODS, namespace, labels=f"batch.kubernetes.io/job-name={job.name}")
        # Anybody may give that label to a pod.
        bodies = [pod for pod in listed if controller_of(pod, "Job").get("uid") == job.uid]
        if not bodies and not job.is_finished:
            return self._newest_warning(namespace, job.uid, job.create_error, reason="FailedCreate"), ()
        warnings = {pod.uid: pod.warning for pod in before.pods}
        details = (self._details(namespace, pod, warnings) for pod in bodies)
        pods = zip(bodies, details, strict=True)
        return "", tuple(view for pod, known in pods for view in pod_views(pod, job=job.name, details=known))

    def _details(self, namespace: str, pod: Body, warnings: Mapping[str, str]) -> PodDetails:
        """`warnings` are the last ones known, by the UID of the pod."""
        phase = (pod.get("status") or {}).get("phase")
        name, node = pod["metadata"]["name"], (pod.get("spec") or {}).get("nodeName")
        if node and may_be_lost(pod, now=self._times.now()) and (lost := self._lost(node)):
            return PodDetails(node_lost=lost)
        if (container := running_container(pod)) and speaks_for_job(pod):
            log = self._cluster.read_log_tail(namespace, name, container=container, lines=LOG_LINES)
            # A pod is never ready while an init container runs; a kubelet that is gone gives no log.
            lost = self._lost(node) if node and phase == "Pending" and not log else ""
            return PodDetails(log=log, node_lost=lost)
        if phase == "Pending" and node:
            uid = pod["metadata"]["uid"]
            return PodDetails(warning=self._newest_warning(namespace, uid, warnings.get(uid, "")))
        return PodDetails()

    def _lost(self, node: str) -> str:
        return lost_node(node, self._cluster.read(NODES, None, node))

    def _newest_warning(self, namespace: str, uid: str, known: str, *, reason: str = "") -> str:
        if self._events_budget.is_spent:
            return known
        try:
            with self._events_budget.spend():
                events = self._cluster.list_all(EVENTS, namespace, fields=f"involvedObject.uid={uid}")
        except Forbidden:
            # Events make a message better; without them the deadlines still hold.
            logger.warning("may not read Events in %s", namespace)
            return ""
        return newest_warning(events, reason=reason)


def _with_job(known: PodReading, job: JobView, *, requeue_after: float) -> PodReading:
    """Returns the reading with the Job as it is now. `create_error` stays, as it was read together with the pods."""
    return replace(known, job=replace(job, create_error=known.job.create_error), requeue_after=requeue_after)
