"""The detectors' threads: whichever detector is free takes the newest frame of the camera whose turn it is.

One detector serves all cameras, and so do several, each of them with a thread of its own here.
"""

import functools
import math
import threading
import time
from collections.abc import Sequence

from atoll_edge.camera.source import Frame, LatestFrames
from atoll_edge.detector.group import DetectorGroup
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.pipeline import Pipeline
from atoll_edge.threads import RepeatingThread

# How long the thread waits for a frame: loads and restarts of the detector continue without one.
TAKE_SECONDS = 0.05
# A camera without a frame for this long leaves its share of the detector to the others.
SHARING_SECONDS = 1.0


class DetectionLoop:
    """Runs from `start` to `stop`, and then closes the detectors."""

    def __init__(self, detectors: DetectorGroup, frames: LatestFrames, pipelines: Sequence[Pipeline]) -> None:
        self._detectors = detectors
        self._frames = frames
        self._pipelines = tuple(pipelines)
        self._stopping = threading.Event()
        self._threads = [
            RepeatingThread(f"detect {number}", functools.partial(self._step, detector), self._stopping)
            for number, detector in enumerate(detectors.members, 1)
        ]

    @property
    def alive(self) -> bool:
        return all(thread.healthy for thread in self._threads)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2.0)
        self._detectors.close()

    def _step(self, detector: DetectorManager) -> None:
        if not detector.serving and any(other.serving for other in self._detectors.members):
            # It would only keep the frames from the others.
            detector.step(None)
            self._stopping.wait(TAKE_SECONDS)
            return
        taken = self._frames.take(TAKE_SECONDS)
        if taken is None:
            detector.step(None)
            return
        index, frame = taken
        try:
            self._detect(detector, self._pipelines[index], frame)
        finally:
            self._frames.release(index)

    def _detect(self, detector: DetectorManager, pipeline: Pipeline, frame: Frame) -> None:
        now = time.monotonic()
        if not pipeline.wants(now):
            detector.step(None)
            return
        result = detector.step(frame)
        pipeline.finish(frame, result, self._sharing(now))

    def _sharing(self, now: float) -> int:
        """How many cameras share one detector now."""
        cameras = sum(now - pipeline.frame_at < SHARING_SECONDS for pipeline in self._pipelines)
        return max(1, math.ceil(cameras / len(self._threads)))
