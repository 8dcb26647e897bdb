"""From the camera to the robot: capture, detect, publish, show. Three threads, and none waits for the network.

The capture thread keeps the newest frame, the detector thread takes it, asks the detector child and publishes; the
beat thread says ten times a second that the program lives, and that nothing is seen while the detector is silent.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from atoll_edge.camera.source import Frame, FrameSource, LatestFrame
from atoll_edge.detector.manager import DetectorKeeper
from atoll_edge.detector.model import Answer
from atoll_edge.robot.detection import FieldOfView, Observation, observe
from atoll_edge.robot.topics import Requests, RobotTables, Serving, Sighting
from atoll_edge.threads import SteadyThread
from atoll_edge.throughput import Pace, Rate, Samples
from atoll_edge.video.overlay import annotated
from atoll_edge.video.stream import MjpegStream

logger = logging.getLogger(__name__)

BEAT_SECONDS = 0.1
# An answer that waited longer than this on top of its own inference is not news, and is told as "nothing seen".
MAX_WAIT_SECONDS = 0.25
GRAB_SECONDS = 0.5


@dataclass(frozen=True)
class PipelineSettings:
    view: FieldOfView
    min_score: float | None = None


@dataclass(frozen=True)
class Shown:
    """The newest frame and what was seen in it, for the stream and the page."""

    frame: Frame
    observations: tuple[Observation, ...]
    footer: str


class Streams:
    """The raw and the annotated stream; either may be absent (switched off, port taken)."""

    def __init__(self, raw: MjpegStream | None = None, marked: MjpegStream | None = None) -> None:
        self.raw = raw
        self.marked = marked

    def close(self) -> None:
        for stream in (self.raw, self.marked):
            if stream is not None:
                stream.close()


class Pipeline:
    """Runs from `start` to `stop`. `state` is the word of the model's life that the robot is told."""

    def __init__(
        self,
        source: FrameSource,
        keeper: DetectorKeeper,
        tables: RobotTables,
        *,
        streams: Streams,
        settings: PipelineSettings,
        now_us: Callable[[], int],
        on_answer: Callable[[Answer], None] = lambda _: None,
        on_frame: Callable[[Frame, Answer], None] = lambda *_: None,
        state: Callable[[], str] = lambda: "Active",
    ) -> None:
        self._source = source
        self._keeper = keeper
        self._tables = tables
        self._streams = streams
        self._settings = settings
        self._now_us = now_us
        self._on_answer = on_answer
        self._on_frame = on_frame
        self._state = state
        self._slot = LatestFrame()
        self._stopping = threading.Event()
        self._publishing = threading.Lock()
        self._published_at = 0.0
        self._requests = Requests(enabled=True, min_score=0.0, fps_limit=0.0)
        self._threads = [
            SteadyThread("capture", self._capture, self._stopping),
            SteadyThread("detect", self._detect, self._stopping),
            SteadyThread("beat", self._beat, self._stopping, every_seconds=BEAT_SECONDS),
        ]
        self._size: tuple[int, int] | None = None
        self._taken_at = 0.0
        self._pace = Pace()
        self.rate = Rate()
        self.latency = Samples()
        self.inference = Samples()
        self.frames = 0
        self.answers = 0
        self.frame_at = 0.0
        self.answer_at = 0.0
        self.longest_gap = 0.0
        self.shown: Shown | None = None

    @property
    def dropped(self) -> int:
        return self._slot.dropped

    @property
    def alive(self) -> bool:
        return all(thread.healthy for thread in self._threads)

    def start(self) -> None:
        width, height, _ = self._source.mode
        self._tables.resolution(width, height)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2.0)
        self._keeper.close()
        self._streams.close()
        self._source.close()

    def _capture(self) -> None:
        frame = self._source.grab(GRAB_SECONDS)
        if frame is None:
            return
        self.frames += 1
        self.frame_at = time.monotonic()
        self._pace.frame(self.frame_at)
        if (frame.width, frame.height) != self._size:
            self._size = (frame.width, frame.height)
            with self._publishing:
                self._tables.resolution(*self._size)
        self._slot.put(frame)
        if self._streams.raw is not None and self._streams.raw.due:
            self._streams.raw.put(frame.picture)

    def _detect(self) -> None:
        frame = self._slot.take(GRAB_SECONDS / 10)
        now = time.monotonic()
        limit = self._requests.fps_limit
        if frame is not None and (not self._requests.enabled or (limit > 0 and now - self._taken_at < 0.95 / limit)):
            frame = None
        if frame is not None:
            self._taken_at = now
        answer = self._keeper.step(frame)
        if frame is not None:
            self._tell(frame, answer, now)

    def _tell(self, frame: Frame, answer: Answer | None, taken_at: float) -> None:
        if answer is None:
            self._show(frame, (), "no detections")
            return
        age_us = self._now_us() - frame.captured_us
        stale = age_us > (MAX_WAIT_SECONDS + answer.seconds) * 1e6
        seen = () if stale else self._observe(answer)
        capture = max(0.0, age_us / 1000 - (time.monotonic() - taken_at) * 1000)
        sighting = Sighting(
            frame=frame.number,
            captured_us=frame.captured_us,
            width=frame.width,
            height=frame.height,
            observations=seen,
            capture_latency_millis=capture,
            latency_millis=answer.seconds * 1000,
        )
        with self._publishing:
            self._tables.serving(self._serving(answer))
            self._tables.publish(sighting)
            self._mark_published()
        self._count(answer, self._now_us() - frame.captured_us)
        self._show(frame, seen, f"{answer.model.name} {answer.backend} {answer.seconds * 1000:.0f} ms")
        self._on_frame(frame, answer)

    def _observe(self, answer: Answer) -> tuple[Observation, ...]:
        floor = self._requests.min_score or self._settings.min_score
        thresholds = (floor,) * len(answer.model.labels) if floor else answer.model.thresholds
        labels = answer.model.labels
        return observe(answer.detections, labels=labels, thresholds=thresholds, view=self._settings.view)

    def _serving(self, answer: Answer) -> Serving:
        model = answer.model
        return Serving(model.name, model.digest, model.sequence, answer.backend, model.labels)

    def _count(self, answer: Answer, latency_us: int) -> None:
        now = time.monotonic()
        if self.answer_at:
            self.longest_gap = max(self.longest_gap, now - self.answer_at)
        self.answers += 1
        self.answer_at = now
        self.rate.tick(now)
        self.latency.add(latency_us / 1e6)
        self.inference.add(answer.seconds)
        self._pace.answer(answer.seconds)
        self._on_answer(answer)

    def _show(self, frame: Frame, seen: tuple[Observation, ...], footer: str) -> None:
        self.shown = Shown(frame, seen, footer)
        if self._streams.marked is not None and self._streams.marked.due:
            self._streams.marked.put(annotated(frame.picture, seen, footer))

    def _beat(self) -> None:
        with self._publishing:
            self._tables.beat(self.rate.value(time.monotonic()), self._state())
            self._requests = self._tables.requests()
            patience = MAX_WAIT_SECONDS + self._pace.seconds(self._requests.fps_limit)
            if time.monotonic() - self._published_at > patience:
                self._publish_nothing()

    def _publish_nothing(self) -> None:
        width, height, _ = self._source.mode
        number = self.shown.frame.number if self.shown is not None else 0
        self._tables.publish(Sighting(number, self._now_us(), width, height, (), 0.0, 0.0))
        self._mark_published()

    def _mark_published(self) -> None:
        self._published_at = time.monotonic()
