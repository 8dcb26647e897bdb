"""A plain JPEG passes into the records as it was saved, without its metadata; any other is encoded again."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atoll_contract.stage import DatasetLimits
from atoll_stages.convert.images import LONG_SIDE, prepare_image
from atoll_stages.convert.jpeg import without_metadata
from support.archives import encoded, picture

SECRET = b"47.3769 N 8.5417 E"


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def with_metadata(image: Image.Image, **options: Any) -> bytes:
    """A JPEG with EXIF, a comment, a colour profile, and bytes behind its end, each holding the secret."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    data = encoded(image, exif=exif.tobytes(), comment=SECRET, icc_profile=SECRET * 9, **options)
    return data + SECRET


@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"subsampling": 0}, {"optimize": True}])
def test_the_pixels_are_those_of_the_file_and_the_metadata_is_gone(options: dict[str, Any]) -> None:
    source = with_metadata(picture(1, size=(320, 240)), **options)
    assert source.count(SECRET) > 3
    data = without_metadata(source)
    assert data is not None
    assert SECRET not in data
    assert data.endswith(b"\xff\xd9")
    with Image.open(io.BytesIO(data)) as image:
        assert set(image.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert not image.getexif()
    assert (pixels(data) == pixels(source)).all()


def test_restart_markers_are_a_part_of_the_picture() -> None:
    source = encoded(picture(2, size=(320, 240)), restart_marker_blocks=4)
    data = without_metadata(source)
    assert data is not None
    assert b"\xff\xd0" in data
    assert (pixels(data) == pixels(source)).all()


@pytest.mark.parametrize(
    "source",
    [
        encoded(picture(3), progressive=True),
        encoded(picture(3).convert("L")),
        encoded(picture(3).convert("CMYK")),
        encoded(picture(3), keep_rgb=True),
        encoded(picture(3), "PNG"),
        encoded(picture(3))[:-40],
        encoded(picture(3))[:80],
        b"\xff\xd8\xff\xe0\x00",
        b"",
    ],
    ids=["progressive", "grey", "cmyk", "rgb", "png", "cut in the scan", "cut in a segment", "start alone", "nothing"],
)
def test_what_is_not_plain_is_left_to_the_encoder(source: bytes) -> None:
    assert without_metadata(source) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_never_becomes_another_picture() -> None:
    dice, source = random.Random(5), with_metadata(picture(4, size=(160, 120)))
    compared = 0
    for _ in range(400):
        damaged = bytearray(source)
        for _ in range(dice.choice((1, 2, 8))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        data = without_metadata(bytes(damaged))
        if data is None:
            continue
        try:
            expected = pixels(bytes(damaged))
        except (OSError, SyntaxError, ValueError):
            continue
        assert (pixels(data) == expected).all()
        compared += 1
    assert compared > 100


def prepared(tmp_path: Path, source: bytes) -> Any:
    path = tmp_path / "a.jpg"
    path.write_bytes(source)
    return prepare_image(path, name="a.jpg", limits=DatasetLimits())


def test_a_small_upright_jpeg_goes_into_the_records_as_it_was_saved(tmp_path: Path) -> None:
    source = with_metadata(picture(5, size=(LONG_SIDE, 480)), quality=60)
    found = prepared(tmp_path, source)
    assert found.data == without_metadata(source)
    assert (found.width, found.height) == (LONG_SIDE, 480)


def test_a_picture_that_is_turned_or_too_large_is_encoded_anew(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(6, size=(320, 240)), exif=exif.tobytes())
    found = prepared(tmp_path, turned)
    assert (found.width, found.height) == (240, 320)
    assert pixels(found.data).shape == (320, 240, 3)
    large = prepared(tmp_path, encoded(picture(6, size=(LONG_SIDE + 2, 480))))
    assert large.width == LONG_SIDE
    assert pixels(large.data).shape[1] == LONG_SIDE


def test_a_torn_file_is_no_picture(tmp_path: Path) -> None:
    source = encoded(picture(7, size=(320, 240)))
    with pytest.raises(ValueError, match="truncated"):
        prepared(tmp_path, source[: len(source) // 2])
