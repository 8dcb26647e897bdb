"""A device's report as it lies in the bucket: read, and held against what an EdgeDevice can say.

Whoever holds a device's credentials can put anything there. What is wrong becomes a sentence, never a traceback.
"""

import itertools
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace
from atoll_contract.errors import IntegrityError
from atoll_contract.release import DeviceReport
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, Store

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
MAX_FOLLOWED = 40
MAX_VERSION = 2**31 - 1
MAX_BYTES = 2**63 - 1
# As crds/edgedevices.yaml has them.
TEXT_LENGTHS = {"state": 64, "release": 63, "manifest_sha256": 64, "backend": 32, "agent_version": 64, "error": 1024}


class InvalidReport(ValueError):
    """The report cannot be shown; the text says which field and what is allowed."""


def read_report(data: bytes, key: str) -> DeviceReport:
    """The report at `key`, with texts cut to what an EdgeDevice holds and its time in whole seconds of UTC.

    Raises:
        InvalidReport: no such document, another device's, or a value out of its range.
    """
    try:
        report = from_json(DeviceReport, data)
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


def seconds_of(time: str) -> float:
    """Seconds since 1970 of a time as `read_report` writes it."""
    return datetime.fromisoformat(time).timestamp()


def rfc3339(seconds: float) -> str:
    """A time as API objects have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_numbers(report: DeviceReport) -> None:
    whole = {
        "version": (report.version, 1, MAX_VERSION),
        "desiredVersion": (report.desired_version, 1, MAX_VERSION),
        "freeBytes": (report.free_bytes, 0, MAX_BYTES),
    }
    for name, (number, least, most) in whole.items():
        if number is not None and not least <= number <= most:
            raise InvalidReport(f"{name} is out of its range, {least} to {most}")
    for name, measure in (("fps", report.fps), ("latencyMillis", report.latency_millis)):
        if measure is not None and not (math.isfinite(measure) and 0 <= measure < 1e9):
            raise InvalidReport(f"{name} is {measure}; allowed are numbers from 0 below 1e9")


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise InvalidReport(f"reportedAt is {text[:80]!r}, which names no time zone")
        # Years that a UTC time cannot have overflow.
        return rfc3339(moment.timestamp())
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, InvalidReport):
            raise
        raise InvalidReport(f"reportedAt is {text[:80]!r}; it must be a time of RFC 3339") from None


def _text(text: str | None, length: int) -> str | None:
    """One line of printable characters, cut to `length`."""
    if text is None:
        return None
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:length]


logger = logging.getLogger(__name__)

MAX_REPORTS = 1000
MAX_REPORT_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Seen:
    """What lies in the bucket of one device: a report, or the problem with it."""

    device: str
    model: str
    etag: str
    # Seconds since 1970, by the bucket's clock.
    modified_at: float
    report: DeviceReport | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Reports:
    """By device. `ignored` are keys that name no device; not `complete`: there are more than are read."""

    by_device: Mapping[str, Seen]
    ignored: tuple[str, ...] = ()
    complete: bool = True


class ReportReader:
    """Reads one store for one namespace and remembers what did not change."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._prefix = keys.device_reports_prefix(namespace)
        self._known: dict[str, Seen] = {}

    def read(self) -> Reports:
        """All that is there now. Raises StoreError."""
        found = list(itertools.islice(self._store.list(self._prefix), MAX_REPORTS + 1))
        infos, ignored = found[:MAX_REPORTS], []
        known: dict[str, Seen] = {}
        for info in infos:
            names = self._names(info.key)
            if names is None:
                ignored.append(info.key)
            elif (seen := self._seen(info, *names)) is not None:
                known[info.key] = seen
        self._known = known
        return Reports(_newest(known), tuple(ignored), complete=len(found) <= MAX_REPORTS)

    def _names(self, key: str) -> tuple[str, str] | None:
        """Model and device of a key."""
        model, _, file = key.removeprefix(self._prefix).partition("/")
        device = file.removesuffix(".json")
        named = NAME.fullmatch(model) and len(model) <= MAX_FOLLOWED and NAME.fullmatch(device)
        return (model, device) if named and device != file else None

    def _seen(self, info: ObjectInfo, model: str, device: str) -> Seen | None:
        known = self._known.get(info.key)
        if known is not None and (known.etag, known.modified_at) == (info.etag, info.modified_at or 0.0):
            return known
        report, problem = None, None
        try:
            report = self._report(info)
        except ObjectNotFound:
            # Removed since it was listed.
            return None
        except (InvalidReport, IntegrityError) as error:
            problem = f"the report {info.key} cannot be read: {error}"
            logger.warning("%s", problem)
        return Seen(device, model, info.etag, info.modified_at or 0.0, report, problem)

    def _report(self, info: ObjectInfo) -> DeviceReport:
        if info.size > MAX_REPORT_BYTES:
            raise InvalidReport(f"it has {info.size} bytes, allowed are {MAX_REPORT_BYTES}")
        return read_report(self._store.get(info.key, limit=MAX_REPORT_BYTES), info.key)


def _newest(known: Mapping[str, Seen]) -> dict[str, Seen]:
    """A device that follows another model now has left its report about the former one behind."""
    ordered = sorted(known.values(), key=lambda seen: seen.modified_at)
    return {seen.device: seen for seen in ordered}


@dataclass(frozen=True)
class _Sighting:
    modified: tuple[str, float]
    age_then: float
    at: float


class Sightings:
    """Ages of reports; `wall` tells seconds since 1970, `clock` monotonic seconds."""

    def __init__(self, *, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall = wall
        self._clock = clock
        self._last: dict[str, _Sighting] = {}

    def age(self, seen: Seen) -> float:
        """Seconds since the device's report changed."""
        modified, now = (seen.etag, seen.modified_at), self._clock()
        last = self._last.get(seen.device)
        if last is None:
            last = _Sighting(modified, max(0.0, self._wall() - seen.modified_at), now)
        elif last.modified != modified:
            last = _Sighting(modified, 0.0, now)
        self._last[seen.device] = last
        return last.age_then + now - last.at

    def keep(self, devices: Iterable[str]) -> None:
        """Forgets all others."""
        kept = set(devices)
        self._last = {device: last for device, last in self._last.items() if device in kept}
