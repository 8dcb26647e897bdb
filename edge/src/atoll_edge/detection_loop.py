"""The detector's thread: one detector for all cameras, which get it in turns, each with its newest frame."""

import threading
import time
from collections.abc import Sequence

from atoll_edge.camera.source import LatestFrames
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.pipeline import Pipeline
from atoll_edge.threads import RepeatingThread

# How long the thread waits for a frame: loads and restarts of the detector continue without one.
TAKE_SECONDS = 0.05
# A camera without a frame for this long leaves its share of the detector to the others.
SHARING_SECONDS = 1.0


class DetectionLoop:
    """Runs from `start` to `stop`, and then closes the detector."""

    def __init__(self, detector: DetectorManager, frames: LatestFrames, pipelines: Sequence[Pipeline]) -> None:
        self._detector = detector
        self._frames = frames
        self._pipelines = tuple(pipelines)
        self._stopping = threading.Event()
        self._thread = RepeatingThread("detect", self._step, self._stopping)

    @property
    def alive(self) -> bool:
        return self._thread.healthy

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2.0)
        self._detector.close()

    def _step(self) -> None:
        taken = self._frames.take(TAKE_SECONDS)
        now = time.monotonic()
        if taken is None or not self._pipelines[taken[0]].wants(now):
            self._detector.step(None)
            return
        index, frame = taken
        result = self._detector.step(frame)
        self._pipelines[index].finish(frame, result, self._sharing(now))

    def _sharing(self, now: float) -> int:
        """How many cameras share the detector now."""
        return max(1, sum(now - pipeline.frame_at < SHARING_SECONDS for pipeline in self._pipelines))
