"""One turn of the mirror: read all reports, and make the EdgeDevices say the same."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from atoll_contract.errors import AtollError, Reason
from atoll_operator.devices.channels import Bucket, ChannelReader
from atoll_operator.devices.conditions import (
    ConditionType,
    DeviceReason,
    Facts,
    device_spec,
    device_status,
    unknown_status,
)
from atoll_operator.devices.config import Settings
from atoll_operator.devices.metrics import Metrics
from atoll_operator.devices.objects import Devices, NotOurs
from atoll_operator.devices.reports import ReportReader, Reports, Seen, Sightings, rfc3339
from atoll_operator.kube.errors import ClusterError, Conflict, Refused

logger = logging.getLogger(__name__)

Body = dict[str, Any]


class Outcome(StrEnum):
    """How a turn ended. After the latter two the next one waits longer each time."""

    DONE = "done"
    STORE = "store"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Clocks:
    """Seconds since 1970, and monotonic ones."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass
class _Tally:
    """What one turn came across."""

    ready: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class Mirror:
    """Keeps between turns only what saves reading; a fresh one comes to the same objects."""

    def __init__(
        self,
        devices: Devices,
        bucket: Bucket,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        clocks: Clocks | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._devices = devices
        self._bucket = bucket
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._clocks = clocks or Clocks()
        self._alive = alive
        self._sightings = Sightings(wall=self._clocks.wall, clock=self._clocks.monotonic)
        self._readers: tuple[ReportReader, ChannelReader] | None = None
        self._store: Any = None
        self._absent_since: dict[str, float] = {}
        self._failing_since: tuple[float, float] | None = None
        self._ignored: list[str] = []

    def turn(self) -> Outcome:
        """Trouble with the store or the API server is logged, counted and left to the next turn."""
        with self._metrics.turn_seconds.time():
            try:
                outcome = self._turn()
            except ClusterError as error:
                logger.warning("the API server: %s", error)
                outcome = Outcome.CLUSTER
        self._metrics.turns.labels(str(outcome)).inc()
        if outcome is Outcome.DONE:
            self._metrics.succeeded_at.set(self._clocks.wall())
        return outcome

    def _turn(self) -> Outcome:
        own = self._devices.own()
        tally = _Tally()
        try:
            reports, channels = self._read()
            for seen in reports.by_device.values():
                self._alive()
                self._show(seen, own.get(seen.device), channels, tally)
            self._settle_absent(own, reports, tally)
            tally.ignored += reports.ignored
            self._failing_since = None
        except AtollError as error:
            logger.warning("the bucket: %s: %s", error.reason, error.message)
            self._tell_of_outage(own, error.reason)
            return Outcome.STORE
        self._tell(tally)
        return Outcome.DONE

    def _read(self) -> tuple[Reports, ChannelReader]:
        store = self._bucket.store()
        if self._readers is None or store is not self._store:
            self._store = store
            self._readers = (ReportReader(store, self._settings.namespace), ChannelReader(store))
        reports, channels = self._readers
        channels.begin()
        return reports.read(), channels

    def _show(self, seen: Seen, known: Body | None, channels: ChannelReader, tally: _Tally) -> None:
        report, newest = seen.report, None
        if report is not None:
            newest = channels.newest(report.namespace, report.model, report.channel)
        facts = Facts(seen, self._sightings.age(seen), newest, self._settings.offline)
        self._absent_since.pop(seen.device, None)
        try:
            body = self._devices.with_spec(seen.device, known, device_spec(seen, (known or {}).get("spec")))
            self._write(body, device_status(facts, body, now=self._now()), tally)
        except NotOurs as error:
            tally.ignored.append(str(error))
        except (Conflict, Refused) as error:
            _pass_over(seen.device, error)

    def _settle_absent(self, own: dict[str, Body], reports: Reports, tally: _Tally) -> None:
        """The report of a device is gone: say so, and after a while let the object go too."""
        if not reports.complete:
            logger.warning("there are more reports than are read; some devices are not shown")
            return
        self._sightings.keep(reports.by_device)
        now = self._clocks.monotonic()
        absent = {name: body for name, body in own.items() if name not in reports.by_device}
        self._absent_since = {name: self._absent_since.get(name, now) for name in absent}
        for name, body in absent.items():
            self._alive()
            if now - self._absent_since[name] >= self._settings.forget:
                self._devices.delete(body)
                logger.info("deleted the EdgeDevice %s, whose report is gone", name)
                continue
            message = "its report is gone from the bucket"
            status = unknown_status(body, DeviceReason.REPORT_REMOVED, message, now=self._now())
            self._try_write(body, status, tally)

    def _tell_of_outage(self, own: dict[str, Body], reason: Reason) -> None:
        """A bucket that cannot be read for longer than a device may be silent leaves all of them unknown."""
        now = self._clocks.monotonic()
        self._failing_since = self._failing_since or (now, self._clocks.wall())
        since, wall = self._failing_since
        if now - since < self._settings.offline:
            return
        tally = _Tally()
        message = f"the bucket could not be read since {rfc3339(wall)}; the mirror's log says why"
        for body in own.values():
            self._alive()
            self._try_write(body, unknown_status(body, reason, message, now=self._now()), tally)
        self._metrics.show_devices(tally.ready)

    def _try_write(self, body: Body, status: Body, tally: _Tally) -> None:
        try:
            self._write(body, status, tally)
        except (Conflict, Refused) as error:
            _pass_over(body["metadata"]["name"], error)

    def _write(self, body: Body, status: Body, tally: _Tally) -> None:
        before, after = _ready(body.get("status") or {}), _ready(status)
        tally.ready.append(after[0])
        if self._devices.write_status(body, status) and before != after:
            logger.info("%s: Ready is %s: %s", body["metadata"]["name"], *after)

    def _tell(self, tally: _Tally) -> None:
        self._metrics.show_devices(tally.ready)
        self._metrics.ignored.set(len(tally.ignored))
        if tally.ignored != self._ignored:
            for what in tally.ignored[:20]:
                logger.warning("left alone: %s", what)
        self._ignored = tally.ignored

    def _now(self) -> str:
        return rfc3339(self._clocks.wall())


def _pass_over(device: str, error: Conflict | Refused) -> None:
    """One device's trouble, until the next turn; without the kind or the namespace it is everybody's."""
    if error.status == 404:
        raise error
    logger.warning("the EdgeDevice %s: %s", device, error)


def _ready(status: Body) -> tuple[str, str]:
    """Status and reason of the condition Ready."""
    found = (item for item in status.get("conditions", []) if item["type"] == ConditionType.READY)
    return next(((item["status"], item["reason"]) for item in found), ("Unknown", ""))
