"""Spec, status and conditions of an EdgeDevice."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll_contract.document import rfc3339, to_dict
from atoll_contract.errors import Reason
from atoll_contract.release import DeviceReport
from atoll_contract.rollout import Turn
from atoll_operator.api.status import parse_time
from atoll_operator.devices.objects import Body
from atoll_operator.devices.reports import StoredReport
from atoll_operator.lifecycle.conditions import transition_time

MAX_MESSAGE = 1024
# A clock that is off by less is not mentioned; the message changes only with whole steps of this size.
SKEW_SECONDS = 300
NO_CHANNEL = "unknown"
# While nothing else changes, what differs in each report is written this often: every write wakes whoever watches.
FIGURES_SECONDS = 300
_FIGURES = {"lastSeen", "reportedAt", "fps", "latencyMillis", "freeBytes"}
# Fields of the report that are in the spec or in the object's metadata.
_NOT_STATUS = {"namespace", "model", "device", "channel", "schemaVersion"}


class ConditionType(StrEnum):
    READY = "Ready"
    UP_TO_DATE = "UpToDate"


class DeviceReason(StrEnum):
    """Why a condition is as it is: the closed list. While the bucket cannot be read, it is the store's `Reason`."""

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
    WAITING = "Waiting"
    ROLLOUT_PAUSED = "RolloutPaused"
    ROLLOUT_HALTED = "RolloutHalted"
    NOTHING_PUBLISHED = "NothingPublished"


@dataclass(frozen=True)
class DeviceFacts:
    """What is known of a device now. `newest`: its channel's version by the bucket; `age`: the report's, in seconds."""

    stored: StoredReport
    age: float
    newest: int | None
    offline_seconds: float


# Status, reason and message of a condition.
_State = tuple[str, DeviceReason | Reason, str]


def device_spec(stored: StoredReport, known: Mapping[str, Any] | None) -> Body:
    """The spec of a device. Where the report cannot be read, it stays as `known`, if there is one."""
    if stored.report is not None:
        return {"model": stored.model, "channel": stored.report.channel}
    return dict(known) if known else {"model": stored.model, "channel": NO_CHANNEL}


def device_status(facts: DeviceFacts, known: Body, *, now: str) -> Body:
    """The status of the EdgeDevice `known`, which keeps its last good report when the newest cannot be read."""
    stored, status = facts.stored, dict(known.get("status") or {})
    if stored.report is not None:
        status = _reported(stored.report, facts.newest)
    status["lastSeen"] = rfc3339(stored.modified_at)
    states = {ConditionType.READY: _ready(facts), ConditionType.UP_TO_DATE: _up_to_date(facts)}
    status = _with_conditions(status, states, known, now=now)
    return dict(known["status"]) if _is_recent(known.get("status") or {}, status) else status


def _is_recent(before: Body, after: Body) -> bool:
    """Returns whether only figures differ, and those of `before` are new enough."""
    names = (before.keys() | after.keys()) - _FIGURES
    if "lastSeen" not in before or any(before.get(name) != after.get(name) for name in names):
        return False
    seconds = (parse_time(after["lastSeen"]) - parse_time(before["lastSeen"])).total_seconds()
    return 0 <= seconds < FIGURES_SECONDS


def unknown_status(known: Body, reason: DeviceReason | Reason, message: str, *, now: str) -> Body:
    """The status of a device on which there is no news; it keeps what the device last reported."""
    status = dict(known.get("status") or {})
    return _with_conditions(status, dict.fromkeys(ConditionType, ("Unknown", reason, message)), known, now=now)


def _reported(report: DeviceReport, newest: int | None) -> Body:
    status: Body = {name: value for name, value in to_dict(report).items() if name not in _NOT_STATUS}
    for name in ("fps", "latencyMillis"):
        if name in status:
            status[name] = f"{status[name]:.1f}"
    desired = _desired(report, newest)
    return status | ({"desiredVersion": desired} if desired is not None else {})


def _desired(report: DeviceReport, newest: int | None) -> int | None:
    """The version by the bucket's pointer, or a newer one that the device knows of."""
    known = [version for version in (report.desired_version, newest) if version is not None]
    return max(known, default=None)


def _ready(facts: DeviceFacts) -> _State:
    report = facts.stored.report
    if facts.age > facts.offline_seconds:
        message = f"no new report since {rfc3339(facts.stored.modified_at)}, by the bucket's clock"
        return "False", DeviceReason.OFFLINE, message
    if report is None:
        return "False", DeviceReason.REPORT_INVALID, facts.stored.problem or ""
    if report.release is None:
        problem = f": {report.error}" if report.error else ""
        return "False", DeviceReason.NO_MODEL, f"it runs no model ({report.state}){problem}"
    backend = report.backend or "an unknown backend"
    message = f"it runs {report.release} on {backend}{_clock_skew(facts.stored, report)}"
    return "True", DeviceReason.DETECTING, message


def _clock_skew(stored: StoredReport, report: DeviceReport) -> str:
    """How far the device's clock is off: robots boot without a network and so without the time."""
    ahead = parse_time(report.reported_at).timestamp() - stored.modified_at
    steps = int(abs(ahead) // SKEW_SECONDS)
    if not steps:
        return ""
    return f"; its clock is more than {steps * SKEW_SECONDS // 60} min {'ahead' if ahead > 0 else 'behind'}"


def _up_to_date(facts: DeviceFacts) -> _State:
    report = facts.stored.report
    if report is None:
        return "Unknown", DeviceReason.REPORT_INVALID, facts.stored.problem or ""
    desired = _desired(report, facts.newest)
    channel = f"channel {report.channel} of {report.model}"
    if desired is None:
        return "Unknown", DeviceReason.NOTHING_PUBLISHED, f"no version of {channel} is known"
    if report.version is not None and report.version >= desired:
        return "True", DeviceReason.CURRENT, f"it runs v{report.version}, the newest of {channel}"
    runs = f"v{report.version}" if report.version is not None else report.release or "no release"
    message = f"it runs {runs}; {channel} is at v{desired}"
    turn = _TURNS.get(report.rollout or "") if report.failed_version is None else None
    if turn is not None:
        return "False", turn, f"{message}: {_waits(report)}"
    if report.error:
        return "False", DeviceReason.REFUSED, f"{message}: {report.error}"
    return "False", DeviceReason.BEHIND, f"{message}; the device is {report.state}"


_TURNS: Mapping[str, DeviceReason] = {
    Turn.WAITING: DeviceReason.WAITING,
    Turn.PAUSED: DeviceReason.ROLLOUT_PAUSED,
    Turn.HALTED: DeviceReason.ROLLOUT_HALTED,
}


def _waits(report: DeviceReport) -> str:
    wave = f"the device is in wave {report.wave}" if report.wave else "the device waits"
    return f"the roll-out is {report.rollout}, {wave}" if report.rollout != Turn.WAITING else wave


def _with_conditions(status: Body, states: Mapping[ConditionType, _State], known: Body, *, now: str) -> Body:
    generation = int(known["metadata"].get("generation") or 1)
    listed = (known.get("status") or {}).get("conditions", [])
    before = {item["type"]: (item["status"], item["lastTransitionTime"]) for item in listed}
    conditions = [
        {
            "type": str(kind),
            "status": value,
            "reason": str(reason),
            "message": message[:MAX_MESSAGE],
            "lastTransitionTime": transition_time(kind, value, before, now),
            "observedGeneration": generation,
        }
        for kind, (value, reason, message) in states.items()
    ]
    return status | {"observedGeneration": generation, "conditions": conditions}
