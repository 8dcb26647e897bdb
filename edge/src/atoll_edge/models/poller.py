"""Polls the channel for releases, and sends the device's report: with jitter and backoff, and not during a match."""

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
from atoll_contract.rollout import RolloutTurn, Turn
from atoll_contract.store.base import StoreError
from atoll_contract.text import duration
from atoll_edge.models import release_state
from atoll_edge.models.download import Poll, PollResult, ReleaseDownloader
from atoll_edge.models.release_state import FinalRefusal, Refusal
from atoll_edge.status import ModelState
from atoll_edge.threads import RepeatingThread

logger = logging.getLogger(__name__)

STEP_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 300.0
# Share of an interval by which it is made longer or shorter, so that many devices do not poll at the same moment.
JITTER = 0.2


@dataclass
class PollSchedule:
    """Decides when something is due again. Times are passed in, in seconds of a monotonic clock."""

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


@dataclass(frozen=True)
class PollStatus:
    """The results of the last polls. `succeeded_at` is on the monotonic clock; `working` is the phase of a download.
    `desired_sequence` and `desired_release` are what the channel named last; `turn` is that of a device that waits."""

    last_result: str | None = None
    succeeded_at: float | None = None
    desired_sequence: int | None = None
    desired_release: str | None = None
    turn: RolloutTurn | None = None
    working: ModelState | None = None


class ReleasePoller:
    """Runs from `start` to `stop`; `step` polls and reports where that is due, with the time passed in.

    `locked` returns whether the match forbids network traffic; `on_result` is called with the result of each poll.
    """

    def __init__(
        self,
        downloader: ReleaseDownloader,
        schedule: PollSchedule,
        *,
        report: Callable[[], DeviceReport],
        report_seconds: float,
        locked: Callable[[], bool] = lambda: False,
        on_result: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._downloader = downloader
        self._schedule = schedule
        self._report = report
        self._report_schedule = PollSchedule(report_seconds)
        self._reported: DeviceReport | None = None
        self._locked = locked
        self._on_result = on_result
        self._etag: str | None = None
        self._kept: set[str] = set()
        self._forgotten: tuple[str, ...] | None = None
        self._stopping = threading.Event()
        self._thread = RepeatingThread("store", self._step_now, self._stopping, every_seconds=STEP_SECONDS)
        self._begins_at = 0.0
        self.status = PollStatus()

    @property
    def store_url(self) -> str:
        return self._downloader.store.url

    def start(self, after_seconds: float = 0.0) -> None:
        """Starts the thread, which first polls after `after_seconds`: loading the packages for the bucket would delay
        the loading of a cached model."""
        self._begins_at = time.monotonic() + after_seconds
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        # A request that hangs ends by its own timeout, or with the process.
        self._thread.join(0.5)

    def step(self, now: float) -> None:
        """Polls the channel and sends the report, each if it is due."""
        locked = self._locked()
        if self._schedule.due(now, locked=locked):
            self._poll(now)
        if not locked:
            self._send_report(now)

    def _step_now(self) -> None:
        now = time.monotonic()
        if now >= self._begins_at:
            self.step(now)

    def _poll(self, now: float) -> None:
        # Counted as failed until it succeeds, so that after an unforeseen error the bucket is not polled at once.
        self._schedule.failed(now)
        forgotten = self._downloader.device.read().forgotten
        if forgotten != self._forgotten:
            # The release that the channel names may be the one that was damaged.
            self._forgotten, self._etag = forgotten, None
        try:
            poll = self._downloader.poll(self._etag, self._set_phase)
        except Refusal as refusal:
            self._refused(refusal)
        except (AtollError, OSError) as error:
            # Without an ETag the same channel is read again: its release was not taken yet.
            self._etag = None
            self._fail(str(error), "failed")
        else:
            self._etag = poll.etag
            self._succeeded(poll, now)
            self._on_result(poll.result)
            self._schedule.succeeded(now)
            self._collect_garbage()

    def _succeeded(self, poll: Poll, now: float) -> None:
        status = replace(self.status, last_result=poll.result, succeeded_at=now, working=None)
        if poll.sequence is not None:
            status = replace(status, desired_sequence=poll.sequence, desired_release=poll.release, turn=poll.turn)
        if poll.turn is not None:
            status = replace(status, last_result=_describe(poll.turn, poll.sequence))
        self.status = status
        if poll.result is not PollResult.UNCHANGED:
            logger.info("store: %s", status.last_result)

    def _collect_garbage(self) -> None:
        """Removes what no kept release needs, if the kept releases have changed."""
        kept = self._downloader.device.read().kept
        if kept == self._kept:
            return
        try:
            self._downloader.device.collect_garbage()
            self._kept = kept
        except OSError as error:
            logger.warning("old releases cannot be removed: %s", error)

    def _set_phase(self, state: ModelState) -> None:
        self.status = replace(self.status, working=state)

    def _refused(self, refusal: Refusal) -> None:
        """Records the reason; a release that failed for good is not downloaded again."""
        self._etag = None
        release = refusal.release if isinstance(refusal, FinalRefusal) else None
        try:
            self._downloader.device.change(lambda state: release_state.refuse(state, release, refusal.message))
        except OSError as error:
            logger.error("the refusal cannot be kept: %s", error)
        self._fail(refusal.message, "refused")

    def _fail(self, message: str, result: str) -> None:
        logger.warning("store: %s", message)
        self.status = replace(self.status, last_result=message, working=None)
        self._on_result(result)

    def on_outage(self, text: str | None) -> None:
        """The status says at once that the bucket does not answer, while the same poll goes on trying."""
        if text is not None:
            self.status = replace(self.status, last_result=text)

    def _send_report(self, now: float) -> None:
        """Sends the current report: at once if an essential field changed, else at its interval."""
        report = self._report()
        changed = self._reported is None or _essential_fields(report) != _essential_fields(self._reported)
        backing_off = self._report_schedule.failures and now < self._report_schedule.next_at
        if backing_off or not (changed or self._report_schedule.due(now, locked=False)):
            return
        key = keys.device_report(report.namespace, report.model, report.device)
        self._report_schedule.failed(now)
        try:
            self._downloader.store.put(key, to_json(report))
        except (StoreError, OSError) as error:
            logger.warning("the report was not taken: %s", error)
        else:
            self._reported = report
            self._report_schedule.succeeded(now)


def _describe(turn: RolloutTurn, sequence: int | None) -> str:
    """The turn of a device in words, which change at most once a minute."""
    what = f"v{sequence} is {turn.turn}" if turn.turn is not Turn.WAITING else f"v{sequence} waits"
    if turn.seconds_left is None:
        return f"{what} (this device is in wave {turn.wave})"
    return f"{what} for wave {turn.wave}, in {duration(max(60.0, turn.seconds_left))}"


def _essential_fields(report: DeviceReport) -> tuple[object, ...]:
    wanted = report.desired_version, report.failed_version, report.wave, report.rollout
    return report.state, report.manifest_sha256, report.backend, report.error, *wanted
