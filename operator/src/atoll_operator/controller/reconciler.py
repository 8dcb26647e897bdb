"""One reconcile: read the run and what belongs to it, let `decide` make a plan, apply the plan, and repeat until
nothing more follows from the state.

Only the time of the next reconcile is remembered here; the cache has what is known of the cluster.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from atoll_contract.errors import Reason
from atoll_operator.api.status_codec import status_patch
from atoll_operator.config import Settings
from atoll_operator.controller.apply import Applier
from atoll_operator.controller.cache import Cache
from atoll_operator.controller.job_cache import own_jobs
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.observed import Observed, StateReader, parse_run, parse_status
from atoll_operator.controller.pods import BUSY_SECONDS
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import job_name
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.clock import TimeSource
from atoll_operator.kube.errors import ClusterError, Forbidden, Refused
from atoll_operator.kube.objects import EVENTS, RUNS, event_manifest, resource_version
from atoll_operator.lifecycle.conditions import with_conditions
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.inputs import run_view
from atoll_operator.lifecycle.model import JobView
from atoll_operator.lifecycle.plan import EventType, Plan, RunEvent

logger = logging.getLogger(__name__)

# Plans in one reconcile: each may make the next one possible. More than this would be a fault of `decide`.
MAX_PLANS = 20
# How often in a row a reconcile is deferred because the pod reader is busy: one minute in all.
MAX_DEFERRALS = 6
REPORT_EVERY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Requeue:
    """The state of a run when nothing more followed from it, and until when that holds (monotonic seconds; None: until
    something changes). Of a run that is over its Jobs are none of it."""

    version: tuple[str, int]
    jobs: frozenset[JobView]
    at: float | None
    # How often the reconcile that was due has been deferred.
    deferrals: int = 0


class Reconciler:
    """Called with a key by a worker, and by one worker at a time per key. `wake` has other keys reconciled and may be
    called from any thread."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: QueueManager,
        settings: Settings,
        *,
        metrics: OperatorMetrics,
        wake: Callable[[Iterable[Key]], None],
        times: TimeSource,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._settings = settings
        self._wake = wake
        self._times = times
        self._reader = StateReader(cluster, cache, settings, times)
        self._applier = Applier(cluster, cache, self._reader.refs, settings, metrics=metrics, times=times)
        self._refused_calls = RefusedCalls(cluster, cache, settings, times=times)
        self._requeues: dict[Key, Requeue] = {}

    def __call__(self, key: Key) -> float | None:
        """Returns the seconds until the run has to be reconciled again; None where only a change can matter.

        Raises:
            ClusterError: a call failed.
            NotLeader: this process may not write now.
        """
        try:
            requeue_after = self._reconcile(key)
        except ClusterError as error:
            self._cache.invalidate(key)
            if isinstance(error, Forbidden | Refused):
                self._refused_calls.report(key, error)
            raise
        if not self._refused_calls.clear(key):
            return requeue_after
        # The status still names the refusal: one more reconcile removes it.
        self._requeues.pop(key, None)
        return 0.0

    def _reconcile(self, key: Key) -> float | None:
        requeue = self._still_valid(key, self._requeues.pop(key, None))
        if requeue is not None:
            self._requeues[key] = requeue
            return None if requeue.at is None else requeue.at - self._times.monotonic()
        run = self._cache.run(key) or self._cluster.read(RUNS, *key)
        if run is None or "deletionTimestamp" in run["metadata"]:
            # Its Jobs are deleted with it, by their owner references.
            self._cache.forget(key)
            self._wake(self._queue.forget(key))
            return None
        self._cache.put_run(run)
        observed = self._reader.read(run)
        for _ in range(MAX_PLANS):
            before = observed.run
            plan = self._decide(observed)
            if plan.reserve and observed.releases is None:
                observed = self._reader.with_releases(observed)
                continue
            observed = self._applier.apply(observed, plan)
            self._cache.put_run(observed.run)
            # Only now, as the run goes on where its status could not be written.
            self._wake(self._queue.record(observed.run, plan.status))
            if _are_jobs_created(observed, plan) or (observed.run is before and not _wants_another_plan(plan)):
                # 0 would be another plan at once, which those Jobs do not need yet.
                waits = (plan.requeue_after or None, observed.pods_requeue_after)
                requeue_after = min((wait for wait in waits if wait is not None), default=None)
                self._remember(key, observed, plan, requeue_after)
                return requeue_after
        logger.error("there was still another plan after %d in one reconcile", MAX_PLANS, extra={"run": "/".join(key)})
        return 1.0

    def _decide(self, observed: Observed) -> Plan:
        # No other worker may take a slot between the position in the queue and the decision to start.
        with self._queue.lock:
            now = self._times.now()
            view = replace(
                observed.view(self._queue, now=now),
                blocked=self._refused_calls.message(observed.key),
                retries=self._settings.retries,
                poll=self._settings.poll,
            )
            plan = decide(view, observed.jobs, observed.pods, now)
            self._queue.claim(observed.run, plan.status)
            return plan

    def _still_valid(self, key: Key, requeue: Requeue | None) -> Requeue | None:
        """Returns the requeue that the run still has; None where it has to be reconciled now.

        While the pod reader is busy, a reconcile that could not read any pods is deferred.
        """
        if requeue is None or self._has_changed(key, requeue):
            return None
        now = self._times.monotonic()
        if requeue.at is None or now < requeue.at:
            return requeue
        at_work = any(not job.is_finished for job in requeue.jobs)
        if at_work and requeue.deferrals < MAX_DEFERRALS and self._reader.pods.is_busy:
            return replace(requeue, at=now + BUSY_SECONDS, deferrals=requeue.deferrals + 1)
        return None

    def _has_changed(self, key: Key, requeue: Requeue) -> bool:
        """Most events are about the operator's own writes or the counters of a Job, and change nothing."""
        if self._cache.version(key) != requeue.version:
            return True
        run = self._cache.run(key)
        run_uid = (key[0], requeue.version[0])
        if run is None:
            return self._cache.is_outlived(run_uid)
        jobs = self._cache.jobs.get(run_uid)
        return jobs is None or frozenset(own_jobs(run, jobs)) != requeue.jobs

    def _remember(self, key: Key, observed: Observed, plan: Plan, requeue_after: float | None) -> None:
        """A run that waits for others, or that is over before its Jobs, is reconciled at each event instead."""
        version, status = self._cache.version(key), plan.status
        ended = status.is_terminal and all(job.is_finished or job.deleting for job in observed.jobs)
        if ended:
            # Nothing else leads back to it: a retry that came meanwhile must not count as reconciled.
            version = (observed.ref.uid, resource_version(observed.run))
        if version is None or plan.delete_run or not (status.active_since or ended):
            return
        jobs = frozenset() if ended else frozenset(_as_cached(job) for job in observed.jobs)
        at = None if requeue_after is None else self._times.monotonic() + requeue_after
        self._requeues[key] = Requeue(version, jobs, at)


def _as_cached(job: JobView) -> JobView:
    """Returns the view without what other objects say about the Job."""
    return replace(job, create_error="", queue_message="")


def _are_jobs_created(observed: Observed, plan: Plan) -> bool:
    """Returns whether the plan created Jobs and all of them are there. Their creation is then recorded together with
    the first reading of their pods, or with their end, which saves a write."""
    ref = observed.ref
    wanted = {job_name(ref.name, ref.uid, item.stage, item.attempt, target=item.target) for item in plan.create}
    there = {job.name for job in observed.jobs if job.owner_uid == ref.uid and not job.is_finished}
    return bool(wanted) and wanted <= there and not observed.problem


def _wants_another_plan(plan: Plan) -> bool:
    return not plan.delete_run and (bool(plan.create or plan.reserve) or plan.requeue_after == 0)


class RefusedCalls:
    """Reports at a run, by status and Event, that the operator lacks a right or that the API server does not accept an
    object (its schema, an admission policy), as far as those can still be written.

    The refused reconcile is repeated with growing waits. The error is reported once and again every ten minutes, and
    the first reconcile that succeeds clears it. For several threads, as no two have the same run.
    """

    def __init__(self, cluster: Cluster, cache: Cache, settings: Settings, *, times: TimeSource) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._times = times

    def message(self, key: Key) -> str:
        """Returns what the operator was refused at this run; empty if nothing."""
        return self._cache.blocked.get(key, ("", 0.0))[0]

    def clear(self, key: Key) -> bool:
        """Called when a reconcile succeeded; returns whether the run was blocked before."""
        return self._cache.blocked.pop(key, None) is not None

    def report(self, key: Key, error: Forbidden | Refused) -> None:
        what = "forbidden: the operator may not" if isinstance(error, Forbidden) else "refused by the API server:"
        text, now = f"{what} {error}", self._times.monotonic()
        known, reported_at = self._cache.blocked.get(key, ("", 0.0))
        if known == text and now - reported_at < REPORT_EVERY_SECONDS:
            return
        self._cache.blocked[key] = (text, now)
        # Each of the two may be forbidden by itself.
        for write in (self._write_status, self._write_event):
            try:
                write(key, text)
            except ClusterError as failure:
                logger.warning("the error cannot be reported at the run: %s", failure, extra={"run": "/".join(key)})

    def _write_status(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        status = parse_status(run) if run else None
        if run is None or status is None:
            # The first status holds more than this; the first reconcile that is not refused writes it.
            return
        view = replace(run_view({**run, "status": None}, parse_run(run)[0]), blocked=text)
        patch = status_patch(run["status"], status, with_conditions(view, status, self._times.now()))
        if patch:
            body = {"metadata": {"resourceVersion": run["metadata"]["resourceVersion"]}, "status": patch}
            self._cluster.patch_status(RUNS, *key, body)

    def _write_event(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        if run is not None:
            event = RunEvent(EventType.WARNING, str(Reason.INTERNAL_ERROR), text)
            identity, docs_url = self._settings.identity, self._settings.docs_url
            manifest = event_manifest(run, event, now=self._times.now(), instance=identity, docs_url=docs_url)
            self._cluster.create(EVENTS, key[0], manifest)
