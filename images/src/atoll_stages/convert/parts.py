"""The parts of a split, and the words that people have for them."""

import re

TRAIN, VALIDATION, TEST = "train", "validation", "test"

_PART_OF_WORD = {
    "train": TRAIN,
    "training": TRAIN,
    "trainval": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "eval": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
WORDS = tuple(_PART_OF_WORD)


def part_of_word(word: str) -> str | None:
    """The part that a tag or folder name means."""
    return _PART_OF_WORD.get(word.strip().lower())


def part_word_in(name: str) -> str | None:
    """The first word of a file name that means a part: `train` in `instances_train2017.json`."""
    words = re.findall(r"[A-Za-z]+", name)
    return next((word for word in words if part_of_word(word)), None)
