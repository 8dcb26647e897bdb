"""The hard variants of a data set on which recipes are compared."""

import numpy as np

from support.detection_data import CLASSES, labelled_images
from support.quality_sets import (
    INPUT,
    MAX_OBJECTS,
    MIN_GRIDS,
    SMALL_SIDES,
    WIDE,
    Parts,
    dominant,
    few,
    small,
    variants,
    wide,
)

PARTS = Parts(CLASSES, labelled_images(30), labelled_images(6, first=100), labelled_images(4, first=200))


def sides(parts: Parts) -> np.ndarray:
    boxes = np.concatenate([example.boxes for example in parts.train])
    pixels: np.ndarray = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) * INPUT
    return pixels


def test_few_pictures_are_the_same_each_time_and_the_measured_parts_stay() -> None:
    chosen = few(PARTS, 20)
    assert len({example.name for example in chosen.train}) == 20
    assert [e.name for e in chosen.train] == [e.name for e in few(PARTS, 20).train]
    assert (chosen.validation, chosen.test) == (PARTS.validation, PARTS.test)


def test_objects_of_the_small_variant_are_small_and_not_more_than_are_counted() -> None:
    made = small(PARTS)
    assert np.median(sides(PARTS)) > SMALL_SIDES[1]
    assert SMALL_SIDES[0] <= np.median(sides(made)) <= SMALL_SIDES[1]
    objects = [len(e.labels) for e in (*made.train, *made.validation, *made.test)]
    assert max(objects) <= MAX_OBJECTS
    assert min(objects) > len(CLASSES)
    assert min(len(made.train), len(made.validation), len(made.test)) >= MIN_GRIDS
    assert sum(len(e.labels) for e in made.train) >= 4 * sum(len(e.labels) for e in PARTS.train)
    boxes = np.concatenate([example.boxes for example in made.train])
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()


def test_a_wide_picture_keeps_the_boxes_that_are_mostly_in_it() -> None:
    made = wide(PARTS)
    for before, after in zip(PARTS.train, made.train, strict=True):
        assert abs(after.width / after.height - WIDE) < 0.05
        assert len(after.labels) <= len(before.labels)
        assert (after.boxes[:, :2] < after.boxes[:, 2:]).all()


def test_the_classes_of_another_set_are_rare_and_keep_their_names() -> None:
    other = Parts(("disc", "cone"), labelled_images(40, first=300), labelled_images(2, first=400), [])
    made = dominant(PARTS, other)
    assert made.classes == ("square", "disc", "cone")
    assert len(made.train) == len(PARTS.train) + 12
    # What the other set calls 0 is "disc", 1 "cone".
    assert sorted(set(made.train[-1].labels.tolist())) == [1, 2]


def test_one_set_alone_has_no_dominant_class() -> None:
    assert "dominant" not in variants("a", {"a": PARTS})
    assert set(variants("a", {"a": PARTS, "b": PARTS})) > {"whole", "20", "small", "wide", "dominant"}
