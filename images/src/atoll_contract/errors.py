"""The closed list of reasons, the exit code of a stage for each, and the exceptions that carry them."""

import re
from enum import IntEnum, StrEnum

MAX_MESSAGE = 1024

# The environment variable with the address of the published documentation, for the command line and the operator.
DOCS_URL = "ATOLL_DOCS_URL"

# A section of a page, as messages name it. After a letter or a slash it is a part of a user's own path.
# A section of a page of the documentation, as messages name it.
SECTION = re.compile(r"(?<![\w/.-])docs/([a-z-]+)\.md(#[a-z0-9-]+)")


class Reason(StrEnum):
    """Why a run or a stage is in its phase. Conditions, Events, results and `-o json` use no other reasons."""

    # Progress.
    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    CACHE_HIT = "CacheHit"
    ADOPTED = "Adopted"
    # Admission.
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    PROFILE_NOT_FOUND = "ProfileNotFound"
    PROFILE_CHANGED = "ProfileChanged"
    OBJECT_STORE_NOT_FOUND = "ObjectStoreNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"
    QUOTA_EXCEEDED = "QuotaExceeded"
    # Pods and nodes.
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    START_TIMEOUT = "StartTimeout"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    TOO_MANY_DISRUPTIONS = "TooManyDisruptions"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EPHEMERAL_STORAGE_EXCEEDED = "EphemeralStorageExceeded"
    PEER_LOST = "PeerLost"
    # Storage.
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    STORAGE_THROTTLED = "StorageThrottled"
    STORAGE_FORBIDDEN = "StorageForbidden"
    CREDENTIALS_EXPIRED = "CredentialsExpired"
    BUCKET_NOT_FOUND = "BucketNotFound"
    STORE_UNSUITABLE = "StoreUnsuitable"
    # Dataset.
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_CHANGED = "DatasetChanged"
    DATASET_UNSAFE = "DatasetUnsafe"
    DATASET_TOO_LARGE = "DatasetTooLarge"
    DATASET_MALFORMED = "DatasetMalformed"
    ANNOTATION_INVALID = "AnnotationInvalid"
    NO_USABLE_EXAMPLES = "NoUsableExamples"
    # Training, export and compile.
    WEIGHTS_NOT_FOUND = "WeightsNotFound"
    TRAINING_DIVERGED = "TrainingDiverged"
    QUALITY_GATE_FAILED = "QualityGateFailed"
    COMPILER_UNAVAILABLE = "CompilerUnavailable"
    COMPILE_FAILED = "CompileFailed"
    OPS_NOT_MAPPED = "OpsNotMapped"
    # Integrity and publish.
    INTEGRITY_MISMATCH = "IntegrityMismatch"
    SIGNATURE_INVALID = "SignatureInvalid"
    VERSION_CONFLICT = "VersionConflict"
    # Operator.
    JOB_NAME_CONFLICT = "JobNameConflict"
    JOB_DELETED_EXTERNALLY = "JobDeletedExternally"
    RESULT_MISSING = "ResultMissing"
    CANCELLED = "Cancelled"
    INTERNAL_ERROR = "InternalError"


class ExitCode(IntEnum):
    """Exit codes of a stage: 10-19 data, 20-29 configuration or permission, 30-39 transient, 40-49 model or compile,
    50-59 integrity and publish. Signals and all other codes are unknown and tried again."""

    OK = 0
    DATASET_NOT_FOUND = 10
    DATASET_UNSAFE = 11
    DATASET_TOO_LARGE = 12
    DATASET_MALFORMED = 13
    ANNOTATION_INVALID = 14
    NO_USABLE_EXAMPLES = 15
    DATASET_CHANGED = 16
    INVALID_SPEC = 20
    STORAGE_FORBIDDEN = 21
    BUCKET_NOT_FOUND = 22
    CREDENTIALS_EXPIRED = 23
    WEIGHTS_NOT_FOUND = 24
    DISK_FULL = 25
    STORE_UNSUITABLE = 26
    OUT_OF_MEMORY = 27
    STORAGE_UNAVAILABLE = 30
    STORAGE_THROTTLED = 31
    INTERRUPTED = 32
    PEER_LOST = 33
    INTERNAL_ERROR = 39
    TRAINING_DIVERGED = 40
    COMPILER_UNAVAILABLE = 41
    COMPILE_FAILED = 42
    OPS_NOT_MAPPED = 43
    QUALITY_GATE_FAILED = 45
    INTEGRITY_MISMATCH = 50
    SIGNATURE_INVALID = 51
    VERSION_CONFLICT = 52


_EXIT_OF_REASON = {
    Reason.COMPLETED: ExitCode.OK,
    Reason.CACHE_HIT: ExitCode.OK,
    Reason.ADOPTED: ExitCode.OK,
    Reason.SUSPENDED: ExitCode.INTERRUPTED,
    Reason.EPHEMERAL_STORAGE_EXCEEDED: ExitCode.DISK_FULL,
}


def exit_code(reason: Reason) -> ExitCode:
    """The exit code of a stage that ends with `reason`; `INTERNAL_ERROR` where no stage ends with it."""
    known = _EXIT_OF_REASON.get(reason)
    if known is not None:
        return known
    return ExitCode.__members__.get(reason.name, ExitCode.INTERNAL_ERROR)


def is_transient(code: int) -> bool:
    """Whether another attempt may help: true for the transient range, for signals and for unknown codes."""
    return code < 0 or 30 <= code < 40 or code >= 60 or 0 < code < 10


class AtollError(Exception):
    """A failure with a reason from the closed list and a message for the user.

    `message` says what failed, where (object, member, line), the value and the limit, and what to do. It contains no
    credentials.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = bounded(message)

    @property
    def code(self) -> ExitCode:
        return exit_code(self.reason)


class DatasetError(AtollError):
    """The user's data cannot be used as it is."""


class SpecError(AtollError):
    """A setting is missing or out of its range."""

    def __init__(self, message: str, reason: Reason = Reason.INVALID_SPEC) -> None:
        super().__init__(reason, message)


class ModelError(AtollError):
    """Training, export or compile failed."""


class IntegrityError(AtollError):
    """Bytes do not match their digest, or a signature is not valid."""

    def __init__(self, message: str, reason: Reason = Reason.INTEGRITY_MISMATCH) -> None:
        super().__init__(reason, message)


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """`text` on one line without control characters, cut to `limit` characters."""
    clean = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def advice(reason: Reason) -> str:
    """Returns the words that name the section about `reason`."""
    return f"what to do: docs/troubleshooting.md#{str(reason).lower()}"


def linked(text: str, site: str) -> str:
    """Returns `text` with URLs in place of the sections that it names; `site` is the address of the pages, or empty."""
    return SECTION.sub(rf"{site.rstrip('/')}/\1/\2", text) if site else text
