"""One agent: connects the parts of a device, starts and stops them."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_edge.camera.open import open_source
from atoll_edge.camera.source import Frame, LatestFrames
from atoll_edge.cameras import CameraSetup, camera_setups
from atoll_edge.config import CameraConfig, EdgeConfig
from atoll_edge.detection_loop import DetectionLoop
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import found_accelerators
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.group import DetectorGroup
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import DetectionResult, Detector
from atoll_edge.frc import NtMode
from atoll_edge.harvest.harvester import make_harvester
from atoll_edge.models.manager import ModelManager
from atoll_edge.pipeline import Pipeline, PipelineHooks, PipelineSettings, Streams
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.calibration import read_calibration
from atoll_edge.robot.detection import View
from atoll_edge.robot.foreign import ForeignPublishers, own_topics
from atoll_edge.robot.lens import CalibratedLens, FieldOfView, Lens
from atoll_edge.robot.networktables import NetworkTables, Server, now_us
from atoll_edge.robot.topics import ExtraTopics, MatchMonitor, RobotTables
from atoll_edge.status_reporter import AgentParts, StatusReporter
from atoll_edge.system import cores
from atoll_edge.threads import RepeatingThread
from atoll_edge.video.bandwidth import Bandwidth
from atoll_edge.video.camera_publisher import CameraPublisher, mode_text, stream_hosts
from atoll_edge.video.stream import MjpegStream, PortTaken
from atoll_edge.video.viewer import StreamLimits
from atoll_edge.web.server import Handlers, StatusServer

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 1.0
# A slow card may hold up the activation thread for a while, but not for this long.
DEAD_SECONDS = 30.0
# Half of what a report may hold.
MAX_PROBLEM = 512


class Agent:
    """Everything that runs on the device. `make_manager` makes the model manager; `camera_settings` are cscore's own,
    by the name of the camera; `first_worker` is a detector worker that was started ahead."""

    def __init__(
        self,
        config: EdgeConfig,
        make_manager: Callable[[Detector, MatchMonitor, Metrics], ModelManager],
        *,
        camera_settings: Mapping[str, Mapping[str, Any]] | None = None,
        warnings: tuple[str, ...] = (),
        detector: DetectorManager | None = None,
        first_worker: DetectorClient | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self._closing = threading.Event()
        self.tables = NetworkTables(f"atoll-{config.device_name}")
        self.match = MatchMonitor(self.tables)
        self.detector = DetectorGroup([detector] if detector is not None else self._make_detectors(first_worker))
        self._counting = threading.Lock()
        self.manager = make_manager(self.detector, self.match, self.metrics)
        self.harvester = make_harvester(config, self.match.now)
        setups = camera_setups(config)
        self._frames = LatestFrames(len(setups))
        self._bandwidth = Bandwidth(config.streams.megabits_per_second)
        self.pipelines = tuple(
            self._make_pipeline(index, setup, (camera_settings or {}).get(setup.name))
            for index, setup in enumerate(setups)
        )
        self.detection = DetectionLoop(self.detector, self._frames, self.pipelines)
        self.foreign = ForeignPublishers(
            self.tables, own_topics([setup.name for setup in setups], config.detection.compatibility)
        )
        self.manager.report_also(self._problem)
        self.status = StatusReporter(self._parts(), warnings=warnings)
        self.server = StatusServer(self._handlers(), config.http.port)
        self._publishers = [
            (
                pipeline,
                CameraPublisher(
                    self.tables,
                    stream.name,
                    source=f"cv:{stream.name}",
                    port=stream.port,
                    mode=mode_text(*pipeline.source.mode),
                ),
            )
            for pipeline in self.pipelines
            for stream in (pipeline.streams.raw, pipeline.streams.annotated)
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
        for pipeline in self.pipelines:
            pipeline.start()
        self.detection.start()
        self.server.start()
        self._start_tables()
        self._publish_cameras()
        self._publishing.start()

    def stop(self) -> None:
        self._closing.set()
        self.manager.stop()
        self.detection.stop()
        for pipeline in self.pipelines:
            pipeline.stop()
        if self.harvester is not None:
            self.harvester.stop()
        self.server.close()
        self.tables.close()

    @property
    def pipeline(self) -> Pipeline:
        """The first camera's."""
        return self.pipelines[0]

    def _parts(self) -> AgentParts:
        return AgentParts(
            config=self.config,
            tables=self.tables,
            match=self.match,
            detector=self.detector,
            manager=self.manager,
            harvester=self.harvester,
            pipelines=self.pipelines,
            detection=self.detection,
            foreign=self.foreign,
        )

    def _make_detectors(self, first_worker: DetectorClient | None) -> list[DetectorManager]:
        detection = self.config.detection
        count = detection.processes
        return [
            DetectorManager(
                BackendChoice(detection.backend, functools.partial(found_accelerators, coral=number)),
                threads=detection.threads or max(1, (cores() - 1) // count),
                tiling=detection.tiling,
                spawn=functools.partial(DetectorClient, accelerator=number if count > 1 else None),
                probe_allowed=lambda: not self.match.now().enabled,
                spare=first_worker if number == 0 else None,
                # Where there are several, the others answer until one that died is back.
                keep_spare=count == 1,
            )
            for number in range(count)
        ]

    def _make_pipeline(self, index: int, setup: CameraSetup, settings: Mapping[str, Any] | None) -> Pipeline:
        config = setup.config
        source = open_source(config, now_us=now_us, settings=settings)
        tracks = self.config.tracks
        view = View(lens_of(config, source.mode), self.config.detection.object_widths)
        hooks = PipelineHooks(
            now_us, lambda: self.manager.state, self._on_result, self._on_frame, self.metrics.observe_latency
        )
        return Pipeline(
            source,
            self._frames,
            RobotTables(
                self.tables,
                setup.name,
                compatibility=setup.compatibility,
                extra=ExtraTopics(distances=bool(view.widths), tracks=tracks.enabled),
            ),
            self._open_streams(setup),
            settings=PipelineSettings(
                setup.name,
                index,
                view,
                self.config.detection.min_score,
                keep_seconds=tracks.keep_seconds if tracks.enabled else None,
            ),
            hooks=hooks,
        )

    def _open_streams(self, setup: CameraSetup) -> Streams:
        wanted = self.config.streams
        if not wanted.enabled:
            return Streams()
        limits = StreamLimits(wanted.fps, wanted.compression, wanted.width, wanted.height)
        opened: dict[str, MjpegStream] = {}
        errors = []
        ports = {"raw": (setup.name, setup.raw_port), "annotated": (setup.annotated_name, setup.annotated_port)}
        for kind, (name, port) in ports.items():
            try:
                opened[kind] = MjpegStream(
                    name, port, limits=limits, max_viewers=wanted.max_viewers, bandwidth=self._bandwidth
                )
            except PortTaken as error:
                logger.error("%s", error)
                errors.append(str(error))
        return Streams(opened.get("raw"), opened.get("annotated"), "; ".join(errors) or None)

    def _on_result(self, result: DetectionResult) -> None:
        """Called by each detector's thread."""
        with self._counting:
            self.metrics.observe(result)
            self.manager.on_result(result)

    def _on_frame(self, camera: str, frame: Frame, result: DetectionResult) -> None:
        if self.harvester is not None:
            self.harvester.on_frame(camera, frame, result)

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
        for pipeline, publisher in self._publishers:
            publisher.hosts(hosts)
            publisher.connected(pipeline.source.connected)
        self.foreign.step(time.monotonic())

    def _problem(self) -> str | None:
        """What the device's report says if all is well with the model."""
        return "; ".join(self.foreign.warnings + self.status.absent_cameras())[:MAX_PROBLEM] or None

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


def lens_of(camera: CameraConfig, mode: tuple[int, int, int]) -> Lens:
    """Returns the lens of a camera.

    Raises:
        CalibrationError: its calibration cannot be used.
    """
    calibration = camera.calibration
    if calibration is None:
        return FieldOfView(camera.horizontal_field_of_view, camera.vertical_field_of_view)
    made_at = (calibration.width, calibration.height) if calibration.width and calibration.height else None
    lens = CalibratedLens(read_calibration(Path(calibration.path), size=mode[:2], file_size=made_at))
    if lens.uncertain:
        logger.warning(
            "%s does not reach %.0f %% of the picture, its corners; they count as free of distortion",
            calibration.path,
            max(1.0, lens.uncertain * 100),
        )
    return lens


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
