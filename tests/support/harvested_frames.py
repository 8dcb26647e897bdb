"""Harvested frames for tests: pictures, answers and notes."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.harvest import Cause, HarvestNote
from atoll_contract.release import Detection
from atoll_contract.store.base import Store
from atoll_edge.camera.source import Frame
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.model import DetectionResult, LoadedModelSpec
from support.archives import SIZE, jpeg

LABELS = ("note", "robot")
THRESHOLDS = (0.5, 0.4)
MODEL = LoadedModelSpec("colours-v3", "d" * 64, 3, LABELS, THRESHOLDS, Path("model.tflite"))
BOX = (0.25, 0.25, 0.75, 0.75)


def scene(seed: int = 0, *, side: int = 64) -> Frame:
    """A frame of coarse noise: every seed another scene."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return Frame(cells.repeat(side // 8, axis=0).repeat(side // 8, axis=1), seed + 1, 0)


def answer(*detections: Detection, model: LoadedModelSpec = MODEL) -> DetectionResult:
    return DetectionResult(model, Backend.CPU, detections, 0, 0.01)


def detection(score: float, class_id: int = 0, box: tuple[float, ...] = BOX) -> Detection:
    return Detection(class_id, score, box)


def note(number: int, picture: bytes, **changes: Any) -> HarvestNote:
    """The note of one picture that `colours-v3` saw one sure and one doubtful object in."""
    width, height = SIZE
    made = HarvestNote(
        namespace="local",
        device="pi-front",
        camera="front",
        session="abcdefgh",
        number=number,
        taken_at="2027-01-09T19:12:00Z",
        sha256=sha256(picture).hexdigest(),
        size=len(picture),
        width=width,
        height=height,
        cause=Cause.SCORE,
        doubt=float(number),
        model="colours",
        release="colours-v3",
        digest="d" * 64,
        sequence=3,
        backend="cpu",
        labels=LABELS,
        thresholds=THRESHOLDS,
        detections=(detection(0.9), detection(0.3, 1), detection(0.45, 1, (0.0, 0.5, 1.2, 1.0))),
    )
    return replace(made, **changes)


def put(store: Store, number: int, *, picture: bytes | None = None, **changes: Any) -> HarvestNote:
    """One frame in the bucket, as a device puts it there."""
    data = jpeg(number) if picture is None else picture
    made = note(number, data, **changes)
    store.put(keys.harvested_image(made.namespace, made.device, made.sha256), data)
    store.put(keys.harvested_note(made.namespace, made.device, made.sha256), to_json(made))
    return made
