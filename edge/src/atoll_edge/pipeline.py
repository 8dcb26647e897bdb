"""The path of a frame from its camera to the robot, in threads none of which waits for the network.

Each camera has a capture thread, which keeps the newest frame, and a heartbeat thread, which publishes ten times a
second that the program runs, and an empty list of observations while the detector is silent. The one detector thread
takes the cameras' frames in turns (`detection_loop`), and has each camera's pipeline publish the observations.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from atoll_edge.camera.source import Frame, FrameSource, LatestFrames
from atoll_edge.detector.model import DetectionResult
from atoll_edge.robot.detection import Observation, View, observe
from atoll_edge.robot.topics import ActiveModel, FrameDetections, RobotRequests, RobotTables
from atoll_edge.robot.tracker import TrackedObject, Tracker
from atoll_edge.threads import RepeatingThread
from atoll_edge.throughput import Rate, ResultInterval, Samples
from atoll_edge.video.overlay import annotated
from atoll_edge.video.stream import MjpegStream

HEARTBEAT_SECONDS = 0.1
# A result that waited longer than this, on top of its own inference, is stale and is published as an empty list.
MAX_WAIT_SECONDS = 0.25
GRAB_SECONDS = 0.5


@dataclass(frozen=True)
class PipelineSettings:
    """`index` is the camera's place among the device's. `min_score` replaces the thresholds of the model where it is
    set; robot code may override both."""

    name: str
    index: int
    view: View
    min_score: float | None = None
    # None: no object is followed.
    keep_seconds: float | None = None


@dataclass(frozen=True)
class PipelineHooks:
    """What the pipeline calls: `now_us` is NetworkTables' clock, `state` the model's state for the robot; `on_result`
    and `on_frame`, with the camera's name, are called for each result in the detector thread, and must not block; so is
    `on_latency`, with the camera's name and the seconds from capture to publication."""

    now_us: Callable[[], int]
    state: Callable[[], str]
    on_result: Callable[[DetectionResult], None]
    on_frame: Callable[[str, Frame, DetectionResult], None]
    on_latency: Callable[[str, float], None]


@dataclass(frozen=True)
class DisplayedFrame:
    """The newest frame and the observations in it, for the annotated stream and the status page."""

    frame: Frame
    observations: tuple[Observation, ...]
    footer: str


@dataclass(frozen=True)
class Streams:
    """The raw and the annotated stream; either may be absent (switched off, or its port is taken: `error`)."""

    raw: MjpegStream | None = None
    annotated: MjpegStream | None = None
    error: str | None = None

    def close(self) -> None:
        for stream in (self.raw, self.annotated):
            if stream is not None:
                stream.close()


class Pipeline:
    """The pipeline of one camera. Runs from `start` to `stop`, and then closes its parts. Other threads may read the
    public attributes."""

    def __init__(
        self,
        source: FrameSource,
        frames: LatestFrames,
        tables: RobotTables,
        streams: Streams,
        *,
        settings: PipelineSettings,
        hooks: PipelineHooks,
    ) -> None:
        self.name = settings.name
        self.source = source
        self.streams = streams
        self._latest = frames
        self._tables = tables
        self._settings = settings
        self._hooks = hooks
        self._stopping = threading.Event()
        self._publishing = threading.Lock()
        self._published_at = 0.0
        self._requests = RobotRequests(enabled=True, min_score=0.0, fps_limit=0.0)
        self._threads = [
            RepeatingThread(f"capture {self.name}", self._capture, self._stopping),
            RepeatingThread(f"beat {self.name}", self._heartbeat, self._stopping, every_seconds=HEARTBEAT_SECONDS),
        ]
        self._size: tuple[int, int] | None = None
        self._taken_at = 0.0
        self._tracker: tuple[str, Tracker] | None = None
        self._interval = ResultInterval()
        self.rate = Rate()
        self.latency = Samples()
        self.inference = Samples()
        self.frames = 0
        self.results = 0
        # On the monotonic clock; 0 before the first.
        self.frame_at = 0.0
        self.result_at = 0.0
        self.longest_gap = 0.0
        self.displayed: DisplayedFrame | None = None

    @property
    def dropped(self) -> int:
        return self._latest.dropped(self._settings.index)

    @property
    def alive(self) -> bool:
        return all(thread.healthy for thread in self._threads)

    def start(self) -> None:
        width, height, _ = self.source.mode
        self._tables.resolution(width, height)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2.0)
        self.streams.close()
        self.source.close()

    def _capture(self) -> None:
        """One step of the capture thread."""
        frame = self.source.grab(GRAB_SECONDS)
        if frame is None:
            return
        self.frames += 1
        self.frame_at = time.monotonic()
        self._interval.frame_arrived(self.frame_at)
        if (frame.width, frame.height) != self._size:
            self._size = (frame.width, frame.height)
            with self._publishing:
                self._tables.resolution(*self._size)
        self._latest.put(frame, self._settings.index)
        if self.streams.raw is not None and self.streams.raw.due:
            self.streams.raw.put(lambda: frame.image)

    def wants(self, now: float) -> bool:
        """Whether the robot wants this camera's next frame: it may pause a camera, or limit its rate. Called by the
        detector thread, which then passes the frame to `finish`."""
        limit = self._requests.fps_limit
        if not self._requests.enabled or (limit > 0 and now - self._taken_at < 0.95 / limit):
            return False
        self._taken_at = now
        return True

    def finish(self, frame: Frame, result: DetectionResult | None, cameras: int) -> None:
        """Publishes and shows a frame for which the detector was asked; `cameras` share the detector now."""
        if result is None:
            self._display(frame, (), "no detections")
        else:
            self._publish(frame, result)
            self._interval.result_took(result.seconds * cameras)

    def _publish(self, frame: Frame, result: DetectionResult) -> None:
        """Publishes the observations, counts the result, and shows the frame."""
        age_us = self._hooks.now_us() - frame.captured_us
        stale = age_us > (MAX_WAIT_SECONDS + result.seconds) * 1e6
        observations = () if stale else self._observe(result)
        capture = max(0.0, age_us / 1000 - (time.monotonic() - self._taken_at) * 1000)
        detections = FrameDetections(
            frame=frame.number,
            captured_us=frame.captured_us,
            width=frame.width,
            height=frame.height,
            observations=observations,
            capture_latency_millis=capture,
            latency_millis=result.seconds * 1000,
            tracks=() if stale else self._follow(result, observations, frame.captured_us / 1e6),
        )
        model = result.model
        with self._publishing:
            self._tables.active_model(
                ActiveModel(model.name, model.digest, model.sequence, result.backend, model.labels)
            )
            self._tables.publish(detections)
            self._published_at = time.monotonic()
        self._count(result, self._hooks.now_us() - frame.captured_us)
        self._display(frame, observations, f"{model.name} {result.backend} {result.seconds * 1000:.0f} ms")
        self._hooks.on_frame(self.name, frame, result)

    def _observe(self, result: DetectionResult) -> tuple[Observation, ...]:
        min_score = self._requests.min_score or self._settings.min_score
        labels = result.model.labels
        thresholds = (min_score,) * len(labels) if min_score else result.model.thresholds
        return observe(
            result.detections, labels=labels, thresholds=thresholds, view=self._settings.view.of(result.model)
        )

    def _follow(
        self, result: DetectionResult, observations: tuple[Observation, ...], captured_at: float
    ) -> tuple[TrackedObject, ...]:
        """Takes the observations into the tracks, which end with the model that saw them."""
        if self._settings.keep_seconds is None:
            return ()
        if self._tracker is None or self._tracker[0] != result.model.digest:
            self._tracker = (result.model.digest, Tracker(self._settings.keep_seconds))
        return self._tracker[1].update(observations, captured_at)

    def _count(self, result: DetectionResult, latency_us: int) -> None:
        now = time.monotonic()
        if self.result_at:
            self.longest_gap = max(self.longest_gap, now - self.result_at)
        self.results += 1
        self.result_at = now
        self.rate.tick(now)
        self.latency.add(latency_us / 1e6)
        self.inference.add(result.seconds)
        self._hooks.on_latency(self.name, latency_us / 1e6)
        self._hooks.on_result(result)

    def _display(self, frame: Frame, observations: tuple[Observation, ...], footer: str) -> None:
        self.displayed = DisplayedFrame(frame, observations, footer)
        if self.streams.annotated is not None and self.streams.annotated.due:
            self.streams.annotated.put(lambda: annotated(frame.image, observations, footer))

    def _heartbeat(self) -> None:
        """One step of the heartbeat thread."""
        with self._publishing:
            self._tables.heartbeat(self.rate.value(time.monotonic()), self._hooks.state())
            self._requests = self._tables.requests()
            timeout = MAX_WAIT_SECONDS + self._interval.seconds(self._requests.fps_limit)
            if time.monotonic() - self._published_at > timeout:
                self._publish_nothing()

    def _publish_nothing(self) -> None:
        width, height, _ = self.source.mode
        number = self.displayed.frame.number if self.displayed is not None else 0
        self._tables.publish(FrameDetections(number, self._hooks.now_us(), width, height, (), 0.0, 0.0))
        self._published_at = time.monotonic()
