"""The agent's status, probes and picture, made from its parts when somebody asks."""

import threading
import time
from typing import TYPE_CHECKING

from atoll_edge.models.state import ModelState
from atoll_edge.system import agent_version
from atoll_edge.video.annotate import annotated
from atoll_edge.web import health
from atoll_edge.web.health import Verdict
from atoll_edge.web.status import CameraStatus, DetectorStatus, MatchStatus, Status, StreamStatus, TablesStatus

if TYPE_CHECKING:
    from atoll_edge.agent import Agent

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
