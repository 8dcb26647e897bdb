"""Types and reasons of an EdgeDevice's conditions: the closed list."""

from enum import StrEnum


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
