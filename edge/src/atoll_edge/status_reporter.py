"""Makes the agent's status, the answers to probes, and the page's images."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_edge.config import EdgeConfig
from atoll_edge.detection_loop import DetectionLoop
from atoll_edge.detector.model import Detector
from atoll_edge.harvest.harvester import Harvester
from atoll_edge.models.manager import ModelManager
from atoll_edge.pipeline import Pipeline
from atoll_edge.robot.foreign import ForeignPublishers
from atoll_edge.robot.networktables import NetworkTables
from atoll_edge.robot.topics import MatchMonitor
from atoll_edge.status import (
    CameraStatus,
    DetectorStatus,
    HealthCheck,
    MatchStatus,
    ModelState,
    Status,
    StreamStatus,
    TablesStatus,
    check_live,
    check_ready,
)
from atoll_edge.system import agent_version
from atoll_edge.throughput import Quantiles
from atoll_edge.video.overlay import annotated

IMAGE_SECONDS = 0.2
JPEG_QUALITY = 70
# A camera that is away for a moment is no news to the device's report.
ABSENT_SECONDS = 10.0


@dataclass(frozen=True)
class AgentParts:
    """What the status is made of."""

    config: EdgeConfig
    tables: NetworkTables
    match: MatchMonitor
    detector: Detector
    manager: ModelManager
    harvester: Harvester | None
    pipelines: tuple[Pipeline, ...]
    detection: DetectionLoop
    foreign: ForeignPublishers


class StatusReporter:
    """Makes the status, the probes and the page's images of an agent. Safe from any thread."""

    def __init__(self, parts: AgentParts, *, warnings: tuple[str, ...]) -> None:
        self._parts = parts
        self._warnings = warnings
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._images: dict[str, tuple[float, bytes]] = {}

    def status(self) -> Status:
        parts = self._parts
        now = time.monotonic()
        match = parts.match.now()
        peers = parts.tables.peers
        cameras = tuple(camera_status(pipeline, now) for pipeline in parts.pipelines)
        return Status(
            device=parts.config.device_name,
            version=agent_version(),
            camera=cameras[0],
            cameras=cameras,
            model=parts.manager.model_status(),
            detector=self._detector(now),
            fps=round(sum(camera.fps for camera in cameras), 2),
            latency_millis=slowest(parts.pipelines),
            longest_gap_millis=max(camera.longest_gap_millis for camera in cameras),
            network_tables=TablesStatus(connected=bool(peers), peers=peers),
            streams=StreamStatus(
                raw_port=cameras[0].raw_port,
                annotated_port=cameras[0].annotated_port,
                error="; ".join(error for camera in cameras if (error := camera.stream_error)) or None,
            ),
            match=MatchStatus(match.enabled, match.fms_attached, match.locked),
            sync=parts.manager.sync_status(),
            harvest=parts.harvester.status() if parts.harvester is not None else None,
            seconds_since_answer=_since(max(pipeline.result_at for pipeline in parts.pipelines), now),
            actions=tuple(parts.manager.actions) if parts.config.http.token_file else (),
            warnings=self._warnings + parts.foreign.warnings,
        )

    def absent_cameras(self) -> tuple[str, ...]:
        """Returns a sentence for each of several cameras that has given no frame for ABSENT_SECONDS."""
        pipelines = self._parts.pipelines
        now = time.monotonic()
        gone = [item for item in pipelines if now - max(item.frame_at, self._started_at) > ABSENT_SECONDS]
        return tuple(f"no frame of the camera {item.name}" for item in gone) if len(pipelines) > 1 else ()

    def _detector(self, now: float) -> DetectorStatus:
        health = self._parts.detector.health
        return DetectorStatus(
            backend=health.backend,
            losses=health.losses,
            last_loss=health.last_loss or None,
            inference_millis=max(
                (pipeline.inference.quantiles() for pipeline in self._parts.pipelines), key=lambda item: item.p50 or 0.0
            ),
            seconds_since_loss=None if health.last_loss_at is None else _since(health.last_loss_at, now),
            fallen_back=health.fallen_back,
            given_up=health.given_up,
            idle=self._parts.detector.idle_accelerators,
        )

    def live(self) -> HealthCheck:
        return check_live(self._alive, self._parts.manager.seconds_since_tick)

    def ready(self) -> HealthCheck:
        return check_ready(self.status())

    def started(self) -> HealthCheck:
        """Checks whether the parts run; a device without a model has started too."""
        if self._parts.manager.state is ModelState.NO_MODEL or self._alive:
            return HealthCheck(True, "started")
        return HealthCheck(False, "the pipeline has not started")

    @property
    def _alive(self) -> bool:
        return self._parts.detection.alive and all(pipeline.alive for pipeline in self._parts.pipelines)

    def image(self, camera: str | None = None) -> bytes | None:
        """Returns the newest frame of a camera, else of the first, annotated, as JPEG; encodes at most five times a
        second."""
        import cv2

        pipelines = self._parts.pipelines
        pipeline = next((item for item in pipelines if item.name == camera), None if camera else pipelines[0])
        if pipeline is None:
            return None
        with self._lock:
            made_at, image = self._images.get(pipeline.name, (0.0, None))
            displayed = pipeline.displayed
            if displayed is None or time.monotonic() - made_at < IMAGE_SECONDS:
                return image
            drawn = annotated(displayed.frame.image, displayed.observations, displayed.footer)
            encoded: bytes = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            self._images[pipeline.name] = (time.monotonic(), encoded)
            return encoded


def camera_status(pipeline: Pipeline, now: float) -> CameraStatus:
    source, streams = pipeline.source, pipeline.streams
    return CameraStatus(
        name=pipeline.name,
        source=source.description,
        connected=source.connected,
        frames=pipeline.frames,
        dropped=pipeline.dropped,
        seconds_since_frame=_since(pipeline.frame_at, now),
        seconds_since_answer=_since(pipeline.result_at, now),
        fps=pipeline.rate.value(now),
        latency_millis=pipeline.latency.quantiles(),
        longest_gap_millis=round(pipeline.longest_gap * 1000, 1),
        raw_port=streams.raw.port if streams.raw else None,
        annotated_port=streams.annotated.port if streams.annotated else None,
        stream_error=streams.error,
    )


def slowest(pipelines: Sequence[Pipeline]) -> Quantiles:
    """Returns the latencies of the camera whose frames take longest to the robot."""
    return max((pipeline.latency.quantiles() for pipeline in pipelines), key=lambda item: item.p50 or 0.0)


def _since(moment: float, now: float) -> float | None:
    # The moment may be of another thread, and later than `now`.
    return round(max(0.0, now - moment), 3) if moment else None
