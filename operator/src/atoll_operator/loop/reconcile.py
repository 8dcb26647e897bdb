"""One look at one run: read what is, let `decide` say what follows, have it carried out, and again until nothing does.

Level-triggered: a look needs no memory of earlier ones, so it may be broken off anywhere and made again.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from atoll_operator.decide.decision import decide
from atoll_operator.jobs.manifest import job_name
from atoll_operator.kube.cluster import Cluster
from atoll_operator.kube.errors import ClusterError, Forbidden
from atoll_operator.kube.resources import RUNS
from atoll_operator.loop.carry_out import Carrier
from atoll_operator.loop.hindrances import Hindrances
from atoll_operator.loop.look import Look, Looker, own_jobs
from atoll_operator.loop.pod_reader import BUSY_SECONDS, PodReader
from atoll_operator.loop.run_index import RunIndex
from atoll_operator.loop.watch_cache import WatchCache
from atoll_operator.loop.work_queue import Key
from atoll_operator.plan import Plan
from atoll_operator.retries import RetryTiming
from atoll_operator.views import JobView

logger = logging.getLogger(__name__)

# A plan that wants another at once, or wrote the status, is followed by another in the same look; more than this would
# be a fault of `decide`.
MAX_ROUNDS = 20
# A minute, in all.
MAX_PUT_OFF = 6


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Rest:
    """What a run was like when nothing more followed from it, and until when that holds (None: for good)."""

    version: tuple[str, int]
    jobs: frozenset[JobView]
    until: float | None
    # How often the look after it has been put off since.
    put_off: int = 0


class Reconciler:
    """Called with a key by one worker at a time per key. `wake` has other keys looked at, from any thread."""

    def __init__(
        self,
        cluster: Cluster,
        looker: Looker,
        carrier: Carrier,
        index: RunIndex,
        *,
        pods: PodReader,
        cache: WatchCache,
        hindrances: Hindrances,
        wake: Callable[[Iterable[Key]], None],
        retries: RetryTiming,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._looker = looker
        self._pods = pods
        self._carrier = carrier
        self._index = index
        self._cache = cache
        self._hindrances = hindrances
        self._wake = wake
        self._retries = retries
        self._clock = clock
        self._monotonic = monotonic
        self._rests: dict[Key, _Rest] = {}

    def __call__(self, key: Key) -> float | None:
        """Seconds until the run wants another look; None where only a change can matter."""
        try:
            again_after = self._look(key)
        except ClusterError as error:
            # What is known may be what was wrong: the next look reads live.
            self._cache.forget(key)
            if isinstance(error, Forbidden):
                self._hindrances.meet(key, error)
            raise
        if not self._hindrances.clear(key):
            return again_after
        # The status still says what had kept the run: another look takes that back.
        self._rests.pop(key, None)
        return 0.0

    def _look(self, key: Key) -> float | None:
        rest = self._prolonged(key, self._rests.pop(key, None))
        if rest is not None:
            self._rests[key] = rest
            return None if rest.until is None else rest.until - self._monotonic()
        run = self._cache.run(key) or self._cluster.read(RUNS, *key)
        if run is None or "deletionTimestamp" in run["metadata"]:
            # What it owned goes by its owner references.
            self._cache.forget(key)
            self._wake(self._index.forget(key))
            return None
        look = self._looker.look(run)
        for _ in range(MAX_ROUNDS):
            before = look.run
            plan, freed = self._decide(look)
            if plan.reserve and look.releases is None:
                look = self._looker.with_releases(look)
                continue
            look = self._carrier.carry_out(look, plan)
            self._cache.keep_run(look.run)
            self._wake(freed)
            if _is_at_work(look, plan) or (look.run is before and not _wants_another(plan)):
                wait = _soonest(plan.requeue_after or None, look.pods_again_after)
                self._remember(key, look, plan, wait)
                return wait
        logger.error("no rest after %d plans in one look", MAX_ROUNDS, extra={"run": "/".join(key)})
        return 1.0

    def _prolonged(self, key: Key, rest: _Rest | None) -> _Rest | None:
        """The rest that the run still has; None where it wants a look. Where very many wait for pods at once, a look
        that could not read any is put off, some times in a row at most."""
        if rest is None or not self._holds(key, rest):
            return None
        now = self._monotonic()
        if rest.until is None or now < rest.until:
            return rest
        at_work = any(not job.is_finished for job in rest.jobs)
        if at_work and rest.put_off < MAX_PUT_OFF and self._pods.is_busy:
            return replace(rest, until=now + BUSY_SECONDS, put_off=rest.put_off + 1)
        return None

    def _holds(self, key: Key, rest: _Rest) -> bool:
        """Whether nothing has changed since: most events tell of the operator's own writes, or of a Job's counters."""
        if self._cache.version(key) != rest.version:
            return False
        run = self._cache.run(key)
        if run is None:
            return True
        jobs = self._cache.jobs(rest.version[0])
        return jobs is not None and frozenset(own_jobs(run, jobs)) == rest.jobs

    def _remember(self, key: Key, look: Look, plan: Plan, wait: float | None) -> None:
        """A run that waits for others, or whose Jobs are still to end after it, is looked at each time."""
        version, status = self._cache.version(key), plan.status
        ended = status.is_terminal and all(job.is_finished or job.deleting for job in look.jobs)
        if version is None or plan.delete_run or not (status.active_since or ended):
            return
        jobs = frozenset(replace(job, create_error="") for job in look.jobs)
        self._rests[key] = _Rest(version, jobs, None if wait is None else self._monotonic() + wait)

    def _decide(self, look: Look) -> tuple[Plan, list[Key]]:
        """The plan, and the runs that may have a slot that it leaves."""
        # The place in the queue and the decision to start must not be torn apart by another worker's.
        with self._index.deciding:
            moment = self._clock()
            hindrance = self._hindrances.of(look.key)
            view = replace(look.view(self._index, now=moment), hindrance=hindrance, retries=self._retries)
            plan = decide(view, look.jobs, look.pods, moment)
            return plan, self._index.settle(look.run, plan.status)


def _is_at_work(look: Look, plan: Plan) -> bool:
    """Whether the API took the Jobs that the plan created. That they are there is written with what their pods are
    like at the first reading, in one write instead of two; a Job that ends before that is written with its end."""
    names = {job.name for job in look.jobs if job.owner_uid == look.ref.uid and not job.is_finished}
    ref = look.ref
    wanted = {job_name(ref.name, ref.uid, attempt.stage, attempt.attempt) for attempt in plan.create}
    return bool(wanted) and wanted <= names and not look.problem


def _wants_another(plan: Plan) -> bool:
    if plan.delete_run:
        return False
    return bool(plan.create or plan.reserve) or plan.requeue_after == 0


def _soonest(*waits: float | None) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)
