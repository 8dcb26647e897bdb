"""The operator's process apart from kopf: workers, watches, the Lease, and the re-sync that makes up for missed events.

Keys of runs get into the work queue in three ways: events of TrainingRuns, events of their Jobs, and the lists of
`resync.py`. All watches are the operator's own (`kube/watch.py`).
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from atoll_operator.api.status import Phase
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache, key_of
from atoll_operator.controller.lists import RunLister
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.profile_snapshots import SnapshotSweep, sweep_snapshots
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.reconciler import Reconciler
from atoll_operator.controller.resync import Resync
from atoll_operator.controller.sweeps import SweepReconciler
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.health import READY_PATH, ApiReach, serve_pages
from atoll_operator.jobs.manifest import RUN_LABEL, RUN_UID_LABEL
from atoll_operator.kube.client import Cluster, connect
from atoll_operator.kube.clock import ServerClock, TimeSource
from atoll_operator.kube.errors import ClusterError, Conflict
from atoll_operator.kube.lease import Lease, NotLeader
from atoll_operator.kube.objects import JOBS, PODS, RUNS, SWEEPS
from atoll_operator.kube.transport import Body
from atoll_operator.kube.watch import ADDED, MODIFIED, Watcher, WatchSpec, WatchTiming

logger = logging.getLogger(__name__)

# Reconciles one run and returns the seconds until the next time; None: only a change can matter.
Reconcile = Callable[[Key], float | None]

# How soon keys are handed out again that came up while another process leads; they cost nothing.
STANDBY_SECONDS = 5.0
# Before the list of Jobs is tried again without which nothing may be decided.
TAKE_OVER_RETRY_SECONDS = 1.0
# How long a reconcile in progress may take when the process has to stop.
STOP_SECONDS = 10.0


class Manager:
    """One operator. Make it inside the event loop; `run` ends only by cancellation or by an exception."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.metrics = OperatorMetrics()
        self._reach = ApiReach(time.monotonic)
        self._now = ServerClock()
        self._lease = Lease(
            self._connect(),
            settings.own_namespace,
            settings.lease_name,
            identity=settings.identity,
            timing=settings.lease,
            clock=time.monotonic,
        )
        # One connection for each worker and one for the re-sync.
        self._cluster = self._connect(connections=settings.workers + 1, fence=self._lease.require)
        self._cache, self._queue = Cache(), QueueManager()
        self._work = WorkQueue(clock=self._loop.time)
        self.events = EventHandlers(self._cache, self._queue, metrics=self.metrics, wake=self._wake)
        self._reconciler = Reconciler(
            self._cluster,
            self._cache,
            self._queue,
            settings,
            metrics=self.metrics,
            wake=self._wake,
            times=TimeSource(now=self._now),
        )
        self._resync = Resync(
            RunLister(self._cluster, self._cache, self._queue, self._now),
            namespaces=settings.namespaces,
            every=settings.resync,
            add=lambda key, delay: self._work.add(key, delay=delay),
            metrics=self.metrics,
        )
        self._sweeps = SweepReconciler(self._cluster, settings, metrics=self.metrics, now=self._now)
        self._sweep_work = WorkQueue(clock=self._loop.time)
        self._leading = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        # Gets an exception where a watch can never work.
        self._watches: asyncio.Future[None] = self._loop.create_future()
        self._executor = ThreadPoolExecutor(settings.workers, thread_name_prefix="worker")
        self._stopped = False

    async def run(self) -> None:
        """Leads or stands by, works, and re-syncs. Raises what one of its tasks raised."""
        self._serve_metrics()
        self._start_watches()
        leading, every = self._leading, self._settings.resync
        own_namespace, in_use = self._settings.own_namespace, self._queue.snapshots_in_use
        sweep = SnapshotSweep(self._cluster, own_namespace=own_namespace, in_use=in_use)
        async with self._tasks as tasks:
            tasks.create_task(self._until_given_up())
            tasks.create_task(self._resync.run())
            # Before the first list, the positions in the queue are not known.
            await self._resync.synced.wait()
            tasks.create_task(self._lease.keep(self._on_leadership))
            tasks.create_task(sweep_snapshots(sweep, leading=leading, every=every))
            tasks.create_task(
                work(self._sweep_work, self._sweeps, leading=leading, executor=self._executor, metrics=self.metrics)
            )
            for _ in range(self._settings.workers):
                tasks.create_task(
                    work(self._work, self._reconciler, leading=leading, executor=self._executor, metrics=self.metrics)
                )

    async def stop(self) -> None:
        """Stops writing, waits for reconciles in progress, and gives the Lease up. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._lease.drop()
        shutdown = self._loop.run_in_executor(None, partial(self._executor.shutdown, cancel_futures=True))
        try:
            await asyncio.wait_for(shutdown, STOP_SECONDS)
        except TimeoutError:
            logger.warning("a reconcile did not end within %.0f s", STOP_SECONDS)
        await asyncio.to_thread(self._lease.release)

    def _start_watches(self) -> None:
        settings, events, namespaces = self._settings, self.events, self._resync.namespaces
        # One connection for each watch.
        cluster = self._connect(connections=4 * len(namespaces))
        for namespace in namespaces:
            missed = partial(self._resync.request, namespace)
            specs = (
                WatchSpec(RUNS, namespace, events.on_run_line, on_start=missed),
                WatchSpec(JOBS, namespace, events.on_job_event, labels=RUN_UID_LABEL, on_start=missed),
                WatchSpec(PODS, namespace, events.on_pod_event, labels=RUN_UID_LABEL, fields="status.phase=Succeeded"),
                WatchSpec(SWEEPS, namespace, self._on_sweep_line, on_start=partial(self._list_sweeps, namespace)),
            )
            for spec in specs:
                Watcher(cluster, spec, WatchTiming(settings.watch_silence), give_up=self._give_up).start()

    def _on_sweep_line(self, line: bytes) -> None:
        """Called from the thread of the watch."""
        metadata = json.loads(line)["object"]["metadata"]
        self._wake_sweeps([(metadata["namespace"], metadata["name"])])

    def _list_sweeps(self, namespace: str | None) -> None:
        found = self._cluster.list_each(SWEEPS, namespace)
        self._wake_sweeps([(body["metadata"]["namespace"], body["metadata"]["name"]) for body in found])

    def _wake_sweeps(self, keys: Iterable[Key]) -> None:
        with contextlib.suppress(RuntimeError):
            for key in keys:
                self._loop.call_soon_threadsafe(self._sweep_work.add, key)

    async def _until_given_up(self) -> None:
        await self._watches

    def _give_up(self, error: Exception) -> None:
        """Called from the thread of a watch."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_fail, self._watches, error)

    def _on_leadership(self, leads: bool) -> None:
        self.metrics.leader.set(leads)
        if leads:
            self._tasks.create_task(self._take_over())
        else:
            self._leading.clear()

    async def _take_over(self) -> None:
        """Lists the Jobs before anything is decided: the leader before may have created one that no watch has reported
        yet. A status that is old is no danger, because a patch names its version."""
        while self._lease.held:
            if await self._resync.list_jobs() and self._lease.held:
                self._leading.set()
                return
            await asyncio.sleep(TAKE_OVER_RETRY_SECONDS)

    def _connect(self, *, connections: int = 4, fence: Callable[[], None] = lambda: None) -> Cluster:
        return connect(
            connections=connections,
            timeout_seconds=self._settings.request_timeout,
            fence=fence,
            observe=self._observe_call,
            clock=self._now,
        )

    def _observe_call(self, method: str, resource: str, status: int, seconds: float) -> None:
        self.metrics.observe_call(method, resource, status, seconds)
        self._reach.observe(status)

    def _not_ready(self) -> str:
        """A `Probe`. A process that waits for the Lease of one that is gone serves nobody."""
        if self._lease.held or self._lease.stands_by:
            return ""
        holder = self._lease.holder or "nobody yet"
        return self._reach.problem() or f"no operator is at work: the Lease is held by {holder}, who does not renew it"

    def _wake(self, keys: Iterable[Key]) -> None:
        """Adds keys from any thread. Runs at work go ahead of those that have yet to begin: where very many begin at
        once, no pod's end waits for all of them."""
        added = [(key, self._queue.is_at_work(key)) for key in keys]
        # A watch may report something while the process ends and its loop is closed.
        with contextlib.suppress(RuntimeError):
            if added:
                self._loop.call_soon_threadsafe(self._add, added)

    def _add(self, keys: Iterable[tuple[Key, bool]]) -> None:
        for key, ahead in keys:
            self._work.add(key, ahead=ahead)

    def _serve_metrics(self) -> None:
        for phase in Phase:
            self.metrics.runs.labels(str(phase)).set_function(partial(self._queue.count, phase))
        self.metrics.queue_depth.set_function(lambda: len(self._work) + len(self._sweep_work))
        if self._settings.metrics_port:
            serve_pages(self._settings.metrics_port, {READY_PATH: self._not_ready}, self.metrics.registry)


class EventHandlers:
    """Bring events into the cache and the queue. For any thread. `wake` has the runs with these keys reconciled."""

    def __init__(
        self,
        cache: Cache,
        queue: QueueManager,
        *,
        metrics: OperatorMetrics,
        wake: Callable[[Iterable[Key]], None],
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._metrics = metrics
        self._wake = wake

    def on_run_line(self, line: bytes) -> None:
        """`line` is one of the watch of runs."""
        self._metrics.on_event()
        if line.startswith(MODIFIED) and self._cache.is_own_write(line):
            return
        event = json.loads(line)
        self.on_run_event(event["type"], event["object"])

    def on_run_event(self, kind: str, run: Body) -> None:
        """`kind` is that of the watch event."""
        key, uid = key_of(run), run["metadata"]["uid"]
        if kind == "DELETED":
            self._cache.forget(key, uid=uid)
            self._wake([*self._queue.forget(key, uid=uid), key])
        # Where the version is not new, it is the operator's own write, or an older event.
        elif self._cache.put_run(run):
            self._wake(self._queue.observe(run))
            if kind == "ADDED" and not run.get("status"):
                # It was created just now: a list of its Jobs would bring nothing.
                self._cache.jobs.put_none((key[0], uid))
            self._wake([key])

    def on_job_event(self, line: bytes) -> None:
        """`line` is one of the watch of Jobs with a run's UID in their labels."""
        self._metrics.on_event()
        if not self._cache.jobs.may_matter(line):
            return
        event = json.loads(line)
        job = event["object"]
        name = job["metadata"]["labels"].get(RUN_LABEL)
        if self._cache.put_job(job, deleted=event["type"] == "DELETED") and name:
            self._wake([(job["metadata"]["namespace"], name)])

    def on_pod_event(self, line: bytes) -> None:
        """`line` is one of the watch of pods that succeeded. Later changes of such a pod say nothing new."""
        if line.startswith(ADDED):
            self._cache.put_succeeded_pod(json.loads(line)["object"])


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def work(
    queue: WorkQueue, reconcile: Reconcile, *, leading: asyncio.Event, executor: Executor, metrics: OperatorMetrics
) -> None:
    """One worker, of which any number may run: calls `reconcile` in a thread of `executor` for each key that is due,
    while `leading` is set."""
    while True:
        await leading.wait()
        key = await queue.get()
        with metrics.reconcile_seconds.time():
            outcome = await _work_on(key, queue, partial(reconcile, key), executor)
        metrics.reconciles.labels(outcome).inc()


async def _work_on(key: Key, queue: WorkQueue, reconcile: Callable[[], float | None], executor: Executor) -> str:
    """Returns the outcome as the metric counts it."""
    run = {"run": "/".join(key)}
    try:
        requeue_after = await asyncio.get_running_loop().run_in_executor(executor, reconcile)
    except NotLeader as error:
        logger.info("left alone: %s", error, extra=run)
        queue.done(key, requeue_after=STANDBY_SECONDS)
        return "standby"
    except ClusterError as error:
        delay = queue.failed(key, min_delay=error.retry_after)
        level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
        logger.log(level, "%s; next try in %.1f s", error, delay, extra=run)
        return "conflict" if isinstance(error, Conflict) else "unavailable"
    except Exception:
        delay = queue.failed(key)
        logger.exception("a fault in the operator; next try in %.1f s", delay, extra=run)
        return "fault"
    queue.done(key, requeue_after=requeue_after)
    return "done"
