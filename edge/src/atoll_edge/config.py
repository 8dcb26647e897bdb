"""The settings of an edge device, as `config.yaml` has them."""

from __future__ import annotations

import re
import socket
from enum import StrEnum

from msgspec import field

from atoll_contract.document import Document
from atoll_contract.store_spec import StoreSpec
from atoll_edge.detector.tiling import Tiling
from atoll_edge.frc import NtMode
from atoll_edge.robot.seed_topics import Compatibility

# In metres, of what a distance is wanted of.
MIN_OBJECT_WIDTH, MAX_OBJECT_WIDTH = 0.001, 100.0


class Verify(StrEnum):
    """How a release is verified. `digest-only` trusts everyone who can write to the bucket."""

    REQUIRED = "required"
    DIGEST_ONLY = "digest-only"


class WantedBackend(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    EDGETPU = "edgetpu"
    QNN = "qnn"
    RKNN = "rknn"


class CalibrationConfig(Document, frozen=True):
    """A calibration by PhotonVision or WPILib; `width` and `height` of the pictures for which it was made, where the
    file does not say."""

    path: str
    width: int | None = None
    height: int | None = None


class CameraConfig(Document, frozen=True):
    """`path`: a device (`/dev/video0`, better a stable `/dev/v4l/by-path/…`), a URL, a file or folder, or
    `synthetic`. Field of view in degrees. The ports are those of its streams; without them the first camera has those
    of `streams`, and each further one the next two."""

    name: str | None = None
    path: str | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    horizontal_field_of_view: float = 60.0
    vertical_field_of_view: float = 47.0
    raw_port: int | None = None
    annotated_port: int | None = None
    # In place of the field of view.
    calibration: CalibrationConfig | None = None


class DetectionConfig(Document, frozen=True):
    """`compatibility` is the format of the table `ML`, which `compatibility_camera` has: the first, where it is not
    set. `object_widths` are the true widths of objects in metres, by label, for their distances; they go before those
    of the release. `processes` detectors run at the same time, for several cameras."""

    backend: WantedBackend = WantedBackend.AUTO
    # Of each process; 0: all cores but one, shared among the processes.
    threads: int = 0
    processes: int = 1
    # Overrides the thresholds of the manifest.
    min_score: float | None = None
    compatibility: Compatibility = Compatibility.AXON
    compatibility_camera: str | None = None
    object_widths: dict[str, float] = field(default_factory=dict)
    # Shows the model parts of each picture, too: small objects are found, at the price of an inference for each part.
    tiling: Tiling | None = None


class TracksConfig(Document, frozen=True):
    """Follows objects from frame to frame. An object keeps its number for `keep_seconds` in which no frame shows it."""

    enabled: bool = False
    keep_seconds: float = 1.2


class StreamConfig(Document, frozen=True):
    """`name` is the name of the annotated stream for dashboards: `Axon` (2021) or `MLOut` (2019, 2020). `fps`,
    `compression`, `width` and `height` are the most that a viewer gets; `max_viewers` is for each stream, and
    `megabits_per_second` for all streams of the device."""

    enabled: bool = True
    raw_port: int = 1181
    annotated_port: int = 1182
    name: str = "Axon"
    fps: int = 15
    compression: int = 30
    width: int = 320
    height: int = 240
    max_viewers: int = 3
    megabits_per_second: float = 7.0


class HttpConfig(Document, frozen=True):
    """Without `token_file` the page has no buttons."""

    port: int = 5808
    token_file: str | None = None


class ModelConfig(Document, frozen=True):
    """Where the model comes from. `public_key_files` are PEM files of Ed25519 keys; any of them may have signed."""

    namespace: str
    name: str
    store: StoreSpec
    channel: str = "stable"
    verify: Verify = Verify.REQUIRED
    public_key_files: tuple[str, ...] = ()
    poll_seconds: float = 30.0
    match_lock: bool = True
    report_seconds: float = 60.0


class HarvestConfig(Document, frozen=True):
    """Keeps frames of which the model is uncertain; needs `model`, for its bucket. `min_doubt` is in boxes (see
    `harvest.uncertainty`). `while_enabled` also harvests while the robot is enabled off the field, at practice."""

    enabled: bool = False
    interval_seconds: float = 10.0
    min_doubt: float = 0.5
    max_mebibytes: int = 200
    min_free_mebibytes: int = 512
    while_enabled: bool = False


class EdgeConfig(Document, frozen=True):
    """The whole configuration of one device. `camera` is the only one, `cameras` are several."""

    device: str | None = None
    team: int | None = None
    # None: that of frc.json, else a client.
    nt_mode: NtMode | None = None
    # `host` or `host:port` instead of the team's addresses.
    nt_server: str | None = None
    nt_port: int = 5810
    state_dir: str = "/var/lib/atoll-edge"
    # A bundle in the image, for use until a release was verified.
    factory_bundle: str | None = None
    camera: CameraConfig = CameraConfig()
    cameras: tuple[CameraConfig, ...] = ()
    detection: DetectionConfig = DetectionConfig()
    tracks: TracksConfig = TracksConfig()
    streams: StreamConfig = StreamConfig()
    http: HttpConfig = HttpConfig()
    model: ModelConfig | None = None
    harvest: HarvestConfig = HarvestConfig()

    @property
    def device_name(self) -> str:
        """The name in keys and topics: that of the settings, else the host's, without what a key cannot have."""
        host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
        return self.device or host or "device"
