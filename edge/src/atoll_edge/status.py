"""The status document of `/status` and the page, and the health checks; none needs the bucket, the robot or DNS."""

from dataclasses import dataclass
from enum import StrEnum

from msgspec import field

from atoll_contract.document import Document
from atoll_edge.throughput import Quantiles

# A frame or a result that is older than this is not fresh.
FRESH_SECONDS = 2.0
MAX_TICK_SECONDS = 5.0


class ModelState(StrEnum):
    """The state of the model, as the status, NetworkTables and the device report show it."""

    NO_MODEL = "NoModel"
    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying"
    STAGED = "Staged"
    DEFERRED = "Deferred"
    PROBATION = "Probation"
    ACTIVE = "Active"
    ROLLED_BACK = "RolledBack"
    REJECTED = "Rejected"


class ModelStatus(Document, frozen=True):
    """The active model; `desired_sequence` is that of the release that the channel names."""

    state: str
    name: str | None = None
    digest: str | None = None
    sequence: int | None = None
    desired_sequence: int | None = None
    pinned: bool = False
    last_refusal: str | None = None


class DetectorStatus(Document, frozen=True):
    """`fallen_back`: another backend runs the model because those in `given_up` were lost too often, do not answer, or
    cannot run it. `idle` says of each other accelerator of the device why it does not run the model."""

    backend: str | None
    losses: int
    last_loss: str | None
    inference_millis: Quantiles
    seconds_since_loss: float | None = None
    fallen_back: bool = False
    given_up: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


class CameraStatus(Document, frozen=True):
    """One camera; rate and latency are those of its detections. `stream_error` says why a stream of it is not
    served."""

    source: str
    connected: bool
    frames: int
    dropped: int
    seconds_since_frame: float | None
    name: str = ""
    seconds_since_answer: float | None = None
    fps: float = 0.0
    latency_millis: Quantiles | None = None
    longest_gap_millis: float = 0.0
    raw_port: int | None = None
    annotated_port: int | None = None
    stream_error: str | None = None


class TablesStatus(Document, frozen=True):
    connected: bool
    peers: tuple[str, ...]


class StreamStatus(Document, frozen=True):
    """`error` says why a stream is not served, such as a port that is taken."""

    raw_port: int | None
    annotated_port: int | None
    error: str | None = None


class MatchStatus(Document, frozen=True):
    """From the field's control word; while `locked`, no new model is tried."""

    enabled: bool
    fms_attached: bool
    locked: bool


class SyncStatus(Document, frozen=True):
    """The result of the last poll of the bucket; `seconds_since_success` by the monotonic clock."""

    store: str | None = None
    last_result: str | None = None
    seconds_since_success: float | None = None
    free_bytes: int | None = None


class HarvestStatus(Document, frozen=True):
    """Uncertain frames: on the card now (`waiting`), and since the start of the agent kept, uploaded, removed for newer
    ones or for room (`evicted`), and lost (`failed`). `paused`: during a match, or while the robot is enabled."""

    waiting: int
    waiting_bytes: int
    kept: int
    uploaded: int
    evicted: int
    failed: int
    paused: bool
    last_error: str | None = None


class Status(Document, frozen=True):
    """The state of the device at one moment. Holds no secret. `camera` and the ports of `streams` are those of the
    first camera, `fps` is the sum over all cameras, and the latencies are those of the slowest."""

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
    # None if harvesting is switched off.
    harvest: HarvestStatus | None = None
    seconds_since_answer: float | None = None
    cameras: tuple[CameraStatus, ...] = ()
    # The buttons of the page; none without a token file.
    actions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    schema_version: int = 1


@dataclass(frozen=True)
class HealthCheck:
    """The result of a probe; `reason` is its body."""

    ok: bool
    reason: str


def check_live(threads_alive: bool, seconds_since_tick: float) -> HealthCheck:
    """Checks whether the program works at all: a missing camera or model is no reason to restart it."""
    if not threads_alive:
        return HealthCheck(False, "a thread of the pipeline ended")
    if seconds_since_tick > MAX_TICK_SECONDS:
        return HealthCheck(False, f"the supervisor has not ticked for {seconds_since_tick:.0f} s")
    return HealthCheck(True, "live")


def check_ready(status: Status) -> HealthCheck:
    """Checks whether the robot gets detections of fresh frames, from one camera at the least."""
    if status.model.state == ModelState.NO_MODEL:
        return HealthCheck(False, "there is no model")
    missing = [text for camera in status.cameras if (text := _missing(camera, several=len(status.cameras) > 1))]
    if len(missing) == len(status.cameras):
        return HealthCheck(False, "; ".join(missing))
    return HealthCheck(True, "; ".join(["ready", *missing]))


def _missing(camera: CameraStatus, *, several: bool) -> str | None:
    """Describes what a camera's detections lack to be fresh; None if nothing."""
    name = f" {camera.name}" if several else ""
    for what, seconds in (
        (f"frame of the camera{name}", camera.seconds_since_frame),
        (f"answer of the detector{' for the camera' + name if several else ''}", camera.seconds_since_answer),
    ):
        if seconds is None or seconds > FRESH_SECONDS:
            return f"no {what} for {FRESH_SECONDS:.0f} s"
    return None
