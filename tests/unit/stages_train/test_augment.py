"""Augmentation changes images and boxes alike, and depends on nothing but seed and step."""

import numpy as np
import pytest
import tensorflow as tf

from atoll_stages.train.augment import Augmentation, augment, crop_and_flip, transform_boxes

PLAIN = Augmentation(
    zoom=(1.0, 1.0),
    stretch=1.0,
    horizontal_flip=False,
    brightness=0.0,
    contrast=(1.0, 1.0),
    saturation=(1.0, 1.0),
    hue=0.0,
    cutout=0.0,
)
BATCH, SIDE = 8, 64


def white_boxes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Black canvases with one white rectangle each."""
    random = np.random.default_rng(1)
    canvases = np.zeros((BATCH, 96, 96, 3), np.uint8)
    boxes = np.zeros((BATCH, 1, 4), np.float32)
    for i in range(BATCH):
        top, left = random.integers(20, 40, 2)
        height, width = random.integers(20, 36, 2)
        canvases[i, top : top + height, left : left + width] = 255
        boxes[i, 0] = np.array([top, left, top + height, left + width]) / 96
    return canvases, boxes, np.zeros((BATCH, 1), np.int32)


def run(settings: Augmentation, *, step: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    canvases, boxes, labels = white_boxes()
    parts = augment(
        canvases=tf.constant(canvases),
        boxes=tf.constant(boxes),
        labels=tf.constant(labels),
        seed=tf.constant([7, step]),
        side=tf.constant(SIDE),
        settings=settings,
    )
    return tuple(part.numpy() for part in parts)


def test_empty_ranges_change_nothing() -> None:
    _, boxes, labels = white_boxes()
    images, moved, kept = run(PLAIN)
    np.testing.assert_allclose(moved, boxes, atol=1e-6)
    np.testing.assert_array_equal(kept, labels)
    assert images.min() >= -1.0
    assert images.max() <= 1.0


def test_boxes_stay_on_what_they_mark() -> None:
    geometry = Augmentation(
        zoom=(0.8, 1.3), vertical_flip=True, brightness=0.0, contrast=(1, 1), saturation=(1, 1), hue=0.0, cutout=0.0
    )
    images, boxes, labels = run(geometry)
    for image, box, label in zip(images, boxes[:, 0], labels[:, 0], strict=True):
        assert label in (0, -1, -2)
        rows, columns = np.nonzero(image[..., 0] > 0.5)
        seen = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) / SIDE
        np.testing.assert_allclose(box, seen, atol=2.5 / SIDE)


def test_the_same_step_draws_the_same_and_another_step_another() -> None:
    first, again, other = (run(Augmentation(), step=step)[0] for step in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_flips_reverse_the_image() -> None:
    canvases = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    whole = tf.constant([[0.0, 0.0, 1.0, 1.0]])
    straight = crop_and_flip(tf.constant(canvases), whole, tf.constant([[False, False]]), tf.constant(32)).numpy()
    flipped = crop_and_flip(tf.constant(canvases), whole, tf.constant([[True, True]]), tf.constant(32)).numpy()
    np.testing.assert_allclose(straight, canvases, atol=0.1)
    np.testing.assert_allclose(flipped, straight[:, ::-1, ::-1], atol=0.2)


@pytest.mark.parametrize(("right", "label"), [(1.0, 5), (0.5, 5), (0.05, -2), (-0.1, -1)])
def test_an_object_that_is_cut_off_is_first_ignored_and_then_removed(right: float, label: int) -> None:
    """The window shows the part of the object that lies left of `right` of its width."""
    boxes, labels = tf.constant([[[0.2, 0.5, 0.4, 0.7]]]), tf.constant([[5]])
    window = tf.constant([[0.0, -0.3 + 0.2 * right, 1.0, 0.5 + 0.2 * right]])
    _, kept = transform_boxes(boxes, labels, window, tf.constant([[False, False]]))
    assert int(kept[0, 0]) == label
