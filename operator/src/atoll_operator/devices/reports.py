"""The devices' reports in the bucket: read, checked against what an EdgeDevice can hold, and how old they are.

Whoever holds a device's credentials can write anything there. What is wrong with a report becomes a message, never a
traceback.
"""

import itertools
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace, rfc3339
from atoll_contract.errors import IntegrityError
from atoll_contract.release import DeviceReport
from atoll_contract.rollout import MAX_STEPS
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, Store

logger = logging.getLogger(__name__)

MAX_REPORTS = 1000
# Reports that are read at the same time: a bucket that needs 100 ms a call would take a minute for 500 of them.
READERS = 8
MAX_REPORT_BYTES = 64 * 2**10
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Characters of a model's or a channel's name.
MAX_FOLLOWED = 40
MAX_VERSION = 2**31 - 1
MAX_BYTES = 2**63 - 1
# Of crds/edgedevices.yaml.
TEXT_LENGTHS = {
    "state": 64,
    "release": 63,
    "manifest_sha256": 64,
    "backend": 32,
    "agent_version": 64,
    "error": 1024,
    "rollout": 32,
}


class InvalidReport(ValueError):
    """The report cannot be shown; the text says which field is wrong and what is allowed."""


@dataclass(frozen=True)
class StoredReport:
    """The report of one device as read from the bucket, or the problem with it."""

    device: str
    model: str
    etag: str
    # Seconds since 1970, by the bucket's clock.
    modified_at: float
    report: DeviceReport | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Reports:
    """The reports by device. `ignored` are keys that name no device; `complete`: there are no more than were read."""

    by_device: Mapping[str, StoredReport]
    ignored: tuple[str, ...] = ()
    complete: bool = True


class ReportReader:
    """Reads one store for one namespace, and keeps the reports that did not change."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._prefix = keys.device_reports_prefix(namespace)
        self._known: dict[str, StoredReport] = {}

    def read(self) -> Reports:
        """All reports that exist now. Raises StoreError."""
        found = list(itertools.islice(self._store.list(self._prefix), MAX_REPORTS + 1))
        named = {info: self._names(info.key) for info in found[:MAX_REPORTS]}
        reports = {info: names for info, names in named.items() if names is not None}
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="reports")
        try:
            read = list(pool.map(self._stored, reports, reports.values()))
        finally:
            # After an error the reports that are still to be read would fail one after the other.
            pool.shutdown(cancel_futures=True)
        self._known = {info.key: stored for info, stored in zip(reports, read, strict=True) if stored is not None}
        # A device that follows another model now has left its report on the former one behind.
        in_order = sorted(self._known.values(), key=lambda item: item.modified_at)
        ignored = tuple(info.key for info in named if info not in reports)
        return Reports({stored.device: stored for stored in in_order}, ignored, complete=len(found) <= MAX_REPORTS)

    def _names(self, key: str) -> tuple[str, str] | None:
        """The model and the device of a key."""
        model, _, file = key.removeprefix(self._prefix).partition("/")
        device = file.removesuffix(".json")
        named = NAME.fullmatch(model) and len(model) <= MAX_FOLLOWED and NAME.fullmatch(device)
        return (model, device) if named and device != file else None

    def _stored(self, info: ObjectInfo, names: tuple[str, str]) -> StoredReport | None:
        model, device = names
        known = self._known.get(info.key)
        if known is not None and (known.etag, known.modified_at) == (info.etag, info.modified_at or 0.0):
            return known
        report, problem = None, None
        try:
            if info.size > MAX_REPORT_BYTES:
                raise InvalidReport(f"it has {info.size} bytes, allowed are {MAX_REPORT_BYTES}")
            report = read_report(self._store.get(info.key, limit=MAX_REPORT_BYTES), info.key)
        except ObjectNotFound:
            # It was removed after it was listed.
            return None
        except (InvalidReport, IntegrityError) as error:
            problem = f"the report {info.key} cannot be read: {error}"
            logger.warning("%s", problem)
        return StoredReport(device, model, info.etag, info.modified_at or 0.0, report, problem)


def read_report(data: bytes, key: str) -> DeviceReport:
    """The report at `key`, with texts cut to what an EdgeDevice holds and its time in whole seconds of UTC.

    Raises:
        InvalidReport: it is no such document, another device's, or a value is out of its range.
    """
    try:
        report = from_json(DeviceReport, data, skip_unknown=True)
    except DecodeError as error:
        raise InvalidReport(str(error)) from None
    if report.schema_version != 1:
        raise InvalidReport(f"schemaVersion is {report.schema_version}; this mirror knows 1")
    own = keys.device_report(report.namespace, report.model, report.device)
    if own != key:
        raise InvalidReport(f"it says that it belongs at {own[:200]!r}")
    if not NAME.fullmatch(report.channel) or len(report.channel) > MAX_FOLLOWED:
        raise InvalidReport(f"channel is {report.channel[:80]!r}; allowed are 1 to 40 of a-z, 0-9 and -")
    _check_numbers(report)
    texts: dict[str, Any] = {name: _text(getattr(report, name), length) for name, length in TEXT_LENGTHS.items()}
    return replace(report, reported_at=_time(report.reported_at), **texts)


def _check_numbers(report: DeviceReport) -> None:
    integers = {
        "version": (report.version, 1, MAX_VERSION),
        "desiredVersion": (report.desired_version, 1, MAX_VERSION),
        "failedVersion": (report.failed_version, 1, MAX_VERSION),
        "wave": (report.wave, 1, MAX_STEPS + 1),
        "freeBytes": (report.free_bytes, 0, MAX_BYTES),
    }
    for name, (number, minimum, maximum) in integers.items():
        if number is not None and not minimum <= number <= maximum:
            raise InvalidReport(f"{name} is out of its range, {minimum} to {maximum}")
    for name, value in (("fps", report.fps), ("latencyMillis", report.latency_millis)):
        if value is not None and not (math.isfinite(value) and 0 <= value < 1e9):
            raise InvalidReport(f"{name} is {value}; allowed are numbers from 0 below 1e9")


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        # Overflows where the time has no year from 1 to 9999 in UTC.
        utc = moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        raise InvalidReport(f"reportedAt is {text[:80]!r}; it must be a time of RFC 3339") from None
    if utc is None:
        raise InvalidReport(f"reportedAt is {text[:80]!r}, which names no time zone")
    return rfc3339(utc)


def _text(text: str | None, length: int) -> str | None:
    """One line of printable characters, cut to `length`."""
    if text is None:
        return None
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:length]


class ReportAges:
    """The ages of reports in seconds. `wall` returns seconds since 1970, `clock` monotonic seconds.

    The bucket's clock and this machine's are compared only for a device's first report. After that, the age
    counts from the moment at which a change was seen.
    """

    def __init__(self, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall = wall
        self._clock = clock
        # By device: ETag and time of the report, and the monotonic time at which it was new.
        self._last: dict[str, tuple[tuple[str, float], float]] = {}

    def age(self, stored: StoredReport) -> float:
        """Seconds since the device's report changed."""
        modified, now = (stored.etag, stored.modified_at), self._clock()
        if stored.device not in self._last:
            self._last[stored.device] = (modified, now - max(0.0, self._wall() - stored.modified_at))
        elif self._last[stored.device][0] != modified:
            self._last[stored.device] = (modified, now)
        return now - self._last[stored.device][1]

    def retain(self, devices: Iterable[str]) -> None:
        """Forgets all other devices."""
        kept = set(devices)
        self._last = {device: last for device, last in self._last.items() if device in kept}
