"""Letterboxed detection shows the model what training showed it, and finds objects where they are in the frame."""

import numpy as np
import pytest
from PIL import Image

from atoll_contract.images import PADDING, Resize, resize
from atoll_contract.release import Detection
from atoll_edge.detector.letterbox import LetterboxedModel, with_resize
from atoll_edge.detector.outputs import ModelOutput
from atoll_edge.detector.tiling import TiledModel, Tiling

INPUT = 64
SIZES = [(640, 360), (640, 480), (360, 640)]


class RedFinder:
    """Finds the red pixels of its input as one box, and one box in the padding above them, if there is any."""

    width = height = INPUT

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def detect(self, image: Image.Image) -> ModelOutput:
        pixels = resize(image, INPUT)
        self.seen.append(pixels)
        found = []
        rows, columns = np.nonzero((pixels[..., 0] > PADDING) & (pixels[..., 1] < PADDING))
        if len(rows):
            corners = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            found.append(Detection(0, 0.9, tuple(float(corner) / INPUT for corner in corners)))
        if (pixels[0] == PADDING).all():
            found.append(Detection(0, 0.8, (0.0, 0.2, 2 / INPUT, 0.4)))
        return ModelOutput(tuple(found), 3)


def picture(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Black, with a red box of left, top, right, bottom in pixels."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), box)
    return image


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_model_sees_what_the_contract_makes_of_the_frame(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image, model = Image.fromarray(noise), RedFinder()
    LetterboxedModel(model).detect(image)
    np.testing.assert_array_equal(model.seen[0], resize(image, INPUT, Resize.LETTERBOX))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_object_is_found_where_it_is_in_the_frame(size: tuple[int, int]) -> None:
    """Within half a pixel of the model's input."""
    width, height = size
    box = (width // 4, height // 3, width // 4 + 90, height // 3 + 70)
    output = LetterboxedModel(RedFinder()).detect(picture(size, box))
    (found,) = output.detections
    ymin, xmin, ymax, xmax = found.box
    pixels = np.array([xmin * width, ymin * height, xmax * width, ymax * height])
    assert (np.abs(pixels - box) <= 0.5 * max(size) / INPUT).all()
    assert found.score == 0.9
    assert output.non_finite == 3


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("how", Resize)
def test_tiles_keep_their_aspect_too(how: Resize, size: tuple[int, int]) -> None:
    """The object lies in one tile whole, and is found there, in the place that it has in the frame."""
    width, height = size
    box = (width // 8, height // 8, width // 8 + width // 8, height // 8 + height // 8)
    finder = RedFinder()
    tiled = TiledModel(with_resize(finder, how), Tiling(rows=2, columns=2))
    found = [item for item in tiled.detect(picture(size, box)).detections if item.score == 0.9]
    assert len(found) == 1
    ymin, xmin, ymax, xmax = found[0].box
    pixels = np.array([xmin * width, ymin * height, xmax * width, ymax * height])
    assert (np.abs(pixels - box) <= 1.5 * max(size) / INPUT).all()
    padded = (np.array([(pixels == PADDING).all(axis=2).any() for pixels in finder.seen])).all()
    assert padded == (how is Resize.LETTERBOX)


def test_a_model_that_squashes_is_given_frames_as_before() -> None:
    model = RedFinder()
    assert with_resize(model, Resize.SQUASH) is model


def test_a_frame_without_objects_gives_none() -> None:
    assert LetterboxedModel(RedFinder()).detect(Image.new("RGB", (64, 64))).detections == ()
