"""The names of the splits, and the words for them in tags and in names of folders and files."""

import re
from collections.abc import Iterable

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

_SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
KNOWN_NAMES = tuple(_SPLIT_OF_NAME)


def split_of_name(name: str) -> str | None:
    """Returns the split that a tag or folder name means; None where it means none."""
    return _SPLIT_OF_NAME.get(name.strip().lower())


def split_of_tags(tags: Iterable[str]) -> str | None:
    """Returns the split that the tags mean, by the first of them that means one."""
    return next((split for tag in tags if (split := split_of_name(tag))), None)


def split_of_dataset(dataset: str) -> str | None:
    """Returns the split that a dataset's path means, by the innermost folder that means one."""
    return split_of_tags(reversed(dataset.split("/")))


def split_name_in(file_name: str) -> str | None:
    """Returns the first word of a file name that means a split: `train` in `instances_train2017.json`."""
    return next((word for word in re.findall(r"[A-Za-z]+", file_name) if split_of_name(word)), None)
