"""Prepares a number of pictures at once, and writes their JPEGs into one file: the work of one task, in any process."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError
from atoll_stages.convert.images import UnreadableImage, prepare_image


class ImageFile(NamedTuple):
    """A picture to prepare: the example's number, what its archive calls it, and where its bytes are on this disk.

    They are the whole file `path`, or `size` bytes of it from `offset` on.
    """

    id: int
    name: str
    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each of a million pictures costs
            file.seek(self.offset)
            data: bytes = file.readall() if self.size < 0 else file.read(self.size)
        return data

    def read_size(self) -> int:
        """Returns the number of bytes."""
        return os.stat(self.path).st_size if self.size < 0 else self.size  # noqa: PTH116 - as above


class ImageFacts(NamedTuple):
    """What becomes of a picture's boxes depends on these: its size as stored and its EXIF orientation.

    `unreadable` and `too_large` say why there is no picture; the others are as in `PreparedImage`.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    misnamed_as: str | None = None
    is_first_frame: bool = False
    unreadable: str | None = None
    too_large: str | None = None


class RecordImage(NamedTuple):
    """A picture as it goes into the records: its JPEG lies in the file `pack`, from `offset` on."""

    width: int
    height: int
    source_sha256: str
    sha256: str
    dhash: int
    thumbnail: bytes
    pack: str
    offset: int
    size: int


class PreparedFile(NamedTuple):
    """What became of a picture; `image` is None where it cannot be used."""

    id: int
    facts: ImageFacts
    image: RecordImage | None


def prepare_files(files: Iterable[ImageFile], pack: Path, limits: DatasetLimits) -> list[PreparedFile]:
    """Prepares pictures, and appends their JPEGs to the file `pack`, which one thread alone writes at a time."""
    found = []
    with pack.open("ab") as stream:
        end = stream.seek(0, os.SEEK_END)
        for file in files:
            try:
                image = prepare_image(file.read(), name=file.name, limits=limits)
            except UnreadableImage as error:
                found.append(PreparedFile(file.id, ImageFacts(unreadable=str(error)), None))
                continue
            except DatasetError as error:
                found.append(PreparedFile(file.id, ImageFacts(too_large=error.message), None))
                continue
            stream.write(image.data)
            facts = ImageFacts(*image.stored_size, image.orientation, image.misnamed_as, image.is_first_frame)
            kept = RecordImage(
                image.width,
                image.height,
                image.source_sha256,
                image.sha256,
                image.dhash,
                image.thumbnail,
                pack.name,
                end,
                len(image.data),
            )
            end += len(image.data)
            found.append(PreparedFile(file.id, facts, kept))
    return found
