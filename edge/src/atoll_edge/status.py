"""The status document: what `/status`, the page and the device report are made of."""

from dataclasses import dataclass, field
from enum import StrEnum

from atoll_edge.throughput import Quantiles


@dataclass(frozen=True)
class ModelStatus:
    """The model that answers, and the one that is wanted where it is another."""

    state: str
    name: str | None = None
    digest: str | None = None
    sequence: int | None = None
    desired_sequence: int | None = None
    pinned: bool = False
    last_refusal: str | None = None


@dataclass(frozen=True)
class DetectorStatus:
    """`fallen_back`: on the CPU because the Edge TPU was lost too often, or does not answer."""

    backend: str | None
    losses: int
    last_loss: str | None
    inference_millis: Quantiles
    seconds_since_loss: float | None = None
    fallen_back: bool = False


@dataclass(frozen=True)
class CameraStatus:
    source: str
    connected: bool
    frames: int
    dropped: int
    seconds_since_frame: float | None


@dataclass(frozen=True)
class TablesStatus:
    connected: bool
    peers: tuple[str, ...]


@dataclass(frozen=True)
class StreamStatus:
    """`error` says why a stream is not served (its port is taken)."""

    raw_port: int | None
    annotated_port: int | None
    error: str | None = None


@dataclass(frozen=True)
class MatchStatus:
    """From the field's control word; `locked` holds a new model back."""

    enabled: bool
    fms_attached: bool
    locked: bool


@dataclass(frozen=True)
class SyncStatus:
    """How the last look into the store ended; times are seconds ago by the monotonic clock."""

    store: str | None = None
    last_result: str | None = None
    seconds_since_success: float | None = None
    free_bytes: int | None = None


@dataclass(frozen=True)
class HarvestStatus:
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


@dataclass(frozen=True)
class Status:
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
