"""What an HDF5 file of weights may hold. Everything here is checked before any array of the file is read.

HDF5 reads arrays out of other files (external storage, virtual datasets, links), and a small file may claim arrays of
any size. A stranger's file could so carry what this process may read into a release, or take all of its memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py

from atoll_contract.archive.limits import shown, size

Shape = tuple[int, ...]

ALLOWED_TYPES = ("float32", "float16")
# A file may have this many times the bytes of the model's own arrays, and so many more for names and attributes.
SIZE_FACTOR = 2
SPARE_BYTES = 2**20
# Keras' files have about one group for each array, Atoll's have fewer.
OBJECTS_PER_ARRAY = 4
SPARE_OBJECTS = 64
MAX_ATTRIBUTES = 16
MAX_ATTRIBUTE_BYTES = 2**15


class RefusedFile(ValueError):
    """The file must not be read; the message names the part of it, what is wrong, and what is allowed."""


def check_size(path: Path, shapes: Iterable[Shape]) -> None:
    """Raises RefusedFile where the file is larger than arrays of these shapes explain."""
    limit = SIZE_FACTOR * sum(4 * math.prod(shape) for shape in shapes) + SPARE_BYTES
    found = path.stat().st_size
    if found > limit:
        raise RefusedFile(
            f"the file has {size(found)}; allowed are {size(limit)}, {SIZE_FACTOR} times the model's arrays"
        )


def find_arrays(file: h5py.File, *, max_arrays: int) -> dict[str, h5py.Dataset]:
    """Returns the arrays of a file by path, `max_arrays` at most. It follows no link and reads no array.

    Raises:
        RefusedFile: the file has something else than groups and plain arrays of floats, or too much of anything.
    """
    limit = OBJECTS_PER_ARRAY * max_arrays + SPARE_OBJECTS
    arrays: dict[str, h5py.Dataset] = {}
    groups, objects = [("", file)], 0
    _check_attributes(file, "the file")
    while groups:
        prefix, group = groups.pop()
        objects += len(group)
        if objects > limit:
            raise RefusedFile(f"the file has more than {limit} groups and datasets")
        for name in group:
            path = f"{prefix}{name}"
            item = _open_member(group, name, path)
            if isinstance(item, h5py.Group):
                groups.append((f"{path}/", item))
            else:
                arrays[path] = item
    if len(arrays) > max_arrays:
        raise RefusedFile(f"the file has {len(arrays)} datasets; the model has {max_arrays}")
    return arrays


def check_shapes(arrays: Mapping[str, h5py.Dataset], shapes: Mapping[str, Shape]) -> None:
    """Raises RefusedFile where an array is none of `shapes` by its path, or has another shape."""
    for path, array in arrays.items():
        if path not in shapes:
            raise RefusedFile(f"dataset {shown(path)} is none of the model's arrays")
        if array.shape != shapes[path]:
            raise RefusedFile(f"dataset {shown(path)} has the shape {array.shape}; the model's is {shapes[path]}")


def check_nameless_shapes(arrays: Mapping[str, h5py.Dataset], shapes: Iterable[Shape]) -> None:
    """Raises RefusedFile where the arrays are not some of those that have `shapes`. Keras finds arrays by their
    order, so that their names say nothing."""
    left = Counter(shapes)
    for path, array in arrays.items():
        if left[array.shape] < 1:
            raise RefusedFile(f"dataset {shown(path)} has the shape {array.shape}; the model has no more of it")
        left[array.shape] -= 1


def _open_member(group: h5py.Group, name: str, path: str) -> h5py.Group | h5py.Dataset:
    """Opens a member of a group that lies in the file itself, and checks it."""
    kind = type(group.get(name, getlink=True))
    if kind is not h5py.HardLink:
        raise RefusedFile(f"{shown(path)} is a link ({kind.__name__}); allowed are groups and datasets in the file")
    item = group[name]
    if isinstance(item, h5py.Dataset):
        _check_storage(item, f"dataset {shown(path)}")
    elif not isinstance(item, h5py.Group):
        raise RefusedFile(f"{shown(path)} is a {type(item).__name__}; allowed are groups and datasets")
    _check_attributes(item, shown(path))
    return item


def _check_storage(array: h5py.Dataset, what: str) -> None:
    # In this order: even the shape of a virtual dataset may come from another file.
    settings = array.id.get_create_plist()
    if settings.get_external_count():
        raise RefusedFile(f"{what} lies in another file (external storage); allowed are arrays in the file itself")
    if settings.get_layout() == h5py.h5d.VIRTUAL:
        raise RefusedFile(f"{what} is made of other datasets (virtual); allowed are arrays in the file itself")
    if settings.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or settings.get_nfilters():
        raise RefusedFile(f"{what} is in pieces or compressed; allowed are arrays in one piece, as Keras writes them")
    kind = array.id.get_type()
    name = array.dtype.name if isinstance(kind, h5py.h5t.TypeFloatID) else type(kind).__name__
    if name not in ALLOWED_TYPES:
        raise RefusedFile(f"{what} has the type {name}; allowed are {' and '.join(ALLOWED_TYPES)}")


def _check_attributes(item: h5py.Group | h5py.Dataset, what: str) -> None:
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MAX_ATTRIBUTES:
        raise RefusedFile(f"{what} has {count} attributes; allowed are {MAX_ATTRIBUTES}")
    for index in range(count):
        attribute = h5py.h5a.open(item.id, index=index)
        kind, elements = attribute.get_type(), math.prod(attribute.shape)
        if not isinstance(kind, h5py.h5t.TypeStringID | h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID):
            raise RefusedFile(f"an attribute of {what} is a {type(kind).__name__}; allowed are texts and numbers")
        if kind.get_size() * elements > MAX_ATTRIBUTE_BYTES:
            raise RefusedFile(f"an attribute of {what} has more than {size(MAX_ATTRIBUTE_BYTES)}")
        # Each text of such a list may be the same long one, which the file holds once.
        if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() and elements > 1:
            raise RefusedFile(f"an attribute of {what} is a list of texts of any length; allowed is one text")
