"""A device's report as it lies in the bucket: read, and held against what an EdgeDevice can say.

Whoever holds a device's credentials can put anything there. What is wrong becomes a sentence, never a traceback.
"""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.manifest import DeviceReport

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
