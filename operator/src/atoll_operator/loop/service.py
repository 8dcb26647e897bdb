"""The operator's parts, put together: what runs beside the watches of `main.py`."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from prometheus_client import start_http_server

from atoll_operator.config import Settings
from atoll_operator.jobs.manifest import RUN_LABEL, RUN_UID_LABEL
from atoll_operator.kube.cluster import Body
from atoll_operator.kube.connection import connect
from atoll_operator.kube.lease import Lease
from atoll_operator.kube.lease_object import LeaseObject
from atoll_operator.kube.resources import JOBS, RUNS
from atoll_operator.kube.server_clock import ServerClock
from atoll_operator.kube.watching import Watched, Watching
from atoll_operator.loop.carry_out import Carrier
from atoll_operator.loop.hindrances import Hindrances
from atoll_operator.loop.look import Looker
from atoll_operator.loop.metrics import Metrics
from atoll_operator.loop.pod_ends import PodEnds
from atoll_operator.loop.pod_reader import PodReader
from atoll_operator.loop.reconcile import Reconciler
from atoll_operator.loop.run_index import RunIndex
from atoll_operator.loop.surroundings import Surroundings
from atoll_operator.loop.watch_cache import WatchCache
from atoll_operator.loop.work_queue import Key, WorkQueue
from atoll_operator.loop.worker import Workers, resync
from atoll_operator.profiles.snapshot_sweep import SnapshotSweep, keep_swept
from atoll_operator.status import Phase

logger = logging.getLogger(__name__)

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
