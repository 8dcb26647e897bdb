"""Training sees what evaluation and the edge see, within a stated tolerance."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from atoll_contract import images as preprocess
from atoll_stages.train.augment import crop_and_flip
from atoll_stages.train.dataset import CANVAS_RATIO

# Of 255: training resizes twice, first to its canvas.
MEAN_TOLERANCE, WORST_TOLERANCE = 1.5, 24.0
SIDE = 128


def smooth_image(size: tuple[int, int]) -> Image.Image:
    """Noise at the scale of objects: single-pixel noise has no true value at another size."""
    small = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


# A letterbox of these has as many whole pixels at both sides. Elsewhere the canvas has it up to half a pixel off, and
# its boxes with it.
@pytest.mark.parametrize(
    ("size", "how"),
    [
        *((size, preprocess.Resize.SQUASH) for size in [(640, 480), (320, 240), (200, 300)]),
        *((size, preprocess.Resize.LETTERBOX) for size in [(640, 480), (640, 360), (240, 320)]),
    ],
)
def test_the_whole_window_of_a_canvas_is_the_preprocessed_image(size: tuple[int, int], how: preprocess.Resize) -> None:
    image = smooth_image(size)
    exact = preprocess.resize(image, SIDE, how).astype(np.float32)
    canvas = preprocess.resize(image, int(SIDE * CANVAS_RATIO), how)
    window = tf.constant([[0.0, 0.0, 1.0, 1.0]])
    trained = crop_and_flip(
        tf.constant(canvas[None]), window, tf.constant([[False, False]]), tf.constant(SIDE)
    ).numpy()[0]
    difference = np.abs(trained - exact)
    assert difference.mean() <= MEAN_TOLERANCE
    assert difference.max() <= WORST_TOLERANCE


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb_bytes(mode: str) -> None:
    data = preprocess.resize(smooth_image((40, 30)).convert(mode), 16)
    assert data.shape == (16, 16, 3)
    assert data.dtype == np.uint8


def test_a_file_and_its_frame_agree() -> None:
    image = smooth_image((64, 48))
    out = io.BytesIO()
    image.save(out, "PNG")
    decoded = preprocess.decode(out.getvalue(), 32)
    np.testing.assert_array_equal(decoded, preprocess.resize(image, 32))


def test_a_broken_file_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        preprocess.decode(b"no picture", 32)
