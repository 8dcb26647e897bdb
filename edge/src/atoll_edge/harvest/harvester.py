"""Which frames are worth the card: the most doubtful one of each interval, and none that is like one just kept."""

import datetime
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

from atoll_contract.document import to_json
from atoll_contract.harvest import MAX_PICTURE_BYTES, HarvestNote
from atoll_contract.images import changes
from atoll_edge.camera.open import camera_name
from atoll_edge.camera.source import Frame
from atoll_edge.config import EdgeConfig, HarvestConfig, ModelConfig
from atoll_edge.detector.model import Answer
from atoll_edge.harvest.spool import Shelf
from atoll_edge.harvest.uncertainty import Doubt, DoubtMeter, cells_of
from atoll_edge.harvest.upload import Destination, Uploads, patient_store
from atoll_edge.robot.match import Match
from atoll_edge.status import HarvestStatus
from atoll_edge.threads import SteadyThread

if TYPE_CHECKING:
    from numpy.typing import NDArray


# A robot that stands in the pit all night shows one picture: it is kept once.
REMEMBERED = 256
# The share of the picture that must differ; what `atoll frames` asks for.
MIN_CHANGE = 0.01


@dataclass(frozen=True)
class Candidate:
    """A frame with what the model said of it, and when by the device's clock (seconds since 1970)."""

    frame: Frame
    answer: Answer
    thresholds: tuple[float, ...]
    doubt: Doubt
    cells: "NDArray[Any]"
    taken_at: float


class Selection:
    """Frames are offered by the detector's thread and taken by another."""

    def __init__(self, *, min_doubt: float, every_seconds: float, now: float) -> None:
        self._min_doubt = min_doubt
        self._every_seconds = every_seconds
        self._due_at = now + every_seconds
        self._lock = threading.Lock()
        self._best: Candidate | None = None
        self._kept: deque[NDArray[Any]] = deque(maxlen=REMEMBERED)

    def offer(self, candidate: Candidate) -> None:
        """Hold it until a more doubtful one comes."""
        with self._lock:
            if candidate.doubt.boxes < max(self._min_doubt, self._best.doubt.boxes if self._best else 0.0):
                return
            if not self._is_known(candidate):
                self._best = candidate

    def take(self, now: float) -> Candidate | None:
        """The most doubtful frame since the last one that was taken, once an interval is over."""
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


logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
# What a labeller sees should be what the camera saw.
JPEG_QUALITY = 95
SESSION_LETTERS = 8


class Harvester:
    """Runs from `start` to `stop`; `see` comes from the detector's thread."""

    def __init__(
        self,
        config: EdgeConfig,
        wanted: HarvestConfig,
        model: ModelConfig,
        *,
        match: Callable[[], Match],
        shelf: Shelf | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wanted = wanted
        self._model = model
        self._device = config.device_name
        self._camera = camera_name(config.camera)
        self._match = match
        self._clock = clock
        self._session = "".join(secrets.choice(string.ascii_lowercase) for _ in range(SESSION_LETTERS))
        self._meter = DoubtMeter(config.detection.min_score)
        self._selection = Selection(
            min_doubt=wanted.min_doubt, every_seconds=wanted.interval_seconds, now=time.monotonic()
        )
        self._shelf = shelf or Shelf(
            Path(config.state_dir) / "harvest",
            max_bytes=wanted.max_mebibytes * 2**20,
            min_free_bytes=wanted.min_free_mebibytes * 2**20,
        )
        destination = Destination(patient_store(model.store), model.namespace, self._device)
        self._uploads = Uploads(self._shelf, destination, allowed=lambda: not match().locked)
        self._stopping = threading.Event()
        pause = min(TURN_SECONDS, wanted.interval_seconds / 4)
        self._threads = [
            SteadyThread(name, functools.partial(self._turn, turn), self._stopping, every_seconds=pause)
            for name, turn in (("harvest", self.keep), ("harvest upload", self._uploads.turn))
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

    def see(self, frame: Frame, answer: Answer) -> None:
        """Look at one frame and the answer to it; must not block."""
        if not self._allowed():
            return
        model = answer.model
        thresholds = self._meter.thresholds(model.thresholds)
        cells = cells_of(frame)
        doubt = self._meter.read(model.digest, cells, answer.detections, thresholds)
        self._selection.offer(Candidate(frame, answer, thresholds, doubt, cells, self._clock()))

    def keep(self, now: float) -> None:
        """One turn of the card's thread: put the most doubtful frame of the interval on the shelf, and leave the rest
        of the device its room."""
        if not self._allowed():
            return
        try:
            self._shelf.give_back()
            candidate = self._selection.take(now)
            if candidate is None:
                return
            picture = _jpeg(candidate.frame)
            self._shelf.add(picture, to_json(self._note(candidate, picture)))
        except OSError as error:
            logger.warning("a doubtful frame was not kept: %s", error)
            self._failed += 1
            self._last_error = f"not kept: {error.strerror or error}"
        else:
            self._kept += 1
            self._last_error = None

    def status(self) -> HarvestStatus:
        """The counters since the start of the agent, and what lies on the card."""
        return HarvestStatus(
            waiting=self._shelf.frames,
            waiting_bytes=self._shelf.size,
            kept=self._kept,
            uploaded=self._uploads.uploaded,
            evicted=self._shelf.evicted,
            failed=self._failed + self._uploads.damaged,
            paused=not self._allowed(),
            last_error=self._last_error or self._uploads.last_error,
        )

    def _allowed(self) -> bool:
        match = self._match()
        return not match.fms_attached and (self._wanted.while_enabled or not match.enabled)

    def _turn(self, turn: Callable[[float], None]) -> None:
        turn(time.monotonic())

    def _note(self, candidate: Candidate, picture: bytes) -> HarvestNote:
        answer, frame = candidate.answer, candidate.frame
        taken = datetime.datetime.fromtimestamp(candidate.taken_at, datetime.UTC)
        return HarvestNote(
            namespace=self._model.namespace,
            device=self._device,
            camera=self._camera,
            session=self._session,
            number=self._kept + self._failed + 1,
            taken_at=taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
            sha256=hashlib.sha256(picture).hexdigest(),
            size=len(picture),
            width=frame.width,
            height=frame.height,
            cause=candidate.doubt.cause,
            doubt=round(candidate.doubt.boxes, 4),
            model=self._model.name,
            release=answer.model.name,
            digest=answer.model.digest,
            sequence=answer.model.sequence,
            backend=answer.backend,
            labels=answer.model.labels,
            thresholds=candidate.thresholds,
            detections=answer.detections,
        )


def make_harvester(config: EdgeConfig, match: Callable[[], Match]) -> Harvester | None:
    """The harvester that the settings ask for; None where they do not."""
    if not config.harvest.enabled or config.model is None:
        return None
    return Harvester(config, config.harvest, config.model, match=match)


def _jpeg(frame: Frame) -> bytes:
    """The frame as JPEG.

    Raises:
        OSError: it cannot be encoded, or would be larger than who fetches it takes.
    """
    import cv2

    encoded, data = cv2.imencode(".jpg", frame.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not encoded or data.size > MAX_PICTURE_BYTES:
        raise OSError(f"a frame of {frame.width}×{frame.height} gives no JPEG of at most {MAX_PICTURE_BYTES} bytes")
    return data.tobytes()
