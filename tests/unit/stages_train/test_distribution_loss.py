"""The losses of distributions against plain statements of the papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.box_distributions import BINS, cell_grid, decode
from atoll_stages.train.distribution_loss import (
    DISTRIBUTION_WEIGHT,
    IOU_WEIGHT,
    aligned_loss,
    decode_distributions,
    distribution_focal_loss,
    encode_distances,
)
from atoll_stages.train.task_alignment import align_cells

SIDE, CLASSES = 64, 2
GRID = cell_grid(SIDE)
DISTANCE = st.floats(0.05, BINS - 1.05)


def sharp(distances: np.ndarray) -> np.ndarray:
    """Codes whose distributions have these means."""
    share = np.maximum(1 - np.abs(distances[..., None] - np.arange(BINS)), 0)
    codes: np.ndarray = np.log(share + 1e-9).reshape(*distances.shape[:-1], 4 * BINS).astype(np.float32)
    return codes


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(DISTANCE, DISTANCE, DISTANCE, DISTANCE), min_size=1, max_size=5))
def test_a_box_comes_back_from_its_distances(sides: list[tuple[float, ...]]) -> None:
    cells, distances = GRID[40 : 40 + len(sides)], np.array(sides, np.float32)
    boxes = decode_distributions(sharp(distances), cells)
    np.testing.assert_allclose(encode_distances(boxes, cells), distances, atol=1e-3)
    # Devices read the same boxes.
    np.testing.assert_allclose(decode(sharp(distances), cells), boxes, atol=1e-5)


def test_distances_beyond_the_bins_are_cut() -> None:
    far = np.array([[-9.0, -9.0, 9.0, 9.0]], np.float32)
    assert encode_distances(far, GRID[:1]).numpy().max() < BINS - 1
    outside = np.array([[0.9, 0.9, 1.0, 1.0]], np.float32)
    left, top, _, _ = encode_distances(outside, GRID[:1]).numpy()[0]
    assert (left, top) == (0.0, 0.0)


def test_distribution_focal_loss_of_known_values() -> None:
    random = np.random.default_rng(0)
    codes = random.normal(size=(3, 4, BINS))
    distances = np.array([[0.0, 1.25, 7.5, 14.9], [3.0, 3.1, 3.9, 4.0], [0.5, 0.6, 0.7, 0.8]])
    expected = []
    for cell in range(3):
        sides = []
        for side, distance in enumerate(distances[cell]):
            probabilities = np.exp(codes[cell, side]) / np.exp(codes[cell, side]).sum()
            low = int(distance)
            sides.append(
                -(low + 1 - distance) * np.log(probabilities[low]) - (distance - low) * np.log(probabilities[low + 1])
            )
        expected.append(np.mean(sides))
    found = distribution_focal_loss(tf.constant(codes.reshape(3, -1), tf.float32), tf.constant(distances, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        "logits": random.normal(-2, 1, (2, len(GRID), CLASSES)).astype(np.float32),
        "codes": random.normal(0, 1, (2, len(GRID), 4 * BINS)).astype(np.float32),
        "cells": GRID.astype(np.float32),
        "boxes": np.array(
            [[[0.1, 0.1, 0.6, 0.5], [0.5, 0.4, 0.9, 0.95]], [[0.2, 0.3, 0.8, 0.7], [0, 0, 0, 0]]], np.float32
        ),
        "labels": np.array([[0, 1], [1, -1]], np.int32),
    }


def test_the_loss_of_a_batch_is_the_sum_of_the_papers_terms() -> None:
    given = batch()
    logits, codes, boxes, labels = (given[name] for name in ("logits", "codes", "boxes", "labels"))
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    predicted = np.stack([decode(one, GRID) for one in codes])
    aligned = align_cells(scores=p.astype(np.float32), predicted=predicted, cells=GRID, boxes=boxes, labels=labels)
    weight, objects = aligned.alignment.numpy(), aligned.objects.numpy()
    classification = overlap = distribution = 0.0
    for image, cell in np.ndindex(weight.shape):
        target = np.zeros(CLASSES)
        if weight[image, cell] > 0:
            target[labels[image, objects[image, cell]]] = weight[image, cell]
        entropy = -(target * np.log(p[image, cell]) + (1 - target) * np.log(1 - p[image, cell]))
        classification += float((np.abs(target - p[image, cell]) ** 2 * entropy).sum())
        if weight[image, cell] > 0:
            box = boxes[image, objects[image, cell]]
            overlap += weight[image, cell] * (1 - generalised_iou(predicted[image, cell], box))
            y, x, height, width = GRID[cell]
            sides = [(x - box[1]) / width, (y - box[0]) / height, (box[3] - x) / width, (box[2] - y) / height]
            for side, distance in enumerate(np.clip(sides, 0, BINS - 1.01)):
                row = codes[image, cell].reshape(4, BINS)[side]
                chances = np.exp(row) / np.exp(row).sum()
                low = int(distance)
                term = (low + 1 - distance) * np.log(chances[low]) + (distance - low) * np.log(chances[low + 1])
                distribution -= weight[image, cell] * term / 4
    total = max(weight.sum(), 1.0)
    losses = aligned_loss(**given)
    assert float(losses.classification) == pytest.approx(classification / total, rel=1e-4)
    expected = IOU_WEIGHT * overlap / total + DISTRIBUTION_WEIGHT * distribution / total
    assert float(losses.total - losses.classification) == pytest.approx(expected, rel=1e-4)


def generalised_iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    hull = np.prod(np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2]))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - np.prod(sides)
    return float(np.prod(sides) / union - (hull - union) / hull)


def test_right_outputs_cost_nearly_nothing_and_wrong_ones_more() -> None:
    given = batch()
    given["boxes"], given["labels"] = given["boxes"][:1, :1], given["labels"][:1, :1]
    distances = encode_distances(np.broadcast_to(given["boxes"][0], (len(GRID), 4)), GRID).numpy()
    right = sharp(distances)[None]
    best = align_cells(
        scores=np.full((1, len(GRID), CLASSES), 0.5, np.float32),
        predicted=decode_distributions(right, GRID[None]),
        cells=GRID,
        boxes=given["boxes"],
        labels=given["labels"],
    )
    logits = np.full((1, len(GRID), CLASSES), -12.0, np.float32)
    logits[0, best.alignment.numpy()[0] > 0, 0] = 12.0

    def loss(logits: np.ndarray, codes: np.ndarray) -> float:
        return float(aligned_loss(**{**given, "logits": logits, "codes": codes}).total)

    # What is left is the entropy of a distance between two bins.
    assert loss(logits, right) < 0.2
    assert loss(-logits, right) > 1.0
    assert loss(logits, np.zeros_like(right)) > 0.5


def test_pictures_without_objects_give_a_finite_loss() -> None:
    given = batch()
    given["labels"] = np.full_like(given["labels"], -1)
    losses = aligned_loss(**given)
    assert np.isfinite(losses.total)
    assert losses.box == 0.0
