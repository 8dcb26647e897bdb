"""Squash and letterbox: where an image lies in the network's input, and where boxes are in each of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atoll_contract.document import DecodeError, from_json
from atoll_contract.images import (
    INPUT_SCALE,
    INPUT_ZERO_POINT,
    PADDING,
    Preprocessing,
    Resize,
    boxes_in_image,
    boxes_in_input,
    image_region,
    resize,
    scaled,
)

SIDE = 320
# Width and height: 16:9, 4:3, 9:16, a square, and sizes that no camera has.
SIZES = [(1280, 720), (640, 480), (360, 640), (500, 500), (333, 77), (1000, 2), (3, 4000), (1, 1)]


@pytest.mark.parametrize("how", Resize)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_input_is_the_image_and_grey(how: Resize, size: tuple[int, int]) -> None:
    pixels = resize(Image.new("RGB", size, (250, 10, 30)), SIDE, how)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    top, left, bottom, right = (round(edge * SIDE) for edge in image_region(size, SIDE, how))
    assert (pixels[top:bottom, left:right] == (250, 10, 30)).all()
    padding = np.ones((SIDE, SIDE), bool)
    padding[top:bottom, left:right] = False
    assert (pixels[padding] == PADDING).all()
    assert how is Resize.LETTERBOX or not padding.any()


def test_the_padding_is_what_the_network_reads_as_zero() -> None:
    assert (PADDING - INPUT_ZERO_POINT) * INPUT_SCALE == 0.0


def test_a_letterboxed_image_lies_in_the_middle() -> None:
    assert image_region((1280, 720), SIDE, Resize.LETTERBOX) == (70 / 320, 0.0, 250 / 320, 1.0)
    assert image_region((640, 480), SIDE, Resize.LETTERBOX) == (40 / 320, 0.0, 280 / 320, 1.0)
    assert image_region((360, 640), SIDE, Resize.LETTERBOX) == (0.0, 70 / 320, 1.0, 250 / 320)
    # Of an odd number of rows the lower or right side has one more, as PhotonVision pads.
    assert image_region((320, 179), SIDE, Resize.LETTERBOX) == (70 / 320, 0.0, 249 / 320, 1.0)


@pytest.mark.parametrize("how", Resize)
@pytest.mark.parametrize("size", SIZES[:3], ids=str)
def test_an_object_in_the_input_is_where_it_is_in_the_image(how: Resize, size: tuple[int, int]) -> None:
    """What is measured in the pixels of the input comes back within half a pixel of it."""
    width, height = size
    box = (height // 5, width // 7, height // 5 + height // 3, width // 7 + width // 4)
    drawn = np.zeros((height, width, 3), np.uint8)
    drawn[box[0] : box[2], box[1] : box[3]] = 255
    pixels = resize(Image.fromarray(drawn), SIDE, how)
    rows, columns = np.nonzero(pixels[..., 0] > PADDING)
    seen = np.array([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]]) / SIDE
    region = image_region(size, SIDE, how)
    (found,), kept = boxes_in_image(seen, region)
    assert kept.all()
    # Of the image, in which one pixel of the input is as many.
    scale = np.array([height / (region[2] - region[0]), width / (region[3] - region[1])] * 2) / SIDE
    assert (np.abs(found * (height, width, height, width) - box) <= 0.5 * scale + 1e-9).all()


@given(
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    how=st.sampled_from(Resize),
    side=st.sampled_from([192, 300, 320, 640]),
)
def test_boxes_come_back_as_they_went(size: tuple[int, int], corners: list[float], how: Resize, side: int) -> None:
    ymin, ymax = sorted(corners[:2])
    xmin, xmax = sorted(corners[2:])
    boxes = np.array([[ymin, xmin, ymax, xmax]])
    region = image_region(size, side, how)
    back, _ = boxes_in_image(boxes_in_input(boxes, region), region)
    np.testing.assert_allclose(back, boxes, atol=1e-9)


def test_boxes_end_at_the_image_and_not_at_the_padding() -> None:
    region = image_region((640, 320), SIDE, Resize.LETTERBOX)
    boxes = np.array([[0.1, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0], [0.0, 0.3, 0.2, 0.6], [0.8, 0.3, 0.9, 0.6]])
    found, kept = boxes_in_image(boxes, region)
    np.testing.assert_allclose(found[kept], [[0.0, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0]])
    assert kept.tolist() == [True, True, False, False]


def test_squash_leaves_boxes_alone_even_those_that_reach_beyond() -> None:
    boxes = np.array([[-0.1, 0.2, 0.5, 1.2]])
    found, kept = boxes_in_image(boxes, image_region((640, 480), SIDE, Resize.SQUASH))
    assert found is boxes
    assert kept.all()


@pytest.mark.parametrize("how", Resize)
def test_an_image_that_was_scaled_once_becomes_the_same_input(how: Resize) -> None:
    """So a golden image may be stored in the size of the input, without its padding."""
    noise = np.random.default_rng(0).integers(0, 255, (360, 480, 3), np.uint8)
    image = Image.fromarray(noise)
    np.testing.assert_array_equal(resize(scaled(image, 192, how), 192, how), resize(image, 192, how))


def test_an_unknown_word_is_no_squash() -> None:
    with pytest.raises(DecodeError, match="one of squash, letterbox"):
        from_json(Preprocessing, b'{"resize":"crop"}')
