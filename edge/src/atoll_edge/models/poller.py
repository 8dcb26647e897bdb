"""When to look into the store: steadily with jitter, seldom after failures, never while the match holds. Pure."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from atoll_contract import keys
from atoll_contract.document import to_json
from atoll_contract.errors import AtollError
from atoll_contract.release import DeviceReport
from atoll_contract.store.base import StoreError
from atoll_edge.models import release_state as device_state
from atoll_edge.models.download import Look, ReleaseFetcher
from atoll_edge.models.release_state import FinalRefusal, Refusal
from atoll_edge.status import ModelState
from atoll_edge.threads import SteadyThread

MAX_BACKOFF_SECONDS = 300.0
JITTER = 0.2


@dataclass
class Schedule:
    """Times are seconds of a monotonic clock that the caller passes in: no clock of the day is needed."""

    every_seconds: float
    random: Random = field(default_factory=Random)
    failures: int = 0
    next_at: float = 0.0

    def due(self, now: float, *, locked: bool) -> bool:
        return not locked and now >= self.next_at

    def succeeded(self, now: float) -> None:
        self.failures = 0
        self.next_at = now + self._jittered(self.every_seconds)

    def failed(self, now: float) -> None:
        self.failures += 1
        wait = min(self.every_seconds * 2.0 ** min(self.failures - 1, 16), MAX_BACKOFF_SECONDS)
        self.next_at = now + self._jittered(max(wait, self.every_seconds))

    def _jittered(self, seconds: float) -> float:
        return seconds * self.random.uniform(1 - JITTER, 1 + JITTER)


logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5


@dataclass(frozen=True)
class LoopStatus:
    """What the last turns brought; `succeeded_at` by the monotonic clock."""

    last_result: str | None = None
    succeeded_at: float | None = None
    desired_sequence: int | None = None
    working: ModelState | None = None


class StoreLoop:
    """Runs from `start` to `stop`; `turn` is its one step, with the time passed in."""

    def __init__(
        self,
        fetcher: ReleaseFetcher,
        schedule: Schedule,
        *,
        report: Callable[[], DeviceReport],
        report_seconds: float,
        locked: Callable[[], bool] = lambda: False,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fetcher = fetcher
        self._schedule = schedule
        self._report = report
        self._report_schedule = Schedule(report_seconds)
        self._reported: DeviceReport | None = None
        self._locked = locked
        self._counted = counted
        self._etag: str | None = None
        self._kept: set[str] = set()
        self._stopping = threading.Event()
        self._thread = SteadyThread("store", self._turn, self._stopping, every_seconds=TURN_SECONDS)
        self._begins_at = 0.0
        self.status = LoopStatus()

    @property
    def store_url(self) -> str:
        return self._fetcher.store.url

    def start(self, after_seconds: float = 0.0) -> None:
        """Begin, after a while where a cached model comes first: the packages for the store take long to load."""
        self._begins_at = time.monotonic() + after_seconds
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        # A request that hangs ends by its own timeout, or with the process.
        self._thread.join(0.5)

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._begins_at:
            self.turn(now)

    def turn(self, now: float) -> None:
        """Look and report where it is time to."""
        locked = self._locked()
        if self._schedule.due(now, locked=locked):
            self._look(now)
        if not locked:
            self._send_report(now)

    def _look(self, now: float) -> None:
        # Until it ended well it failed, also by what nobody foresaw: the store is not asked again at once.
        self._schedule.failed(now)
        try:
            found, self._etag, desired = self._fetcher.look(self._etag, self._working)
        except Refusal as refusal:
            self._refused(refusal)
        except (AtollError, OSError) as error:
            # The same channel is fetched again: what it points to was not taken yet.
            self._etag = None
            self._note(str(error), "failed")
        else:
            wanted = desired if desired is not None else self.status.desired_sequence
            self.status = replace(
                self.status, last_result=found, succeeded_at=now, desired_sequence=wanted, working=None
            )
            if found is not Look.UNCHANGED:
                logger.info("store: %s", found)
            self._counted(found)
            self._schedule.succeeded(now)
            self._tidy()

    def _tidy(self) -> None:
        """Remove what no release that is kept needs, when that has changed."""
        kept = self._fetcher.device.read().kept
        if kept == self._kept:
            return
        try:
            self._fetcher.device.collect_garbage()
            self._kept = kept
        except OSError as error:
            logger.warning("old releases cannot be removed: %s", error)

    def _working(self, state: ModelState) -> None:
        self.status = replace(self.status, working=state)

    def _refused(self, refusal: Refusal) -> None:
        """Keep the reason; a release that will never pass is not fetched again."""
        self._etag = None
        release = refusal.release if isinstance(refusal, FinalRefusal) else None
        try:
            self._fetcher.device.change(lambda state: device_state.refused(state, release, refusal.message))
        except OSError as error:
            logger.error("the refusal cannot be kept: %s", error)
        self._note(refusal.message, "refused")

    def _note(self, message: str, result: str) -> None:
        logger.warning("store: %s", message)
        self.status = replace(self.status, last_result=message, working=None)
        self._counted(result)

    def _send_report(self, now: float) -> None:
        """The newest report only, at once where the state changed."""
        report = self._report()
        changed = self._reported is None or _essence(report) != _essence(self._reported)
        backing_off = self._report_schedule.failures and now < self._report_schedule.next_at
        if backing_off or not (changed or self._report_schedule.due(now, locked=False)):
            return
        key = keys.device_report(report.namespace, report.model, report.device)
        self._report_schedule.failed(now)
        try:
            self._fetcher.store.put(key, to_json(report))
        except (StoreError, OSError) as error:
            logger.warning("the report was not taken: %s", error)
        else:
            self._reported = report
            self._report_schedule.succeeded(now)


def _essence(report: DeviceReport) -> tuple[object, ...]:
    """What makes a report worth sending at once."""
    return report.state, report.manifest_sha256, report.backend, report.error, report.desired_version
