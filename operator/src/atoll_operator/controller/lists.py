"""Lists of runs and Jobs: at the start, at each re-sync, and after a watch may have missed events.

Each namespace costs a list of its runs and one of its Jobs, however many runs there are. A finished run is not
reconciled, unless something is due at it: thousands of them hold nobody up.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from atoll_operator.api.status import TERMINAL, Phase, parse_time
from atoll_operator.controller.cache import Cache, key_of
from atoll_operator.controller.job_cache import RunUid, is_unfinished, run_of
from atoll_operator.controller.queue import QueueManager
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import RUN_UID_LABEL
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.objects import JOBS, RUNS, resource_version
from atoll_operator.kube.transport import Body
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION
from atoll_operator.lifecycle.transition import MAX_RETRY_VALUE

# A run, and the seconds until something is due at it.
Due = tuple[Key, float]


@dataclass(slots=True)
class FinishedRun:
    """What of a finished run says when something is due at it."""

    key: Key
    jobs_expire: datetime
    expires: datetime | None
    # Whether something is due at once: a retry, or a Job that goes on.
    at_once: bool
    has_jobs: bool = False

    def add_job(self, job: Body) -> None:
        """Takes one of its Jobs."""
        self.has_jobs = self.has_jobs or "deletionTimestamp" not in job["metadata"]
        self.at_once = self.at_once or is_unfinished(job)

    def due(self, now: datetime) -> datetime | None:
        """Returns when the run has to be reconciled; None: not before something changes."""
        if self.at_once:
            return now
        moments = [self.expires] if self.expires else []
        return min([*moments, self.jobs_expire] if self.has_jobs else moments, default=None)


@dataclass
class Found:
    """The runs to reconcile now, and the finished ones at which something is due, now or later."""

    keys: list[Key] = field(default_factory=list)
    due: list[Due] = field(default_factory=list)


class RunLister:
    """Brings lists into the cache and the queue. For one thread at a time. The methods raise ClusterError."""

    def __init__(self, cluster: Cluster, cache: Cache, queue: QueueManager, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._now = now

    def list_all(self, namespace: str | None) -> Found:
        """Lists the runs of the namespace (None: of all) and their Jobs."""
        before = self._queue.keys()
        known = {key: self._cache.version(key) for key in before if namespace in (None, key[0])}
        keys, finished, is_older = [], {}, False
        for run in self._cluster.list_each(RUNS, namespace):
            key = key_of(run)
            version = known.pop(key, None)
            is_older = is_older or (version is not None and resource_version(run) < version[1])
            uid, is_over = run["metadata"]["uid"], (run.get("status") or {}).get("phase") in TERMINAL
            if not is_over or version != (uid, resource_version(run)):
                self._queue.observe(run)
                self._cache.put_run(run)
            if is_over:
                finished[key[0], uid] = _finished_run(run, self._now())
            else:
                keys.append(key)
        if is_older:
            # The server was restored from a backup since: nothing that is known of it holds.
            self._cache.clear()
        for key in known:
            # A run whose deletion was missed is read once more, and then forgotten.
            self._cache.invalidate(key)
        return Found([*keys, *known], self.list_jobs(namespace, finished))

    def list_jobs(self, namespace: str | None, finished: Mapping[RunUid, FinishedRun] | None = None) -> list[Due]:
        """Lists the Jobs of the unfinished runs that the cache has; returns the runs of `finished` that are due."""
        finished = finished or {}

        def unfinished_runs_jobs() -> Iterator[Body]:
            for job in self._cluster.list_each(JOBS, namespace, labels=RUN_UID_LABEL):
                over = finished.get(run_of(job) or ("", ""))
                if over is None:
                    yield job
                else:
                    over.add_job(job)
                    self._cache.put_job(job)

        self._cache.jobs.read_all(self._cache.unfinished(namespace), unfinished_runs_jobs)
        now = self._now()
        moments = ((run.key, run.due(now)) for run in finished.values())
        return [(key, max(0.0, (moment - now).total_seconds())) for key, moment in moments if moment is not None]


def _finished_run(run: Body, now: datetime) -> FinishedRun:
    status, policy = run["status"], run["spec"]["runPolicy"]
    ended = parse_time(status["completionTime"]) if status.get("completionTime") else now
    expiry = policy.get("ttlSecondsAfterFinished")
    retry = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION, "")[:MAX_RETRY_VALUE]
    return FinishedRun(
        key=key_of(run),
        jobs_expire=ended + timedelta(seconds=policy["jobTTLSecondsAfterFinished"]),
        expires=None if expiry is None else ended + timedelta(seconds=expiry),
        at_once=bool(retry) and retry != status.get("lastHandledRetry") and status["phase"] == Phase.FAILED,
    )
