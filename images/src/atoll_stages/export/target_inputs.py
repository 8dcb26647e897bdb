"""What compilers of other chips than the Edge TPU need beside the int8 file: the float network, how its outputs become
boxes, and the images that they quantise with. Export writes it and compile reads it, without TensorFlow."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from atoll_contract import images as preprocess
from atoll_contract.errors import IntegrityError
from atoll_contract.images import Resize

ONNX_NAME = "float.onnx"
CALIBRATION_NAME = "calibration.zip"
# The names that the artifacts of the export stage have.
ONNX_ARTIFACT = "onnx"
HEAD_ARTIFACT = "detector"
CALIBRATION_ARTIFACT = "calibration"
# Of every member, so that the same images make the same file.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_calibration(path: Path, images: Sequence[bytes]) -> None:
    """Writes the calibration list: each image as the dataset holds it, named by its place and its sha256."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, image in enumerate(images):
            name = f"{number:05d}-{hashlib.sha256(image).hexdigest()}"
            archive.writestr(zipfile.ZipInfo(name, _TIME), image)


def read_calibration(path: Path, side: int, how: Resize = Resize.SQUASH) -> Iterator[np.ndarray]:
    """Yields the images of a calibration list as uint8 (side, side, 3), resized as `how` says.

    Raises:
        IntegrityError: it is no such list, or a image is not the one that its name says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                image = archive.read(name)
                if hashlib.sha256(image).hexdigest() != name.rpartition("-")[2]:
                    raise IntegrityError(f"{path.name}: {name} holds another image than its name says")
                yield preprocess.decode(image, side, how)
    except zipfile.BadZipFile as error:
        raise IntegrityError(f"{path.name} is no list of calibration images: {error}") from None
