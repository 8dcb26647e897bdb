"""The status document: what `/status`, the page and the device report are made of."""

from enum import StrEnum

from msgspec import field

from atoll_contract.document import Document
from atoll_edge.throughput import Quantiles


class ModelStatus(Document, frozen=True):
    """The model that answers, and the one that is wanted where it is another."""

    state: str
    name: str | None = None
    digest: str | None = None
    sequence: int | None = None
    desired_sequence: int | None = None
    pinned: bool = False
    last_refusal: str | None = None


class DetectorStatus(Document, frozen=True):
    """`fallen_back`: on the CPU because the Edge TPU was lost too often, or does not answer."""

    backend: str | None
    losses: int
    last_loss: str | None
    inference_millis: Quantiles
    seconds_since_loss: float | None = None
    fallen_back: bool = False


class CameraStatus(Document, frozen=True):
    source: str
    connected: bool
    frames: int
    dropped: int
    seconds_since_frame: float | None


class TablesStatus(Document, frozen=True):
    connected: bool
    peers: tuple[str, ...]


class StreamStatus(Document, frozen=True):
    """`error` says why a stream is not served (its port is taken)."""

    raw_port: int | None
    annotated_port: int | None
    error: str | None = None


class MatchStatus(Document, frozen=True):
    """From the field's control word; `locked` holds a new model back."""

    enabled: bool
    fms_attached: bool
    locked: bool


class SyncStatus(Document, frozen=True):
    """How the last look into the store ended; times are seconds ago by the monotonic clock."""

    store: str | None = None
    last_result: str | None = None
    seconds_since_success: float | None = None
    free_bytes: int | None = None


class HarvestStatus(Document, frozen=True):
    """Doubtful frames: on the card now (`waiting`), and since the agent started kept, uploaded, dropped for newer ones
    or for room (`evicted`), and lost (`failed`). `paused`: the match, or the robot is enabled."""

    waiting: int
    waiting_bytes: int
    kept: int
    uploaded: int
    evicted: int
    failed: int
    paused: bool
    last_error: str | None = None


class Status(Document, frozen=True):
    """One moment of the device. Holds no secret."""

    device: str
    version: str
    camera: CameraStatus
    model: ModelStatus
    detector: DetectorStatus
    fps: float
    latency_millis: Quantiles
    longest_gap_millis: float
    network_tables: TablesStatus
    streams: StreamStatus
    match: MatchStatus
    sync: SyncStatus = field(default_factory=SyncStatus)
    # None: switched off.
    harvest: HarvestStatus | None = None
    seconds_since_answer: float | None = None
    # The page's buttons; none without a token file.
    actions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    schema_version: int = 1


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
