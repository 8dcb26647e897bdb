"""Detection in tiles: what is too small in the whole image is found in a part of it, and each object once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from atoll_contract.release import Detection
from atoll_edge.camera.source import Frame
from atoll_edge.config import DetectionConfig, EdgeConfig
from atoll_edge.config_file import ConfigError, read_config
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.detector.outputs import ModelOutput
from atoll_edge.detector.tiling import TiledModel, Tiling
from atoll_edge.detector.worker import WARM_UPS
from support.polling import wait_until
from support.scripted_detector import COMMAND, SEEN

Make = Callable[..., DetectorManager]
Script = Callable[..., None]

SIZE = (640, 480)
INPUT = 64
# A scripted detector sees an object from so many pixels of its input on.
SMALLEST = 8
RED, BLUE = (255, 0, 0), (0, 0, 255)


class ScriptedModel:
    """Finds the red and the blue rectangle of an image, where they are large enough at its input size."""

    width = height = INPUT

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def detect(self, image: Image.Image) -> ModelOutput:
        self.seen.append(image.size)
        pixels = np.asarray(image)
        found = []
        for class_id, colour in enumerate((RED, BLUE)):
            rows, columns = np.nonzero((pixels == colour).all(axis=2))
            if not len(rows):
                continue
            height, width = pixels.shape[:2]
            box = (rows.min() / height, columns.min() / width, (rows.max() + 1) / height, (columns.max() + 1) / width)
            if min(box[2] - box[0], box[3] - box[1]) * INPUT >= SMALLEST:
                share = float((box[2] - box[0]) * (box[3] - box[1]))
                found.append(Detection(class_id, 0.5 + share / 2, tuple(map(float, box))))
        return ModelOutput(tuple(found), 1)


def picture(*boxes: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> Image.Image:
    """Rectangles as left, top, right, bottom in pixels."""
    image = Image.new("RGB", SIZE)
    for colour, (left, top, right, bottom) in boxes:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
    return image


def relative(left: int, top: int, right: int, bottom: int) -> tuple[float, ...]:
    width, height = SIZE
    return top / height, left / width, bottom / height, right / width


@pytest.mark.parametrize(
    "box", [(40, 40, 86, 86), (300, 220, 346, 262), (590, 430, 636, 476), (200, 10, 247, 57)], ids=str
)
def test_a_small_object_is_found_once_and_where_it_is(box: tuple[int, int, int, int]) -> None:
    image = picture((RED, box))
    assert ScriptedModel().detect(image).detections == ()
    (found,) = TiledModel(ScriptedModel(), Tiling(rows=2, columns=2, overlap=0.2)).detect(image).detections
    assert found.class_id == 0
    assert found.box == pytest.approx(relative(*box), abs=1e-6)


def test_an_object_that_tiles_cut_is_the_one_of_the_whole_image() -> None:
    large = (100, 100, 560, 400)
    (found,) = TiledModel(ScriptedModel(), Tiling()).detect(picture((BLUE, large))).detections
    assert found.box == pytest.approx(relative(*large))


class PartsModel(ScriptedModel):
    """Takes the middle of what fills a tile for a blue object, too, and is less sure of it."""

    def detect(self, image: Image.Image) -> ModelOutput:
        share = (np.asarray(image) == BLUE).all(axis=2).mean()
        output = super().detect(image)
        if image.size == SIZE or share < 0.6:
            return output
        return ModelOutput((*output.detections, Detection(1, 0.4, (0.3, 0.3, 0.6, 0.6))), output.non_finite)


def test_a_part_of_an_object_that_fills_a_tile_is_no_object() -> None:
    large = (20, 20, 620, 460)
    (found,) = TiledModel(PartsModel(), Tiling()).detect(picture((BLUE, large))).detections
    assert found.box == pytest.approx(relative(*large))


def test_an_object_before_a_larger_one_of_another_class_stays() -> None:
    red, blue = (250, 180, 330, 260), (60, 60, 600, 440)
    found = TiledModel(ScriptedModel(), Tiling()).detect(picture((BLUE, blue), (RED, red))).detections
    assert sorted(item.class_id for item in found) == [0, 1]


def test_different_objects_stay_apart_with_the_best_score_first() -> None:
    red, blue = (40, 40, 86, 86), (30, 30, 200, 200)
    tiled = TiledModel(ScriptedModel(), Tiling()).detect(picture((BLUE, blue), (RED, red)))
    assert [item.class_id for item in tiled.detections] == [1, 0]
    assert tiled.detections[0].score >= tiled.detections[1].score


def test_each_tile_takes_one_inference_and_so_does_the_whole_image() -> None:
    model = ScriptedModel()
    output = TiledModel(model, Tiling(rows=2, columns=3, overlap=0.25)).detect(picture())
    assert len(model.seen) == 7
    assert model.seen[-1] == SIZE
    assert output.non_finite == 7
    model = ScriptedModel()
    TiledModel(model, Tiling(rows=1, columns=1)).detect(picture())
    assert model.seen == [SIZE]


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (3, 3)])
def test_tiles_cover_the_image_and_overlap_as_asked(rows: int, columns: int, overlap: float) -> None:
    regions = Tiling(rows, columns, overlap).regions[:-1]
    covered = np.zeros((100, 100), int)
    for top, left, bottom, right in regions:
        covered[round(top * 100) : round(bottom * 100), round(left * 100) : round(right * 100)] += 1
    assert covered.min() >= 1
    first, second = regions[:2]
    assert (first[3] - second[1]) / (first[3] - first[1]) == pytest.approx(overlap)


def test_a_tiny_image_has_no_empty_tile() -> None:
    TiledModel(ScriptedModel(), Tiling(rows=3, columns=3)).detect(Image.new("RGB", (2, 1)))


def test_tiling_is_off_unless_the_settings_ask_for_it(tmp_path: Path) -> None:
    assert EdgeConfig().detection.tiling is None
    path = tmp_path / "config.yaml"
    path.write_text("detection: {tiling: {rows: 3, columns: 2}}\n")
    assert read_config(path).detection == DetectionConfig(tiling=Tiling(3, 2, 0.2))
    for text in ("{rows: 4}", "{columns: 0}", "{overlap: 0.6}", "{tiles: 2}"):
        path.write_text(f"detection: {{tiling: {text}}}\n")
        with pytest.raises(ConfigError, match="tiling"):
            read_config(path)


def test_the_worker_shows_the_model_the_tiles(make_detector: Make, both: LoadedModelSpec, frame: Frame) -> None:
    """The scripted backend answers each tile with the same box, which is another one in the whole image each time."""
    detector = make_detector("cpu", tiling=Tiling(1, 2, 0.0))
    detector.request(both)
    result = wait_until(lambda: detector.step(frame), what="a result", timeout_seconds=120)
    (top, left, bottom, right) = SEEN.box
    parts = [(top, left / 2, bottom, right / 2), (top, (1 + left) / 2, bottom, (1 + right) / 2), SEEN.box]
    assert sorted(detection.box for detection in result.detections) == [pytest.approx(part) for part in sorted(parts)]


def test_a_worker_has_more_time_for_more_tiles(script: Script, frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll_edge.detector.client.DETECT_SECONDS", 0.2)
    monkeypatch.setattr("atoll_edge.detector.client.TILE_SECONDS", 0.05)
    tiling = Tiling(2, 2)
    script(cpu={"hang_after": WARM_UPS * len(tiling.regions)})
    client = DetectorClient(Backend.CPU, command=COMMAND)
    try:
        client.begin_load("model.tflite", threads=1, tiling=tiling)
        wait_until(lambda: client.finished_loads(0.05), what="the model", timeout_seconds=120)
        with pytest.raises(DetectorLost, match=r"no answer within 0\.4 s"):
            client.detect(frame.image)
    finally:
        client.close()
