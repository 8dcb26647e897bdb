"""Harvests frames for labelling: the most uncertain one of each interval, unless it resembles one that was kept."""

import functools
import hashlib
import logging
import secrets
import string
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.document import rfc3339, to_json
from atoll_contract.harvest import MAX_IMAGE_BYTES, HarvestNote
from atoll_contract.images import changes
from atoll_edge.camera.source import Frame
from atoll_edge.cameras import camera_setups
from atoll_edge.config import EdgeConfig, HarvestConfig, ModelConfig
from atoll_edge.detector.model import DetectionResult
from atoll_edge.harvest.spool import Destination, Spool, SpoolUploader, open_upload_store
from atoll_edge.harvest.uncertainty import Uncertainty, UncertaintyEstimator, cells_of
from atoll_edge.robot.topics import Match
from atoll_edge.status import HarvestStatus
from atoll_edge.threads import RepeatingThread

if TYPE_CHECKING:
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)

STEP_SECONDS = 0.5
# New frames are compared with this many kept ones: a robot that is parked all night shows a single image.
REMEMBERED = 256
# The share of the image by which a new frame must differ; the default of `atoll frames`.
MIN_CHANGE = 0.01
# High, so that a labeller sees what the camera saw.
JPEG_QUALITY = 95
SESSION_LETTERS = 8


@dataclass(frozen=True)
class Candidate:
    """A frame with its result; `taken_at` is the time of the device's clock in seconds since 1970."""

    camera: str
    frame: Frame
    result: DetectionResult
    thresholds: tuple[float, ...]
    uncertainty: Uncertainty
    cells: "NDArray[Any]"
    taken_at: float


class Selection:
    """Holds the most uncertain frame of the interval. The detector thread offers frames, another thread takes them."""

    def __init__(self, *, min_uncertainty: float, every_seconds: float, now: float) -> None:
        self._min_uncertainty = min_uncertainty
        self._every_seconds = every_seconds
        self._due_at = now + every_seconds
        self._lock = threading.Lock()
        self._best: Candidate | None = None
        self._kept: deque[NDArray[Any]] = deque(maxlen=REMEMBERED)

    def offer(self, candidate: Candidate) -> None:
        """Holds the frame until a more uncertain one is offered."""
        with self._lock:
            if candidate.uncertainty.boxes < max(
                self._min_uncertainty, self._best.uncertainty.boxes if self._best else 0.0
            ):
                return
            if not self._is_known(candidate):
                self._best = candidate

    def take(self, now: float) -> Candidate | None:
        """Returns the most uncertain frame since the last one, once the interval is over, else None."""
        with self._lock:
            if now < self._due_at or self._best is None:
                return None
            best, self._best = self._best, None
            self._due_at = now + self._every_seconds
            self._kept.append(best.cells)
            return best

    def _is_known(self, candidate: Candidate) -> bool:
        import numpy as np

        if not self._kept:
            return False
        return bool(changes(np.stack(self._kept), candidate.cells).min() < MIN_CHANGE)


class Harvester:
    """Runs from `start` to `stop`: the detector thread calls `on_frame`, its own threads write and upload frames."""

    def __init__(
        self,
        config: EdgeConfig,
        wanted: HarvestConfig,
        model: ModelConfig,
        *,
        match: Callable[[], Match],
        spool: Spool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wanted = wanted
        self._model = model
        self._device = config.device_name
        self._match = match
        self._clock = clock
        self._session = "".join(secrets.choice(string.ascii_lowercase) for _ in range(SESSION_LETTERS))
        # Each camera has its own scene, which flickers or does not.
        self._estimators = {
            setup.name: UncertaintyEstimator(config.detection.min_score) for setup in camera_setups(config)
        }
        self._selection = Selection(
            min_uncertainty=wanted.min_doubt, every_seconds=wanted.interval_seconds, now=time.monotonic()
        )
        self._spool = spool or Spool(
            Path(config.state_dir) / "harvest",
            max_bytes=wanted.max_mebibytes * 2**20,
            min_free_bytes=wanted.min_free_mebibytes * 2**20,
        )
        destination = Destination(open_upload_store(model.store), model.namespace, self._device)
        self._uploader = SpoolUploader(self._spool, destination, allowed=lambda: not match().locked)
        self._stopping = threading.Event()
        pause = min(STEP_SECONDS, wanted.interval_seconds / 4)
        self._threads = [
            RepeatingThread(name, functools.partial(self._step_now, step), self._stopping, every_seconds=pause)
            for name, step in (("harvest", self.keep), ("harvest upload", self._uploader.step))
        ]
        self._kept = 0
        self._failed = 0
        self._last_error: str | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            # A request that hangs ends by its own timeout, or with the process.
            thread.join(0.5)

    def on_frame(self, camera: str, frame: Frame, result: DetectionResult) -> None:
        """Considers one frame of a camera and its result; does not block."""
        if not self._allowed():
            return
        model = result.model
        estimator = self._estimators[camera]
        thresholds = estimator.thresholds(model.thresholds)
        cells = cells_of(frame)
        uncertainty = estimator.estimate(model.digest, cells, result.detections, thresholds)
        self._selection.offer(Candidate(camera, frame, result, thresholds, uncertainty, cells, self._clock()))

    def keep(self, now: float) -> None:
        """Frees space for the rest of the device, then writes the most uncertain frame of the interval to the card."""
        if not self._allowed():
            return
        try:
            self._spool.free_space()
            candidate = self._selection.take(now)
            if candidate is None:
                return
            image = _jpeg(candidate.frame)
            self._spool.add(image, to_json(self._note(candidate, image)))
        except OSError as error:
            logger.warning("a doubtful frame was not kept: %s", error)
            self._failed += 1
            self._last_error = f"not kept: {error.strerror or error}"
        else:
            self._kept += 1
            self._last_error = None

    def status(self) -> HarvestStatus:
        """Returns the counters since the start of the agent, and what is on the card."""
        return HarvestStatus(
            waiting=self._spool.frames,
            waiting_bytes=self._spool.size,
            kept=self._kept,
            uploaded=self._uploader.uploaded,
            evicted=self._spool.evicted,
            failed=self._failed + self._uploader.damaged,
            paused=not self._allowed(),
            last_error=self._last_error or self._uploader.last_error,
        )

    def _allowed(self) -> bool:
        match = self._match()
        return not match.fms_attached and (self._wanted.while_enabled or not match.enabled)

    def _step_now(self, step: Callable[[float], None]) -> None:
        step(time.monotonic())

    def _note(self, candidate: Candidate, image: bytes) -> HarvestNote:
        result, frame = candidate.result, candidate.frame
        return HarvestNote(
            namespace=self._model.namespace,
            device=self._device,
            camera=candidate.camera,
            session=self._session,
            number=self._kept + self._failed + 1,
            taken_at=rfc3339(candidate.taken_at),
            sha256=hashlib.sha256(image).hexdigest(),
            size=len(image),
            width=frame.width,
            height=frame.height,
            cause=candidate.uncertainty.cause,
            doubt=round(candidate.uncertainty.boxes, 4),
            model=self._model.name,
            release=result.model.name,
            digest=result.model.digest,
            sequence=result.model.sequence,
            backend=result.backend,
            labels=result.model.labels,
            thresholds=candidate.thresholds,
            detections=result.detections,
        )


def make_harvester(config: EdgeConfig, match: Callable[[], Match]) -> Harvester | None:
    """Makes the harvester of the settings; returns None if they do not enable it."""
    if not config.harvest.enabled or config.model is None:
        return None
    return Harvester(config, config.harvest, config.model, match=match)


def _jpeg(frame: Frame) -> bytes:
    """Encodes the frame as JPEG.

    Raises:
        OSError: it cannot be encoded, or is larger than `atoll harvest` takes.
    """
    import cv2

    encoded, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded or data.size > MAX_IMAGE_BYTES:
        raise OSError(f"a frame of {frame.width}×{frame.height} gives no JPEG of at most {MAX_IMAGE_BYTES} bytes")
    return data.tobytes()
