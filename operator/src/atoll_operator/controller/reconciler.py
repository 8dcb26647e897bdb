"""What the operator's account lacks, run by run, and that the run says so as long as the account may still write it.

A look that is refused is repeated with growing waits; what it was refused is told once and again after ten minutes,
and taken back by the first look that comes to its end.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from atoll_contract.errors import Reason
from atoll_operator.api.status import merge_patch, write_status
from atoll_operator.controller.apply import Carrier
from atoll_operator.controller.cache import WatchCache
from atoll_operator.controller.observed import Look, Looker, own_jobs, parse_run, parse_status
from atoll_operator.controller.pods import BUSY_SECONDS, PodReader
from atoll_operator.controller.queue import RunIndex
from atoll_operator.controller.workqueue import Key
from atoll_operator.jobs.manifest import job_name
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Forbidden
from atoll_operator.kube.objects import EVENTS, RUNS, event_manifest
from atoll_operator.lifecycle.conditions import with_conditions
from atoll_operator.lifecycle.decide import decide
from atoll_operator.lifecycle.inputs import run_view
from atoll_operator.lifecycle.model import EventType, JobView, Plan, PollIntervals, RetryTiming, RunEvent

logger = logging.getLogger(__name__)

TELL_EVERY_SECONDS = 600.0


class Hindrances:
    """Safe for several threads, as no two have the same run."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        identity: str,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._identity = identity
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Key, tuple[str, float]] = {}

    def of(self, key: Key) -> str:
        """What keeps the operator from going on with this run; empty if nothing does."""
        with self._lock:
            return self._known.get(key, ("", 0.0))[0]

    def clear(self, key: Key) -> bool:
        """The look came to its end; whether something had kept it before."""
        with self._lock:
            return self._known.pop(key, None) is not None

    def meet(self, key: Key, error: Forbidden) -> None:
        """A look at the run was refused: the run says so, in its status and by an Event."""
        text = f"forbidden: the operator may not {error}"
        with self._lock:
            known, told_at = self._known.get(key, ("", 0.0))
            again = known != text or self._clock() - told_at >= TELL_EVERY_SECONDS
            if again:
                self._known[key] = (text, self._clock())
        if not again:
            return
        # Each of the two may be refused by itself.
        for tell in (self._write_status, self._write_event):
            try:
                tell(key, text)
            except ClusterError as failure:
                logger.warning("the run cannot be told of it: %s", failure, extra={"run": "/".join(key)})

    def _write_status(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        status = parse_status(run) if run else None
        if run is None or status is None:
            # The first status holds more than this; the first look that is not refused writes it.
            return
        view = replace(run_view({**run, "status": None}, parse_run(run)[0]), blocked=text)
        patch = merge_patch(run["status"], write_status(with_conditions(view, status, self._now())))
        if patch:
            body = {"metadata": {"resourceVersion": run["metadata"]["resourceVersion"]}, "status": patch}
            self._cluster.patch_status(RUNS, *key, body)

    def _write_event(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        if run is not None:
            event = RunEvent(EventType.WARNING, str(Reason.INTERNAL_ERROR), text)
            self._cluster.create(EVENTS, key[0], event_manifest(run, event, now=self._now(), instance=self._identity))


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
        poll: PollIntervals,
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
        self._retries, self._poll = retries, poll
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
            view = replace(
                look.view(self._index, now=moment), blocked=hindrance, retries=self._retries, poll=self._poll
            )
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
