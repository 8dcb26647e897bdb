"""One agent: connects the parts of a device, starts and stops them, and reports their status."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_edge.camera.open import camera_name, open_source
from atoll_edge.camera.source import Frame, FrameSource
from atoll_edge.config import EdgeConfig
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import BackendChoice, DetectionResult
from atoll_edge.frc import NtMode
from atoll_edge.harvest.harvester import make_harvester
from atoll_edge.models.manager import ModelManager
from atoll_edge.pipeline import Pipeline, PipelineHooks, PipelineSettings, Streams
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.detection import FieldOfView
from atoll_edge.robot.foreign import ForeignPublishers, own_topics
from atoll_edge.robot.networktables import NetworkTables, Server, now_us
from atoll_edge.robot.topics import MatchMonitor, RobotTables
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
from atoll_edge.system import agent_version, coral_present, cores
from atoll_edge.threads import RepeatingThread
from atoll_edge.video.bandwidth import Bandwidth
from atoll_edge.video.camera_publisher import CameraPublisher, mode_text, stream_hosts
from atoll_edge.video.overlay import annotated
from atoll_edge.video.stream import MjpegStream, PortTaken
from atoll_edge.video.viewer import StreamLimits
from atoll_edge.web.server import Handlers, StatusServer

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 1.0
# A slow card may hold up the activation thread for a while, but not for this long.
DEAD_SECONDS = 30.0
IMAGE_SECONDS = 0.2
JPEG_QUALITY = 70
# Half of what a report may hold.
MAX_PROBLEM = 512


class Agent:
    """Everything that runs on the device. `make_manager` makes the model manager; `first_worker` is a detector worker
    that was started ahead."""

    def __init__(
        self,
        config: EdgeConfig,
        make_manager: Callable[[DetectorManager, MatchMonitor, Metrics], ModelManager],
        *,
        source: FrameSource | None = None,
        camera_settings: Mapping[str, Any] | None = None,
        warnings: tuple[str, ...] = (),
        detector: DetectorManager | None = None,
        first_worker: DetectorClient | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self._closing = threading.Event()
        self.tables = NetworkTables(f"atoll-{config.device_name}")
        self.match = MatchMonitor(self.tables)
        self.detector = detector or self._make_detector(first_worker)
        self.manager = make_manager(self.detector, self.match, self.metrics)
        self.harvester = make_harvester(config, self.match.now)
        self.source = source or open_source(config.camera, now_us=now_us, settings=camera_settings)
        self.streams, stream_error = self._open_streams()
        self.pipeline = self._make_pipeline()
        self.foreign = ForeignPublishers(
            self.tables, own_topics([camera_name(config.camera)], config.detection.compatibility)
        )
        self.manager.report_also(self._problem)
        self.status = StatusReporter(self, stream_error=stream_error, warnings=warnings)
        self.server = StatusServer(self._handlers(), config.http.port)
        mode = mode_text(*self.source.mode)
        self._publishers = [
            CameraPublisher(self.tables, stream.name, source=f"cv:{stream.name}", port=stream.port, mode=mode)
            for stream in (self.streams.raw, self.streams.annotated)
            if stream is not None
        ]
        self._publishing = RepeatingThread(
            "camera entries", self._publish_cameras, self._closing, every_seconds=PUBLISH_SECONDS
        )

    def start(self) -> None:
        """Starts everything and returns at once. The manager is first: a cached model loads while the rest starts."""
        self.manager.start()
        if self.harvester is not None:
            self.harvester.start()
        self.pipeline.start()
        self.server.start()
        self._start_tables()
        self._publish_cameras()
        self._publishing.start()

    def stop(self) -> None:
        self._closing.set()
        self.manager.stop()
        self.pipeline.stop()
        if self.harvester is not None:
            self.harvester.stop()
        self.server.close()
        self.tables.close()

    def _make_detector(self, first_worker: DetectorClient | None) -> DetectorManager:
        detection = self.config.detection
        return DetectorManager(
            BackendChoice(detection.backend, coral_present),
            threads=detection.threads or max(1, cores() - 1),
            probe_allowed=lambda: not self.match.now().enabled,
            spare=first_worker,
        )

    def _open_streams(self) -> tuple[Streams, str | None]:
        """Opens the streams; also returns why one of them is not served."""
        wanted = self.config.streams
        if not wanted.enabled:
            return Streams(), None
        limits = StreamLimits(wanted.fps, wanted.compression, wanted.width, wanted.height)
        bandwidth = Bandwidth(wanted.megabits_per_second)
        opened: list[MjpegStream | None] = []
        errors = []
        for name, port in ((camera_name(self.config.camera), wanted.raw_port), (wanted.name, wanted.annotated_port)):
            try:
                opened.append(
                    MjpegStream(name, port, limits=limits, max_viewers=wanted.max_viewers, bandwidth=bandwidth)
                )
            except PortTaken as error:
                logger.error("%s", error)
                errors.append(str(error))
                opened.append(None)
        return Streams(*opened), "; ".join(errors) or None

    def _make_pipeline(self) -> Pipeline:
        camera, detection = self.config.camera, self.config.detection
        view = FieldOfView(camera.horizontal_field_of_view, camera.vertical_field_of_view)
        hooks = PipelineHooks(
            now_us, lambda: self.manager.state, self._on_result, self._on_frame, self.metrics.latency.observe
        )
        return Pipeline(
            self.source,
            self.detector,
            RobotTables(self.tables, camera_name(camera), compatibility=detection.compatibility),
            self.streams,
            settings=PipelineSettings(view, detection.min_score),
            hooks=hooks,
        )

    def _on_result(self, result: DetectionResult) -> None:
        self.metrics.observe(result)
        self.manager.on_result(result)

    def _on_frame(self, frame: Frame, result: DetectionResult) -> None:
        if self.harvester is not None:
            self.harvester.on_frame(frame, result)

    def _start_tables(self) -> None:
        config = self.config
        if config.nt_mode is NtMode.SERVER:
            self.tables.start_server("", config.nt_port)
            return
        host, _, port = (config.nt_server or "").partition(":")
        self.tables.start_client(Server(config.team, host or None, int(port or config.nt_port)))

    def _publish_cameras(self) -> None:
        """Publishes where the streams are and whether the camera is connected, as addresses come late and change; then
        looks for other publishers."""
        hosts = stream_hosts(self.config.device_name, self.config.team)
        for publisher in self._publishers:
            publisher.hosts(hosts)
            publisher.connected(self.source.connected)
        self.foreign.step(time.monotonic())

    def _problem(self) -> str | None:
        """What the device's report says if all is well with the model."""
        return "; ".join(self.foreign.warnings)[:MAX_PROBLEM] or None

    def _handlers(self) -> Handlers:
        token = self.config.http.token_file
        return Handlers(
            status=self.status.status,
            live=self.status.live,
            ready=self.status.ready,
            started=self.status.started,
            metrics=lambda: self.metrics.exposition(self.status.status()),
            image=self.status.image,
            actions=self.manager.actions,
            token_file=Path(token) if token else None,
        )


def run_until(agent: Agent, stop: threading.Event) -> bool:
    """Runs `agent` until `stop` is set. Returns False if it was no longer live and must be restarted."""
    agent.start()
    started = live_at = time.monotonic()
    try:
        while not stop.wait(HEALTH_CHECK_SECONDS):
            check = agent.status.live()
            if check.ok:
                live_at = time.monotonic()
            elif time.monotonic() - live_at > DEAD_SECONDS:
                logger.error("ending, to be started anew: %s", check.reason)
                return False
        return True
    finally:
        logger.info("stopping after %.0f s", time.monotonic() - started)
        agent.stop()


class StatusReporter:
    """Makes the status, the probes and the page's image of an agent. Safe from any thread."""

    def __init__(self, agent: Agent, *, stream_error: str | None, warnings: tuple[str, ...]) -> None:
        self._agent = agent
        self._stream_error = stream_error
        self._warnings = warnings
        self._lock = threading.Lock()
        self._image: tuple[float, bytes | None] = (0.0, None)

    def status(self) -> Status:
        agent = self._agent
        now = time.monotonic()
        pipeline, streams = agent.pipeline, agent.streams
        match = agent.match.now()
        peers = agent.tables.peers
        return Status(
            device=agent.config.device_name,
            version=agent_version(),
            camera=self._camera(now),
            model=agent.manager.model_status(),
            detector=self._detector(now),
            fps=pipeline.rate.value(now),
            latency_millis=pipeline.latency.quantiles(),
            longest_gap_millis=round(pipeline.longest_gap * 1000, 1),
            network_tables=TablesStatus(connected=bool(peers), peers=peers),
            streams=StreamStatus(
                raw_port=streams.raw.port if streams.raw else None,
                annotated_port=streams.annotated.port if streams.annotated else None,
                error=self._stream_error,
            ),
            match=MatchStatus(match.enabled, match.fms_attached, match.locked),
            sync=agent.manager.sync_status(),
            harvest=agent.harvester.status() if agent.harvester is not None else None,
            seconds_since_answer=_since(pipeline.result_at, now),
            actions=tuple(agent.manager.actions) if agent.config.http.token_file else (),
            warnings=self._warnings + agent.foreign.warnings,
        )

    def _camera(self, now: float) -> CameraStatus:
        source, pipeline = self._agent.source, self._agent.pipeline
        return CameraStatus(
            source=source.description,
            connected=source.connected,
            frames=pipeline.frames,
            dropped=pipeline.dropped,
            seconds_since_frame=_since(pipeline.frame_at, now),
        )

    def _detector(self, now: float) -> DetectorStatus:
        health = self._agent.detector.health
        return DetectorStatus(
            backend=health.backend,
            losses=health.losses,
            last_loss=health.last_loss or None,
            inference_millis=self._agent.pipeline.inference.quantiles(),
            seconds_since_loss=None if health.last_loss_at is None else _since(health.last_loss_at, now),
            fallen_back=health.fallen_back,
        )

    def live(self) -> HealthCheck:
        return check_live(self._agent.pipeline.alive, self._agent.manager.seconds_since_tick)

    def ready(self) -> HealthCheck:
        return check_ready(self.status())

    def started(self) -> HealthCheck:
        """Checks whether the parts run; a device without a model has started too."""
        if self._agent.manager.state is ModelState.NO_MODEL or self._agent.pipeline.alive:
            return HealthCheck(True, "started")
        return HealthCheck(False, "the pipeline has not started")

    def image(self) -> bytes | None:
        """Returns the newest frame, annotated, as JPEG; encodes at most five times a second."""
        import cv2

        with self._lock:
            made_at, image = self._image
            displayed = self._agent.pipeline.displayed
            if displayed is None or time.monotonic() - made_at < IMAGE_SECONDS:
                return image
            drawn = annotated(displayed.frame.image, displayed.observations, displayed.footer)
            encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            self._image = (time.monotonic(), encoded)
            return encoded


def _since(moment: float, now: float) -> float | None:
    # The moment may be of another thread, and later than `now`.
    return round(max(0.0, now - moment), 3) if moment else None
