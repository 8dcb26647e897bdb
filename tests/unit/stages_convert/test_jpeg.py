"""A plain JPEG passes into the records as it was saved, without its metadata; any other is encoded again."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atoll_contract.convert_spec import DatasetLimits
from atoll_stages.convert.duplicates import MAX_BITS, MAX_STEPS
from atoll_stages.convert.images import LONG_SIDE, MAX_PLAIN_SIDE, prepare_image
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
    return prepare_image(path.read_bytes(), name="a.jpg", limits=DatasetLimits())


@pytest.mark.parametrize("size", [(LONG_SIDE, 480), (800, 608), (MAX_PLAIN_SIDE, 720), (60, MAX_PLAIN_SIDE), (8, 8)])
def test_an_upright_jpeg_goes_into_the_records_as_it_was_saved(tmp_path: Path, size: tuple[int, int]) -> None:
    source = with_metadata(picture(5, size=size), quality=60)
    found = prepared(tmp_path, source)
    assert found.data == without_metadata(source)
    assert (found.width, found.height) == found.stored_size == size
    assert SECRET not in found.data


def test_a_picture_that_is_turned_or_too_large_is_encoded_anew(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(6, size=(320, 240)), exif=exif.tobytes())
    found = prepared(tmp_path, turned)
    assert (found.width, found.height) == (240, 320)
    assert pixels(found.data).shape == (320, 240, 3)
    large = prepared(tmp_path, encoded(picture(6, size=(MAX_PLAIN_SIDE + 2, 480))))
    assert large.width == LONG_SIDE
    assert pixels(large.data).shape[1] == LONG_SIDE
    progressive = prepared(tmp_path, encoded(picture(6, size=(800, 608)), progressive=True))
    assert (progressive.width, progressive.height) == (LONG_SIDE, 486)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_look_at_an_eighth_finds_the_same_damage_as_a_whole_decoding(tmp_path: Path) -> None:
    dice, source = random.Random(7), encoded(picture(8, size=(800, 608)), quality=85)
    refused = 0
    for number in range(120):
        if number % 2:
            damaged = source[: dice.randrange(20, len(source))]
        else:
            changed = bytearray(source)
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            damaged = bytes(changed)
        try:
            pixels(damaged)
            readable = True
        except (OSError, SyntaxError, ValueError):
            readable = False
        try:
            prepared(tmp_path, damaged)
            accepted = True
        except ValueError:
            accepted = False
        assert accepted == readable
        refused += not accepted
    assert refused > 50


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (640, 480), (1280, 720)])
def test_a_picture_looks_the_same_whichever_way_it_was_read(tmp_path: Path, size: tuple[int, int]) -> None:
    """A JPEG and the PNG of its pixels are near duplicates."""
    source = encoded(picture(9, size=size), quality=90)
    one = prepared(tmp_path, source)
    other = prepared(tmp_path, encoded(Image.fromarray(pixels(source)), "PNG"))
    assert (one.dhash ^ other.dhash).bit_count() <= MAX_BITS
    grey = [np.frombuffer(item.thumbnail, np.uint8).astype(int) for item in (one, other)]
    assert abs(grey[0] - grey[1]).mean() <= MAX_STEPS


def test_a_torn_file_is_no_picture(tmp_path: Path) -> None:
    source = encoded(picture(7, size=(320, 240)))
    with pytest.raises(ValueError, match="truncated"):
        prepared(tmp_path, source[: len(source) // 2])
