"""The operator's process apart from kopf: workers, watches, the Lease, and the re-sync that makes up for missed events.

Keys of runs get into the work queue in three ways: events of TrainingRuns from kopf (`main.py`), events of Jobs from
the operator's own watch, and the list of all runs at each re-sync. Jobs and succeeded pods are not watched by kopf,
because their events come in thousands and kopf parses, copies and schedules each of them (`kube/watch.py`).
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from prometheus_client import start_http_server

from atoll_operator.api.status import Phase
from atoll_operator.config import Settings
from atoll_operator.controller.cache import Cache, key_of
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.profile_snapshots import SnapshotSweep, sweep_snapshots
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.reconciler import Reconciler
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.jobs.manifest import RUN_LABEL, RUN_UID_LABEL
from atoll_operator.kube.client import Body, Cluster, connect
from atoll_operator.kube.clock import ServerClock, TimeSource
from atoll_operator.kube.errors import ClusterError, Conflict
from atoll_operator.kube.lease import Lease, NotLeader
from atoll_operator.kube.objects import JOBS, PODS, RUNS
from atoll_operator.kube.watch import ADDED, Watcher, WatchSpec, WatchTiming

logger = logging.getLogger(__name__)

# Reconciles one run and returns the seconds until the next time; None: only a change can matter.
Reconcile = Callable[[Key], float | None]

# How soon keys are handed out again that came up while another process leads; they cost nothing.
STANDBY_SECONDS = 5.0
# How long a reconcile in progress may take when the process has to stop.
STOP_SECONDS = 10.0


class Manager:
    """One operator. Make it inside the event loop; `run` ends only by cancellation or by an exception."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.metrics = OperatorMetrics()
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
        self.events = EventHandlers(
            self._cluster,
            self._cache,
            self._queue,
            namespaces=settings.namespaces,
            metrics=self.metrics,
            wake=self._wake,
        )
        self._reconciler = Reconciler(
            self._cluster,
            self._cache,
            self._queue,
            settings,
            metrics=self.metrics,
            wake=self._wake,
            times=TimeSource(now=self._now),
        )
        self._leading, self._synced = asyncio.Event(), asyncio.Event()
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
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._until_given_up())
            tasks.create_task(self._resync(every))
            # Before the first list, the positions in the queue are not known.
            await self._synced.wait()
            tasks.create_task(self._lease.keep(self._on_leadership))
            tasks.create_task(sweep_snapshots(sweep, leading=leading, every=every))
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

    async def _resync(self, every: float) -> None:
        while True:
            try:
                keys = await asyncio.to_thread(self.events.list_keys)
            except ClusterError as error:
                logger.warning("re-sync: %s", error)
                await asyncio.sleep(min(every, 5.0))
                continue
            self._add(keys)
            self.metrics.on_event()
            self._synced.set()
            await asyncio.sleep(every)

    def _start_watches(self) -> None:
        settings, events, succeeded = self._settings, self.events, "status.phase=Succeeded"
        namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        # One connection for each watch.
        cluster = self._connect(connections=2 * len(namespaces))
        for namespace in namespaces:
            jobs = WatchSpec(JOBS, namespace, events.on_job_event, labels=RUN_UID_LABEL, on_start=events.on_jobs_missed)
            pods = WatchSpec(PODS, namespace, events.on_pod_event, labels=RUN_UID_LABEL, fields=succeeded)
            for spec in (jobs, pods):
                Watcher(cluster, spec, WatchTiming(settings.watch_silence), give_up=self._give_up).start()

    async def _until_given_up(self) -> None:
        await self._watches

    def _give_up(self, error: Exception) -> None:
        """Called from the thread of a watch."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_fail, self._watches, error)

    def _on_leadership(self, leads: bool) -> None:
        self.metrics.leader.set(leads)
        self._cache.clear()
        if leads:
            self._leading.set()
        else:
            self._leading.clear()

    def _connect(self, *, connections: int = 4, fence: Callable[[], None] = lambda: None) -> Cluster:
        return connect(
            connections=connections,
            timeout_seconds=self._settings.request_timeout,
            fence=fence,
            observe=self.metrics.observe_call,
            clock=self._now,
        )

    def _wake(self, keys: Iterable[Key]) -> None:
        """Adds keys from any thread."""
        added = list(keys)
        # A watch may report something while the process ends and its loop is closed.
        with contextlib.suppress(RuntimeError):
            if added:
                self._loop.call_soon_threadsafe(self._add, added)

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._work.add(key)

    def _serve_metrics(self) -> None:
        for phase in Phase:
            self.metrics.runs.labels(str(phase)).set_function(partial(self._count, phase))
        if self._settings.metrics_port:
            start_http_server(self._settings.metrics_port, registry=self.metrics.registry)

    def _count(self, phase: Phase) -> float:
        return float(self._queue.phases()[str(phase)])


class EventHandlers:
    """Bring events and lists into the cache and the queue. For any thread; only `list_keys` calls the API server.
    `wake` has the runs with these keys reconciled."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: QueueManager,
        *,
        namespaces: tuple[str, ...],
        metrics: OperatorMetrics,
        wake: Callable[[Iterable[Key]], None],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._namespaces = namespaces
        self._metrics = metrics
        self._wake = wake

    def on_run_event(self, kind: str | None, run: Body) -> None:
        """`kind` is that of the watch event; None for a run from kopf's list before the watch."""
        self._metrics.on_event()
        key, uid = key_of(run), run["metadata"]["uid"]
        if kind == "DELETED":
            self._cache.forget(key, uid=uid)
            self._wake([*self._queue.forget(key), key])
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

    def on_jobs_missed(self) -> None:
        """Called when events of Jobs may have been missed: all runs are reconciled, with their Jobs read live."""
        self._cache.jobs.clear()
        self._wake(self._queue.keys())

    def on_pod_event(self, line: bytes) -> None:
        """`line` is one of the watch of pods that succeeded. Later changes of such a pod say nothing new."""
        if line.startswith(ADDED):
            self._cache.put_succeeded_pod(json.loads(line)["object"])

    def list_keys(self) -> list[Key]:
        """Lists all runs anew. Raises ClusterError."""
        self._cache.clear()
        namespaces: Iterable[str | None] = self._namespaces or (None,)
        listed = []
        for namespace in namespaces:
            for run in self._cluster.list_each(RUNS, namespace):
                self._queue.observe(run)
                # As good as a read: its reconcile lists the Jobs, and reads nothing where the run was over before.
                self._cache.put_run(run)
                listed.append(key_of(run))
            # Those that are not over, and a few more. Only for these is a finished run reconciled.
            for job in self._cluster.list_each(JOBS, namespace, labels=RUN_UID_LABEL, fields="status.successful=0"):
                self._cache.put_job(job)
        # A run whose deletion was missed is reconciled too, and then forgotten.
        return list(dict.fromkeys([*listed, *self._queue.keys()]))


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
        metrics.queue_depth.set(len(queue))
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
