"""The words for where a device is with its model."""

from enum import StrEnum


class ModelState(StrEnum):
    """As the status, NetworkTables and the device report show it."""

    NO_MODEL = "NoModel"
    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying"
    STAGED = "Staged"
    DEFERRED = "Deferred"
    PROBATION = "Probation"
    ACTIVE = "Active"
    ROLLED_BACK = "RolledBack"
    REJECTED = "Rejected"
