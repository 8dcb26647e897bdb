"""Training and evaluation letterbox with the function that the edge uses, and boxes go with the images."""

from collections.abc import Iterable

import numpy as np
import pytest

from atoll_contract import images as preprocess
from atoll_contract.document import replace
from atoll_contract.images import Preprocessing, Resize, boxes_in_image
from atoll_contract.train_spec import Architecture, TrainSpec
from atoll_stages.train.config import describe_config, make_config
from atoll_stages.train.dataset import BatchLoader
from atoll_stages.train.detections import Detections, detect_examples
from atoll_stages.train.evaluate import evaluate
from atoll_stages.train.sampling import Sampling
from support.detection_data import CLASSES, COLOURS, labelled_image

SIDE = 96
SIZES = [(160, 90), (128, 96), (90, 160)]
# Of a version that knew no preprocessing, for the spec of the last test.
OLD_FINGERPRINT = "e84e099785189a90cd2988da3da136f3ba30a7505f3483f5be7445f01dca481f"


class ColourDetector:
    """Finds the coloured objects by the pixels of its input, and something in the first rows of it."""

    def detect_all(self, images: Iterable[np.ndarray]) -> list[Detections]:
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        boxes = [(0.0, 0.3, 3 / SIDE, 0.6)]
        for colour in COLOURS:
            distance = np.abs(image.astype(int) - colour).max(axis=2)
            rows, columns = np.nonzero(distance < 60)
            boxes.append((rows.min() / SIDE, columns.min() / SIDE, (rows.max() + 1) / SIDE, (columns.max() + 1) / SIDE))
        return Detections(np.array(boxes, np.float32), np.array([0, 0, 1]), np.array([0.95, 0.9, 0.8], np.float32))


@pytest.mark.parametrize("how", Resize)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_batch_holds_inputs_and_the_boxes_in_them(size: tuple[int, int], how: Resize) -> None:
    example = labelled_image(1, size=size)
    with BatchLoader([example], side=SIDE, batch_size=1, sampling=Sampling(0), resize=how) as loader:
        batch = loader.batch(0)
    np.testing.assert_array_equal(batch.canvases[0], preprocess.decode(example.encoded, SIDE, how))
    (seen,) = ColourDetector().detect_all(batch.canvases)
    np.testing.assert_allclose(batch.boxes[0], seen.boxes[1:], atol=1.5 / SIDE)
    back, _ = boxes_in_image(batch.boxes[0], example.region(SIDE, how))
    np.testing.assert_allclose(back, example.boxes, atol=1e-6)


@pytest.mark.parametrize("how", Resize)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_a_detector_finds_is_relative_to_the_image(size: tuple[int, int], how: Resize) -> None:
    example = labelled_image(2, size=size)
    (found,) = detect_examples(ColourDetector(), [example], side=SIDE, resize=how)
    np.testing.assert_allclose(found.boxes[-2:], example.boxes, atol=1.5 * max(size) / min(size) / SIDE)
    # What lies in the padding above the image is found nowhere in it.
    assert len(found) == (2 if how is Resize.LETTERBOX and size[0] > size[1] else 3)
    assert found.scores[-2:].tolist() == pytest.approx([0.9, 0.8])


def test_small_objects_are_counted_by_their_size_in_the_input() -> None:
    """40 pixels wide and high in a squashed input of 320, of which a letterbox of 16:9 leaves 40 × 22."""
    example = replace(
        labelled_image(0, size=(160, 90)), boxes=np.array([[0.5, 0.5, 0.625, 0.625]], np.float32), labels=np.array([0])
    )
    found = Detections(example.boxes, np.array([0]), np.array([0.9], np.float32))
    metrics = {
        how: evaluate(examples=[example], detections=[found], classes=CLASSES, side=320, resize=how) for how in Resize
    }
    assert metrics[Resize.SQUASH].ap_small is None
    assert metrics[Resize.LETTERBOX].ap_small == pytest.approx(1.0)
    assert metrics[Resize.SQUASH].ap50 == metrics[Resize.LETTERBOX].ap50 == pytest.approx(1.0)


def test_a_spec_without_the_word_trains_as_before() -> None:
    spec = TrainSpec(Architecture.FPNLITE_192, 0.35)
    letterboxed = replace(spec, preprocessing=Preprocessing(Resize.LETTERBOX))
    before, after = (make_config(item, classes=2, dataset_digest="d") for item in (spec, letterboxed))
    assert before.trainer.resize is Resize.SQUASH
    assert after.trainer.resize is Resize.LETTERBOX
    # So its checkpoints are resumed from.
    assert before.fingerprint == OLD_FINGERPRINT
    assert after.fingerprint != before.fingerprint
    assert describe_config(after)["resize"] == "letterbox"
