"""What turns keys of the work queue into looks at runs: workers, and the re-sync that heals missed events."""

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
from atoll_operator.controller.apply import Carrier
from atoll_operator.controller.cache import PodEnds, WatchCache
from atoll_operator.controller.metrics import Metrics
from atoll_operator.controller.observed import Looker, Surroundings
from atoll_operator.controller.pods import PodReader
from atoll_operator.controller.profile_snapshots import SnapshotSweep, keep_swept
from atoll_operator.controller.queue import RunIndex
from atoll_operator.controller.reconciler import Hindrances, Reconciler
from atoll_operator.controller.workqueue import Key, WorkQueue
from atoll_operator.jobs.manifest import RUN_LABEL, RUN_UID_LABEL
from atoll_operator.kube.client import Body, connect
from atoll_operator.kube.clock import ServerClock
from atoll_operator.kube.errors import ClusterError, Conflict
from atoll_operator.kube.lease import Lease, LeaseObject, NotLeader
from atoll_operator.kube.objects import JOBS, RUNS
from atoll_operator.kube.watch import Watched, Watching

logger = logging.getLogger(__name__)

# Looks at one run and says in how many seconds to look again; None: only a change can matter.
Reconcile = Callable[[Key], float | None]

# How soon to look again at keys that came up while another process leads; they cost nothing.
STANDBY_SECONDS = 5.0


class Workers:
    """Runs `reconcile` for each key that is due, in threads of `executor`, while `leading` is set."""

    def __init__(
        self, queue: WorkQueue, reconcile: Reconcile, *, leading: asyncio.Event, executor: Executor, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._leading = leading
        self._executor = executor
        self._metrics = metrics

    async def work(self) -> None:
        """One worker; any number of these may run at once."""
        loop = asyncio.get_running_loop()
        while True:
            await self._leading.wait()
            key = await self._queue.get()
            self._metrics.queue_depth.set(len(self._queue))
            with self._metrics.reconcile_seconds.time():
                outcome = await self._handle(loop, key)
            self._metrics.reconciles.labels(outcome).inc()

    async def _handle(self, loop: asyncio.AbstractEventLoop, key: Key) -> str:
        run = {"run": "/".join(key)}
        try:
            again_after = await loop.run_in_executor(self._executor, self._reconcile, key)
        except NotLeader as error:
            logger.info("left alone: %s", error, extra=run)
            self._queue.done(key, again_after=STANDBY_SECONDS)
            return "standby"
        except ClusterError as error:
            delay = self._queue.failed(key, at_least=error.retry_after)
            level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
            logger.log(level, "%s; next try in %.1f s", error, delay, extra=run)
            return "conflict" if isinstance(error, Conflict) else "unavailable"
        except Exception:
            delay = self._queue.failed(key)
            logger.exception("a fault in the operator; next try in %.1f s", delay, extra=run)
            return "fault"
        self._queue.done(key, again_after=again_after)
        return "done"


async def resync(
    queue: WorkQueue, list_keys: Callable[[], Iterable[Key]], *, every: float, synced: asyncio.Event, metrics: Metrics
) -> None:
    """Adds all keys, at once and then every so many seconds; `synced` is set after the first time."""
    while True:
        try:
            keys = list(await asyncio.to_thread(list_keys))
        except ClusterError as error:
            logger.warning("re-sync: %s", error)
            await asyncio.sleep(min(every, 5.0))
            continue
        for key in keys:
            queue.add(key)
        metrics.heard()
        synced.set()
        await asyncio.sleep(every)


# How long a look in progress may take to its end when the process is told to stop.
STOP_SECONDS = 10.0


class Service:
    """One operator. Make it inside the event loop; `run` ends only by cancellation or by a fault."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        timeout, observe = settings.request_timeout, self.metrics.observe_call
        self._clock = ServerClock()
        unfenced = connect(timeout_seconds=timeout, observe=observe, clock=self._clock)
        lease_object = LeaseObject(unfenced, namespace=settings.own_namespace, name=settings.lease_name)
        self._lease = Lease(lease_object, identity=settings.identity, timing=settings.lease, clock=time.monotonic)
        self._cluster = connect(
            # One for each worker and one for the re-sync.
            connections=settings.workers + 1,
            timeout_seconds=timeout,
            observe=observe,
            fence=self._lease.require,
            clock=self._clock,
        )
        self._index = RunIndex()
        self._cache = WatchCache()
        self._ends = PodEnds()
        self._queue = WorkQueue(clock=self._loop.time)
        self._leading, self._synced = asyncio.Event(), asyncio.Event()
        self._executor = ThreadPoolExecutor(settings.workers, thread_name_prefix="worker")
        self._reconciler = self._build_reconciler()
        self._sweep = SnapshotSweep(self._cluster, own_namespace=settings.own_namespace, named=self._index.revisions)
        self._stopped = False

    def run_changed(self, kind: str | None, run: Body) -> None:
        """A watch event of a TrainingRun; `kind` is None for what a first list brings."""
        self.metrics.heard()
        key = (run["metadata"]["namespace"], run["metadata"]["name"])
        if kind == "DELETED":
            self._cache.delete(run)
            self._add(self._index.forget(key))
        elif not self._cache.keep_run(run):
            # What the operator wrote itself, or older.
            return
        else:
            self._index.observe(run)
            if kind == "ADDED" and not run.get("status"):
                # Made just now: a list would bring nothing.
                self._cache.keep_jobs(run["metadata"]["uid"], ())
        self._queue.add(key)

    def job_told(self, line: bytes) -> None:
        """A line of the watch of Jobs with a run's labels, from any thread."""
        self.metrics.heard()
        if not self._cache.may_matter(line):
            return
        event = json.loads(line)
        job = event["object"]
        labels = job["metadata"]["labels"]
        news = self._cache.keep_job(labels[RUN_UID_LABEL], job, deleted=event["type"] == "DELETED")
        # Only a label tells whose it is; whether that is true is the look's to find out.
        if news and RUN_LABEL in labels:
            self._wake([(job["metadata"]["namespace"], labels[RUN_LABEL])])

    async def run(self) -> None:
        """Leads or stands by, works, and re-syncs. Raises what one of its tasks raised."""
        self._serve_metrics()
        workers = Workers(
            self._queue, self._reconciler, leading=self._leading, executor=self._executor, metrics=self.metrics
        )
        every = self._settings.resync
        self._watch()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                resync(self._queue, self._list_keys, every=every, synced=self._synced, metrics=self.metrics)
            )
            # The queue of a fresh process knows nobody's place before the first list.
            await self._synced.wait()
            tasks.create_task(self._lease.keep(self._lead))
            tasks.create_task(keep_swept(self._sweep, leading=self._leading, every=every))
            for _ in range(self._settings.workers):
                tasks.create_task(workers.work())

    async def stop(self) -> None:
        """Stops writing, lets looks in progress come to their end, gives the Lease up. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._lease.drop()
        ending = self._loop.run_in_executor(None, partial(self._executor.shutdown, cancel_futures=True))
        try:
            await asyncio.wait_for(ending, STOP_SECONDS)
        except TimeoutError:
            logger.warning("a look at a run did not end within %.0f s", STOP_SECONDS)
        await asyncio.to_thread(self._lease.release)

    def _build_reconciler(self) -> Reconciler:
        settings, cluster = self._settings, self._cluster
        surroundings = Surroundings(cluster, own_namespace=settings.own_namespace)
        cache, pods = self._cache, PodReader(cluster, settings, now=self._clock, ends=self._ends)
        looker = Looker(cluster, surroundings, pods, cache)
        carrier = Carrier(cluster, surroundings, settings, cache=cache, metrics=self.metrics, clock=self._clock)
        return Reconciler(
            cluster,
            looker,
            carrier,
            self._index,
            pods=pods,
            cache=cache,
            hindrances=Hindrances(cluster, identity=settings.identity, now=self._clock),
            wake=self._wake,
            retries=settings.retries,
            poll=settings.poll,
            clock=self._clock,
        )

    def _watch(self) -> None:
        settings = self._settings
        namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        cluster = connect(
            # One for each watch.
            connections=2 * len(namespaces),
            timeout_seconds=settings.request_timeout,
            observe=self.metrics.observe_call,
        )
        for namespace in namespaces:
            jobs = Watched(JOBS, namespace, self.job_told, labels=RUN_UID_LABEL, begin=self._jobs_missed)
            for watched in (jobs, self._ends.watched(namespace)):
                Watching(cluster, watched, silence=settings.watch_silence).start()

    def _jobs_missed(self) -> None:
        """What happened to Jobs may not have been told: their runs are looked at."""
        self._cache.clear_jobs()
        self._wake(self._index.keys())

    def _lead(self, leads: bool) -> None:
        self.metrics.leader.set(leads)
        self._cache.clear()
        if leads:
            self._leading.set()
        else:
            self._leading.clear()

    def _list_keys(self) -> list[Key]:
        self._cache.clear()
        namespaces: Iterable[str | None] = self._settings.namespaces or (None,)
        listed = []
        for namespace in namespaces:
            for run in self._cluster.list_each(RUNS, namespace):
                self._index.observe(run)
                # As good as a read: a look then reads the Jobs anew, and nothing where the run has long been over.
                self._cache.keep_run(run)
                listed.append((run["metadata"]["namespace"], run["metadata"]["name"]))
        # A run whose deletion was missed is looked at as well, and then forgotten.
        return list(dict.fromkeys([*listed, *self._index.keys()]))

    def _wake(self, keys: Iterable[Key]) -> None:
        # A watch may have something to tell while the process ends and its loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._add, list(keys))

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key)

    def _serve_metrics(self) -> None:
        for phase in Phase:
            self.metrics.runs.labels(str(phase)).set_function(partial(self._count, phase))
        if self._settings.metrics_port:
            start_http_server(self._settings.metrics_port, registry=self.metrics.registry)

    def _count(self, phase: Phase) -> float:
        return float(self._index.phases()[str(phase)])
