"""Types and reasons of an EdgeDevice's conditions: the closed list."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll_contract.document import to_dict
from atoll_contract.errors import Reason
from atoll_contract.release import DeviceReport
from atoll_operator.devices.reports import Seen, rfc3339, seconds_of


class ConditionType(StrEnum):
    READY = "Ready"
    UP_TO_DATE = "UpToDate"


class DeviceReason(StrEnum):
    """Why a condition is as it is. While the bucket cannot be read, it is the store's `reasons.Reason` instead."""

    # Ready.
    DETECTING = "Detecting"
    NO_MODEL = "NoModel"
    OFFLINE = "Offline"
    REPORT_INVALID = "ReportInvalid"
    REPORT_REMOVED = "ReportRemoved"
    # UpToDate.
    CURRENT = "Current"
    BEHIND = "Behind"
    REFUSED = "Refused"
    NOTHING_PUBLISHED = "NothingPublished"


Body = dict[str, Any]

MAX_MESSAGE = 1024
# A device's clock that is off by less is not worth a word; steps of the same size keep the sentence still.
SKEW_SECONDS = 300
NO_CHANNEL = "unknown"
# Of the report, what the spec or the object's own name says.
_NOT_STATUS = {"namespace", "model", "device", "channel", "schemaVersion"}


@dataclass(frozen=True)
class Facts:
    """A device as the mirror knows it now. `newest` is its channel's version by the bucket, `age` in seconds."""

    seen: Seen
    age: float
    newest: int | None
    offline_seconds: float


@dataclass(frozen=True)
class Verdict:
    """One condition."""

    status: str
    reason: DeviceReason | Reason
    message: str


def device_spec(seen: Seen, known: Mapping[str, Any] | None) -> Body:
    """The spec of a device; that of a report which cannot be read stays as `known`, where there is one."""
    if seen.report is not None:
        return {"model": seen.model, "channel": seen.report.channel}
    return dict(known) if known else {"model": seen.model, "channel": NO_CHANNEL}


def device_status(facts: Facts, known: Body, *, now: str) -> Body:
    """The status of the EdgeDevice `known`, whose last good report stays when the newest cannot be read."""
    seen, status = facts.seen, dict(known.get("status") or {})
    if seen.report is not None:
        status = _reported(seen.report, facts.newest)
    status["lastSeen"] = rfc3339(seen.modified_at)
    verdicts = {ConditionType.READY: _ready(facts), ConditionType.UP_TO_DATE: _up_to_date(facts)}
    return _with_conditions(status, verdicts, known, now=now)


def unknown_status(known: Body, reason: DeviceReason | Reason, message: str, *, now: str) -> Body:
    """The status of a device about which nothing new can be known; what it last said stays."""
    status = dict(known.get("status") or {})
    verdict = Verdict("Unknown", reason, message)
    return _with_conditions(status, dict.fromkeys(ConditionType, verdict), known, now=now)


def _reported(report: DeviceReport, newest: int | None) -> Body:
    status: Body = {name: value for name, value in to_dict(report).items() if name not in _NOT_STATUS}
    for name in ("fps", "latencyMillis"):
        if name in status:
            status[name] = f"{status[name]:.1f}"
    desired = _desired(report, newest)
    return status | ({"desiredVersion": desired} if desired is not None else {})


def _desired(report: DeviceReport, newest: int | None) -> int | None:
    """The bucket's word, or that of a device which knows of a newer one."""
    known = [version for version in (report.desired_version, newest) if version is not None]
    return max(known, default=None)


def _ready(facts: Facts) -> Verdict:
    report = facts.seen.report
    if facts.age > facts.offline_seconds:
        message = f"no new report since {rfc3339(facts.seen.modified_at)}, by the bucket's clock"
        return Verdict("False", DeviceReason.OFFLINE, message)
    if report is None:
        return Verdict("False", DeviceReason.REPORT_INVALID, facts.seen.problem or "")
    if report.release is None:
        problem = f": {report.error}" if report.error else ""
        return Verdict("False", DeviceReason.NO_MODEL, f"it runs no model ({report.state}){problem}")
    backend = report.backend or "an unknown backend"
    message = f"it runs {report.release} on {backend}{_skew(facts.seen, report)}"
    return Verdict("True", DeviceReason.DETECTING, message)


def _up_to_date(facts: Facts) -> Verdict:
    report = facts.seen.report
    if report is None:
        return Verdict("Unknown", DeviceReason.REPORT_INVALID, facts.seen.problem or "")
    desired = _desired(report, facts.newest)
    channel = f"channel {report.channel} of {report.model}"
    if desired is None:
        return Verdict("Unknown", DeviceReason.NOTHING_PUBLISHED, f"no version of {channel} is known")
    if report.version is not None and report.version >= desired:
        return Verdict("True", DeviceReason.CURRENT, f"it runs v{report.version}, the newest of {channel}")
    runs = f"v{report.version}" if report.version is not None else report.release or "no release"
    message = f"it runs {runs}; {channel} is at v{desired}"
    if report.error:
        return Verdict("False", DeviceReason.REFUSED, f"{message}: {report.error}")
    return Verdict("False", DeviceReason.BEHIND, f"{message}; the device is {report.state}")


def _skew(seen: Seen, report: DeviceReport) -> str:
    """Robots boot without a network and so without the time."""
    ahead = seconds_of(report.reported_at) - seen.modified_at
    steps = int(abs(ahead) // SKEW_SECONDS)
    if not steps:
        return ""
    return f"; its clock is more than {steps * SKEW_SECONDS // 60} min {'ahead' if ahead > 0 else 'behind'}"


def _with_conditions(status: Body, verdicts: Mapping[ConditionType, Verdict], known: Body, *, now: str) -> Body:
    generation = int(known["metadata"].get("generation") or 1)
    before = {item["type"]: item for item in (known.get("status") or {}).get("conditions", [])}
    conditions = []
    for kind, verdict in verdicts.items():
        old = before.get(str(kind))
        same = old is not None and old["status"] == verdict.status
        conditions.append(
            {
                "type": str(kind),
                "status": verdict.status,
                "reason": str(verdict.reason),
                "message": verdict.message[:MAX_MESSAGE],
                "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else now,
                "observedGeneration": generation,
            }
        )
    return status | {"observedGeneration": generation, "conditions": conditions}
