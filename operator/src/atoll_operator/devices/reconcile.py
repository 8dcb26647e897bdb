"""One reconcile: read all reports, and make the EdgeDevices say the same."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from atoll_contract.document import rfc3339
from atoll_contract.errors import AtollError, Reason
from atoll_contract.store.base import Store, StoreForbidden
from atoll_operator.devices.bucket import Bucket, ChannelReader
from atoll_operator.devices.conditions import (
    ConditionType,
    DeviceFacts,
    DeviceReason,
    device_spec,
    device_status,
    unknown_status,
)
from atoll_operator.devices.config import DeviceSettings
from atoll_operator.devices.metrics import DeviceMetrics
from atoll_operator.devices.objects import Body, Devices, NotOwned
from atoll_operator.devices.reports import ReportAges, ReportReader, Reports, StoredReport
from atoll_operator.devices.rollouts import halt_failed
from atoll_operator.kube.errors import ClusterError, Conflict, Refused

logger = logging.getLogger(__name__)

MAX_IGNORED_LOGGED = 20


class Outcome(StrEnum):
    """How a reconcile ended. After the latter two the next one waits longer each time."""

    DONE = "done"
    STORE = "store"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Clocks:
    """Seconds since 1970, and monotonic seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass
class _Counts:
    """What one reconcile found: the statuses of the condition Ready, and what it ignored."""

    ready: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class DeviceReconciler:
    """Keeps between reconciles only what saves reading; a new one arrives at the same objects."""

    def __init__(
        self,
        devices: Devices,
        bucket: Bucket,
        settings: DeviceSettings,
        *,
        metrics: DeviceMetrics | None = None,
        clocks: Clocks | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`heartbeat` is called before each device."""
        self._devices = devices
        self._bucket = bucket
        self._settings = settings
        self._metrics = metrics or DeviceMetrics()
        self._clocks = clocks or Clocks()
        self._heartbeat = heartbeat
        self._ages = ReportAges(wall=self._clocks.wall, clock=self._clocks.monotonic)
        self._readers: tuple[Store, ReportReader, ChannelReader] | None = None
        self._absent_since: dict[str, float] = {}
        # Monotonic and wall time.
        self._failing_since: tuple[float, float] | None = None
        self._ignored: list[str] = []

    def reconcile(self) -> Outcome:
        """Failures of the store or the API server are logged, counted and left to the next reconcile."""
        with self._metrics.reconcile_seconds.time():
            try:
                outcome = self._reconcile()
            except ClusterError as error:
                logger.warning("the API server: %s", error)
                outcome = Outcome.CLUSTER
        self._metrics.reconciles.labels(str(outcome)).inc()
        if outcome is Outcome.DONE:
            self._metrics.succeeded_at.set(self._clocks.wall())
        return outcome

    def _reconcile(self) -> Outcome:
        own = self._devices.own()
        counts = _Counts()
        try:
            reports, channels = self._read()
            for stored in reports.by_device.values():
                self._heartbeat()
                self._reconcile_device(stored, own.get(stored.device), channels, counts)
            self._handle_absent(own, reports, counts)
            self._halt(reports)
            counts.ignored += reports.ignored
            self._failing_since = None
        except AtollError as error:
            logger.warning("the bucket: %s: %s", error.reason, error.message)
            self._handle_outage(own, error.reason)
            return Outcome.STORE
        self._report(counts)
        return Outcome.DONE

    def _read(self) -> tuple[Reports, ChannelReader]:
        store = self._bucket.store()
        if self._readers is None or store is not self._readers[0]:
            self._readers = (store, ReportReader(store, self._settings.namespace), ChannelReader(store))
        _, reports, channels = self._readers
        channels.begin()
        return reports.read(), channels

    def _reconcile_device(
        self, stored: StoredReport, known: Body | None, channels: ChannelReader, counts: _Counts
    ) -> None:
        report, newest = stored.report, None
        if report is not None:
            newest = channels.newest(report.namespace, report.model, report.channel)
        facts = DeviceFacts(stored, self._ages.age(stored), newest, self._settings.offline)
        self._absent_since.pop(stored.device, None)
        try:
            body = self._devices.with_spec(stored.device, known, device_spec(stored, (known or {}).get("spec")))
            self._write(body, device_status(facts, body, now=self._now()), counts)
        except NotOwned as error:
            counts.ignored.append(str(error))
        except (Conflict, Refused) as error:
            _log_refusal(stored.device, error)

    def _halt(self, reports: Reports) -> None:
        """Halts the roll-out of versions that failed on devices. A store that does not let it is no outage."""
        try:
            halt_failed(self._bucket.store(), reports.by_device.values(), now=self._clocks.wall())
        except StoreForbidden as error:
            logger.warning("a roll-out cannot be halted: %s; the reporter needs to write rollout.json", error.message)

    def _handle_absent(self, own: dict[str, Body], reports: Reports, counts: _Counts) -> None:
        """Devices whose report is gone: their status says so, and after a while they are deleted."""
        if not reports.complete:
            logger.warning("there are more reports than are read; some devices are not shown")
            return
        self._ages.retain(reports.by_device)
        now = self._clocks.monotonic()
        absent = {name: body for name, body in own.items() if name not in reports.by_device}
        self._absent_since = {name: self._absent_since.get(name, now) for name in absent}
        for name, body in absent.items():
            self._heartbeat()
            if now - self._absent_since[name] >= self._settings.forget:
                self._devices.delete(body)
                logger.info("deleted the EdgeDevice %s, whose report is gone", name)
                continue
            message = "its report is gone from the bucket"
            self._write_unknown(body, DeviceReason.REPORT_REMOVED, message, counts)

    def _handle_outage(self, own: dict[str, Body], reason: Reason) -> None:
        """All devices are unknown once the bucket could not be read for longer than a device may be silent."""
        now = self._clocks.monotonic()
        self._failing_since = self._failing_since or (now, self._clocks.wall())
        since, wall = self._failing_since
        if now - since < self._settings.offline:
            return
        counts = _Counts()
        message = f"the bucket could not be read since {rfc3339(wall)}; the mirror's log says why"
        for body in own.values():
            self._heartbeat()
            self._write_unknown(body, reason, message, counts)
        self._metrics.show_devices(counts.ready)

    def _write_unknown(self, body: Body, reason: DeviceReason | Reason, message: str, counts: _Counts) -> None:
        try:
            self._write(body, unknown_status(body, reason, message, now=self._now()), counts)
        except (Conflict, Refused) as error:
            _log_refusal(body["metadata"]["name"], error)

    def _write(self, body: Body, status: Body, counts: _Counts) -> None:
        before, after = _ready(body.get("status") or {}), _ready(status)
        counts.ready.append(after[0])
        if self._devices.write_status(body, status) and before != after:
            logger.info("%s: Ready is %s: %s", body["metadata"]["name"], *after)

    def _report(self, counts: _Counts) -> None:
        """Sets the metrics, and logs what was ignored where that has changed."""
        self._metrics.show_devices(counts.ready)
        self._metrics.ignored.set(len(counts.ignored))
        if counts.ignored != self._ignored:
            for item in counts.ignored[:MAX_IGNORED_LOGGED]:
                logger.warning("left alone: %s", item)
        self._ignored = counts.ignored

    def _now(self) -> str:
        return rfc3339(self._clocks.wall())


def _log_refusal(device: str, error: Conflict | Refused) -> None:
    """Logs a refused write, which the next reconcile repeats. Raises it where the kind or the namespace is missing."""
    if error.status == 404:
        raise error
    logger.warning("the EdgeDevice %s: %s", device, error)


def _ready(status: Body) -> tuple[str, str]:
    """Status and reason of the condition Ready."""
    found = (item for item in status.get("conditions", []) if item["type"] == ConditionType.READY)
    return next(((item["status"], item["reason"]) for item in found), ("Unknown", ""))
