"""One agent: the parts of a device put together, started in the order of their need, and stopped."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atoll_edge.camera.open import camera_name, open_source
from atoll_edge.camera.source import Frame, FrameSource
from atoll_edge.config import EdgeConfig
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer, BackendChoice
from atoll_edge.frc import NtMode
from atoll_edge.harvest.harvester import make_harvester
from atoll_edge.models.manager import ModelManager
from atoll_edge.pipeline import Pipeline, PipelineSettings, Streams
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.detection import FieldOfView
from atoll_edge.robot.match import MatchMonitor
from atoll_edge.robot.networktables import NetworkTables, Server, now_us
from atoll_edge.robot.topics import RobotTables
from atoll_edge.status import CameraStatus, DetectorStatus, MatchStatus, ModelState, Status, StreamStatus, TablesStatus
from atoll_edge.system import agent_version, coral_present, cores
from atoll_edge.threads import SteadyThread
from atoll_edge.video.overlay import annotated
from atoll_edge.video.stream import CameraEntry, MjpegStream, PortTaken, StreamLimits, mode_text
from atoll_edge.web import server as health
from atoll_edge.web.server import Site, StatusServer, Verdict

logger = logging.getLogger(__name__)

ENTRY_SECONDS = 2.0
LOOK_SECONDS = 1.0
# A slow card may hold the supervisor up for a while; longer than this it is no card that is slow.
DEAD_SECONDS = 30.0


class Agent:
    """Everything that runs on the device. `make_manager` makes what decides on the model, `first_child` was started
    ahead."""

    def __init__(
        self,
        config: EdgeConfig,
        make_manager: Callable[[DetectorKeeper, MatchMonitor, Metrics], ModelManager],
        *,
        source: FrameSource | None = None,
        camera_settings: Mapping[str, Any] | None = None,
        warnings: tuple[str, ...] = (),
        keeper: DetectorKeeper | None = None,
        first_child: DetectorClient | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self._warnings = warnings
        self._closing = threading.Event()
        self.tables = NetworkTables(f"atoll-{config.device_name}")
        self.match = MatchMonitor(self.tables)
        self.keeper = keeper or self._make_keeper(first_child)
        self.manager = make_manager(self.keeper, self.match, self.metrics)
        self.harvester = make_harvester(config, self.match.now)
        self.source = source or open_source(config.camera, now_us=now_us, settings=camera_settings)
        self.streams, self._stream_error = self._open_streams()
        self.pipeline = self._make_pipeline()
        self.status = StatusMaker(self, stream_error=self._stream_error, warnings=warnings)
        self.server = StatusServer(self._site(), config.http.port)
        mode = mode_text(*self.source.mode)
        self._camera_entries = [
            CameraEntry(self.tables, stream.name, source=f"cv:{stream.name}", port=stream.port, mode=mode)
            for stream in (self.streams.raw, self.streams.marked)
            if stream is not None
        ]
        self._entries = SteadyThread(
            "camera entries", self._publish_entries, self._closing, every_seconds=ENTRY_SECONDS
        )

    def _make_keeper(self, first_child: DetectorClient | None) -> DetectorKeeper:
        detection = self.config.detection
        return DetectorKeeper(
            BackendChoice(detection.backend, coral_present),
            threads=detection.threads or max(1, cores() - 1),
            probe_allowed=lambda: not self.match.now().enabled,
            spare=first_child,
        )

    def _make_pipeline(self) -> Pipeline:
        camera, detection = self.config.camera, self.config.detection
        view = FieldOfView(camera.horizontal_field_of_view, camera.vertical_field_of_view)
        tables = RobotTables(self.tables, camera_name(camera), compatibility=detection.compatibility)
        return Pipeline(
            self.source,
            self.keeper,
            tables,
            streams=self.streams,
            settings=PipelineSettings(view, detection.min_score),
            now_us=now_us,
            on_answer=self._answered,
            on_frame=self._answered_frame,
            state=lambda: self.manager.state,
        )

    def _answered(self, answer: Any) -> None:
        self.metrics.observe(answer)
        self.manager.on_answer(answer)

    def _answered_frame(self, frame: Frame, answer: Answer) -> None:
        if self.harvester is not None:
            self.harvester.see(frame, answer)

    def start(self) -> None:
        """Start everything; returns at once. The manager comes first: a cached model loads while the rest starts."""
        self.manager.start()
        if self.harvester is not None:
            self.harvester.start()
        self.pipeline.start()
        self.server.start()
        self._start_tables()
        self._publish_entries()
        self._entries.start()

    def stop(self) -> None:
        self._closing.set()
        self.manager.stop()
        self.pipeline.stop()
        if self.harvester is not None:
            self.harvester.stop()
        self.server.close()
        self.tables.close()

    def _start_tables(self) -> None:
        config = self.config
        if config.nt_mode is NtMode.SERVER:
            self.tables.start_server("", config.nt_port)
            return
        host, _, port = (config.nt_server or "").partition(":")
        self.tables.start_client(Server(config.team, host or None, int(port or config.nt_port)))

    def _open_streams(self) -> tuple[Streams, str | None]:
        wanted = self.config.streams
        if not wanted.enabled:
            return Streams(), None
        limits = StreamLimits(wanted.fps, wanted.compression, wanted.width, wanted.height)
        width, height, _ = self.source.mode
        opened: list[MjpegStream | None] = []
        errors = []
        camera = getattr(self.source, "camera", None)
        name = camera_name(self.config.camera)
        for stream, port, own in ((name, wanted.raw_port, camera), (wanted.name, wanted.annotated_port, None)):
            try:
                opened.append(MjpegStream(stream, port, size=(width, height), limits=limits, camera=own))
            except PortTaken as error:
                logger.error("%s", error)
                errors.append(str(error))
                opened.append(None)
        return Streams(*opened), "; ".join(errors) or None

    def _publish_entries(self) -> None:
        """Tell dashboards where the streams are, and whether the camera is there; addresses come late, and change."""
        hosts = stream_hosts(self.config)
        for entry in self._camera_entries:
            entry.at(hosts)
            entry.connected(self.source.connected)

    def _site(self) -> Site:
        token = self.config.http.token_file
        return Site(
            status=self.status.status,
            live=self.status.live,
            ready=self.status.ready,
            started=self.status.started,
            metrics=lambda: self.metrics.exposition(self.status.status()),
            picture=self.status.picture,
            actions=self.manager.actions,
            token_file=Path(token) if token else None,
        )


def stream_hosts(config: EdgeConfig) -> list[str]:
    """Names and addresses under which a dashboard reaches this device."""
    hosts = [f"{config.device_name}.local"]
    team = config.team or 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only says from which of its addresses it would be.
            probe.connect((f"10.{team // 100}.{team % 100}.2", 9))
            hosts.append(probe.getsockname()[0])
        except OSError:
            logger.debug("no network yet; streams are announced by name only")
    return hosts


def run_until(agent: Agent, stop: threading.Event) -> bool:
    """Run `agent` until `stop` is set; False where it ended because it no longer lived, and has to be started anew."""
    agent.start()
    started = lived = time.monotonic()
    try:
        while not stop.wait(LOOK_SECONDS):
            verdict = agent.status.live()
            if verdict.ok:
                lived = time.monotonic()
            elif time.monotonic() - lived > DEAD_SECONDS:
                logger.error("ending, to be started anew: %s", verdict.reason)
                return False
        return True
    finally:
        logger.info("stopping after %.0f s", time.monotonic() - started)
        agent.stop()


PICTURE_SECONDS = 0.2
JPEG_QUALITY = 70


class StatusMaker:
    """Reads the agent; safe from any thread."""

    def __init__(self, agent: "Agent", *, stream_error: str | None, warnings: tuple[str, ...]) -> None:
        self._agent = agent
        self._stream_error = stream_error
        self._warnings = warnings
        self._lock = threading.Lock()
        self._picture: tuple[float, bytes | None] = (0.0, None)

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
                annotated_port=streams.marked.port if streams.marked else None,
                error=self._stream_error,
            ),
            match=MatchStatus(match.enabled, match.fms_attached, match.locked),
            sync=agent.manager.sync_status(),
            harvest=agent.harvester.status() if agent.harvester is not None else None,
            seconds_since_answer=_since(pipeline.answer_at, now),
            actions=tuple(agent.manager.actions) if agent.config.http.token_file else (),
            warnings=self._warnings,
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
        known = self._agent.keeper.health
        return DetectorStatus(
            backend=known.backend,
            losses=known.losses,
            last_loss=known.last_loss or None,
            inference_millis=self._agent.pipeline.inference.quantiles(),
            seconds_since_loss=None if known.last_loss_at is None else _since(known.last_loss_at, now),
            fallen_back=known.fallen_back,
        )

    def live(self) -> Verdict:
        return health.live(self._agent.pipeline.alive, self._agent.manager.seconds_since_tick)

    def ready(self) -> Verdict:
        return health.ready(self.status())

    def started(self) -> Verdict:
        """Started means that the parts run; a device without a model has started too."""
        if self._agent.manager.state is ModelState.NO_MODEL or self._agent.pipeline.alive:
            return Verdict(True, "started")
        return Verdict(False, "the pipeline has not started")

    def picture(self) -> bytes | None:
        """The newest frame, annotated, as JPEG; encoded at most five times a second."""
        import cv2

        with self._lock:
            made_at, picture = self._picture
            shown = self._agent.pipeline.shown
            if shown is None or time.monotonic() - made_at < PICTURE_SECONDS:
                return picture
            drawn = annotated(shown.frame.picture, shown.observations, shown.footer)
            encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            self._picture = (time.monotonic(), encoded)
            return encoded


def _since(moment: float, now: float) -> float | None:
    return round(now - moment, 3) if moment else None
