"""MediaPipe's ObjectDetector loads the published int8 file, and finds what LiteRT finds in it."""

import io
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from atoll_contract.dataset import Dataset
from atoll_contract.document import from_json
from atoll_contract.images import resize
from atoll_contract.release import Manifest, Role
from atoll_stages.export.inference import ExportedModel
from atoll_stages.train.detections import iou_matrix
from support.converted_records import edges_of, records_of
from support.target_tools import mediapipe_python

pytestmark = [pytest.mark.targets, pytest.mark.slow, pytest.mark.timeout(3600)]

PROGRAM = Path(__file__).with_name("mediapipe_detections.py")
# The score from which a detection counts, whatever the model.
THRESHOLD = 0.5
# Of a box's edges: two pixels of the input.
MAX_DIFFERENCE = 2 / 192


Found = tuple[str, float, tuple[float, ...]]


@dataclass(frozen=True)
class Picture:
    """A labelled picture, and what is found in it: class, score, box (xmin, ymin, xmax, ymax, relative to the picture).
    MediaPipe is given the picture, and once more as Atoll resizes it to the input."""

    labels: list[tuple[str, tuple[float, ...]]]
    mediapipe: list[Found]
    mediapipe_resized: list[Found]
    litert: list[Found]


@pytest.fixture(scope="module")
def pictures(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """The validation pictures of the run."""
    (path,) = store.glob("models/local/chips/v1/manifest.json")
    manifest = from_json(Manifest, path.read_bytes())
    model = manifest.file(Role.MODEL_INT8)
    assert model is not None
    detector = ExportedModel((store / model.key).read_bytes())
    (path,) = store.glob("cache/local/datasets/*/dataset.json")
    records = records_of(store, from_json(Dataset, path.read_bytes()).splits["validation"])
    images = [PIL.Image.open(io.BytesIO(record["image/encoded"][0])) for record in records]
    inputs = [resize(image, detector.side) for image in images]
    folder = tmp_path_factory.mktemp("mediapipe")
    as_they_are = _detect(store / model.key, images, folder / "as-they-are")
    resized = _detect(store / model.key, [PIL.Image.fromarray(image) for image in inputs], folder / "resized")
    return [
        Picture(
            labels=[
                (name.decode(), edges)
                for name, edges in zip(record["image/object/class/text"], edges_of(record), strict=True)
            ],
            mediapipe=found,
            mediapipe_resized=found_resized,
            litert=[
                (manifest.labels[label], float(score), (left, top, right, bottom))
                for label, score, (top, left, bottom, right) in zip(own.classes, own.scores, own.boxes, strict=True)
            ],
        )
        for record, own, found, found_resized in zip(
            records, detector.detect_all(inputs), as_they_are, resized, strict=True
        )
    ]


def _detect(model: Path, images: Sequence[PIL.Image.Image], folder: Path) -> list[list[Found]]:
    """What MediaPipe finds in each image."""
    folder.mkdir()
    files = [folder / f"{number}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        image.save(file)
    # It goes by the name's ending.
    copy = shutil.copyfile(model, folder / "model.tflite")
    command: list[str | Path] = [mediapipe_python(), PROGRAM, copy, *files]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [
        [
            (name, score, (x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height))
            for name, score, (x, y, width, height) in detections
        ]
        for image, detections in zip(images, json.loads(done.stdout.splitlines()[-1]), strict=True)
    ]


def test_most_pictures_best_detection_has_the_right_class(pictures: list[Picture]) -> None:
    best = [(picture, *picture.mediapipe[0]) for picture in pictures if picture.mediapipe[0][1] > THRESHOLD]
    right = [
        name in [label for label, edges in picture.labels if _overlap(edges, box) > 0.5]
        for picture, name, _, box in best
    ]
    assert sum(right) >= 3
    assert np.mean(right) > 0.5


def test_it_finds_what_litert_finds(pictures: list[Picture]) -> None:
    """MediaPipe's boxes are whole pixels, and those that leave the picture are clipped in another way."""
    sure = [
        (item, picture.mediapipe_resized)
        for picture in pictures
        for item in picture.litert
        if item[1] > THRESHOLD and min(item[2]) > 0.0 and max(item[2]) < 1.0
    ]
    assert len(sure) > 10
    for (name, score, box), found in sure:
        same = [edges for other, value, edges in found if other == name and abs(value - score) < 1e-6]
        assert any(np.abs(np.subtract(edges, box)).max() < MAX_DIFFERENCE for edges in same)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(iou_matrix(np.array([one]), np.array([other]))[0, 0])
