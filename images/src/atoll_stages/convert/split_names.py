"""The names of the splits, and the words for them in tags and in names of folders and files."""

import re
from collections.abc import Iterable

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

_SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "eval"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
KNOWN_NAMES = tuple(_SPLIT_OF_NAME)

# Words that stand beside a split's in the name of a folder or list: `obj_Train_data`, `val_images`, `autosplit_test`.
_BESIDE = frozenset(
    (
        *("obj", "data", "dataset", "image", "images", "img", "imgs", "jpeg", "frames", "label", "labels"),
        *("file", "files", "set", "split", "subset", "part", "list", "lists", "names", "autosplit", "annotations"),
        *("coco", "voc", "yolo"),
    )
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def split_of_name(name: str) -> str | None:
    """Returns the split that a tag or folder name means; None where it means none."""
    return _SPLIT_OF_NAME.get(name.strip().lower())


def split_of_tags(tags: Iterable[str]) -> str | None:
    """Returns the split that the tags mean, by the first of them that means one."""
    return next((split for tag in tags if (split := split_of_name(tag))), None)


def split_of_dataset(dataset: str) -> str | None:
    """Returns the split that a dataset's path means, by the innermost folder that means one."""
    return next((split for part in reversed(dataset.split("/")) if (split := split_of_folder(part))), None)


def split_of_folder(name: str) -> str | None:
    """Returns the split that a folder or list of pictures means by its name: `Validation`, `obj_Train_data`, `val2017`.

    A name with a word of another kind means none.
    """
    parts = [part.lower() for part in _WORD.findall(name)]
    splits = [part for part in parts if part in _SPLIT_OF_NAME]
    if len(splits) == 1 and all(part in _BESIDE for part in parts if part not in splits):
        return _SPLIT_OF_NAME[splits[0]]
    return split_of_name(name)


def split_name_in(file_name: str) -> str | None:
    """Returns the first word of a file name that means a split: `train` in `instances_train2017.json`."""
    return next((word for word in re.findall(r"[A-Za-z]+", file_name) if split_of_name(word)), None)
