"""Images of every kind come out as upright RGB JPEG of at most 640, and their boxes with them."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError
from atoll_stages.convert.images import PreparedImage, UnreadableImage, prepare_image
from support.archives import annotation, encoded, jpeg, packed, picture, rectangle, supervisely
from support.convert_stage import ConvertStage
from support.converted_records import edges_of, examples

LIMITS = DatasetLimits()
RED, BLUE = (220, 20, 20), (20, 20, 220)


def read(data: bytes, tmp_path: Path, name: str = "a.jpg") -> PreparedImage:
    path = tmp_path / "0000001"
    path.write_bytes(data)
    return prepare_image(path.read_bytes(), name=name, limits=LIMITS)


def decoded(found: PreparedImage) -> Image.Image:
    image = Image.open(io.BytesIO(found.data))
    image.load()
    return image


def near(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 24) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def halves(size: tuple[int, int] = (80, 40), mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "form", "name"),
    [
        ("RGB", "JPEG", "a.jpg"),
        ("CMYK", "JPEG", "a.jpeg"),
        ("RGB", "PNG", "a.png"),
        ("RGBA", "PNG", "a.png"),
        ("P", "PNG", "a.png"),
        ("RGB", "WEBP", "a.webp"),
        ("RGBA", "WEBP", "a.webp"),
        ("RGB", "BMP", "a.bmp"),
        ("CMYK", "TIFF", "a.tif"),
        ("P", "TIFF", "a.tiff"),
        ("RGB", "GIF", "a.gif"),
        ("RGB", "AVIF", "a.avif"),
        ("RGBA", "AVIF", "a.avif"),
    ],
)
def test_colours_survive_every_mode(tmp_path: Path, mode: str, form: str, name: str) -> None:
    found = read(encoded(halves(mode=mode), form), tmp_path, name)
    image = decoded(found)
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (80, 40))
    assert near(pixel(image, 10, 20), RED, 40)
    assert near(pixel(image, 70, 20), BLUE, 40)
    assert found.misnamed_as is None


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_survives_every_mode(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        values = np.full((40, 40), 0x40FF, dtype=np.uint16)
        values[:, 20:] = 0xC000
        image = Image.fromarray(values)
        dark, light = 0x40, 0xC0
    else:
        image = Image.new("L", (40, 40), 0)
        image.paste(255, (20, 0, 40, 40))
        image = image.convert(mode)
        dark, light = 0, 255
    out = decoded(read(encoded(image, "PNG"), tmp_path, "a.png"))
    assert near(pixel(out, 5, 20), (dark,) * 3, 6)
    assert near(pixel(out, 35, 20), (light,) * 3, 6)


def test_transparency_lies_over_black(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (20, 0, 40, 40))
    out = decoded(read(encoded(image, "PNG"), tmp_path, "a.png"))
    assert near(pixel(out, 5, 20), (0, 0, 0), 6)
    assert near(pixel(out, 35, 20), (255, 255, 255), 6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 960), (640, 480)), ((3000, 100), (640, 21)), ((641, 641), (640, 640)), ((300, 200), (300, 200))],
)
def test_at_most_640_and_never_larger_than_it_was(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Of what is encoded anew; test_jpeg has the plain JPEGs."""
    files = encoded(picture(3, size=size), progressive=True), encoded(picture(3, size=size), "PNG")
    for data, name in zip(files, ("a.jpg", "a.png"), strict=True):
        found = read(data, tmp_path, name)
        assert (found.width, found.height) == expected == decoded(found).size
        assert found.stored_size == size


def with_orientation(image: Image.Image, orientation: int, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, quality=95)


TURN = Image.Transpose
STORED_AS = {
    1: None,
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}


def corner() -> Image.Image:
    """A red block at the top left of a blue picture of 80×40."""
    image = Image.new("RGB", (80, 40), BLUE)
    image.paste(RED, (0, 0, 40, 16))
    return image


@pytest.mark.parametrize("orientation", sorted(STORED_AS))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_come_out_upright(tmp_path: Path, orientation: int, form: str) -> None:
    turn = STORED_AS[orientation]
    stored = corner() if turn is None else corner().transpose(turn)
    found = read(with_orientation(stored, orientation, form), tmp_path)
    out = decoded(found)
    assert out.size == (80, 40)
    assert (found.stored_size, found.orientation) == (stored.size, orientation)
    assert near(pixel(out, 10, 5), RED, 40)
    assert near(pixel(out, 70, 5), BLUE, 40)
    assert near(pixel(out, 10, 35), BLUE, 40)
    assert "exif" not in out.info


@pytest.mark.parametrize("orientation", sorted(STORED_AS))
@pytest.mark.parametrize("seen", ["upright", "stored"])
def test_boxes_follow_their_picture(stage: ConvertStage, orientation: int, seen: str) -> None:
    """An annotation made on the upright picture, and one made on the picture as it is stored, mean the same box."""
    turn = STORED_AS[orientation]
    stored = corner() if turn is None else corner().transpose(turn)
    if seen == "upright" or orientation < 5:
        box, size = (0, 0, 40, 16), (80, 40)
    else:
        box = {5: (0, 0, 16, 40), 6: (0, 40, 16, 80), 7: (24, 40, 40, 80), 8: (24, 0, 40, 40)}[orientation]
        size = (40, 80)
    files = supervisely(4)
    files["game/ds0/img/turned.jpg"] = with_orientation(stored, orientation)
    files["game/ds0/ann/turned.jpg.json"] = annotation([rectangle("block", *box)], size=size)
    ended = stage.put("x.tar", packed(files, ".tar")).run()
    assert ended.code == 0
    found = [e for e in examples(ended) if e["image/filename"] == [b"game/ds0/img/turned.jpg"]]
    assert edges_of(found[0]) == [pytest.approx((0.0, 0.0, 0.5, 0.4))]


def test_boxes_scale_with_the_size_that_the_annotation_claims(stage: ConvertStage) -> None:
    files = supervisely(4)
    files["game/ds0/img/big.jpg"] = jpeg(9, size=(1280, 960))
    files["game/ds0/ann/big.jpg.json"] = annotation([rectangle("note", 32, 24, 64, 48)], size=(64, 48))
    files["game/ds0/img/odd.jpg"] = jpeg(8, size=(100, 100))
    files["game/ds0/ann/odd.jpg.json"] = annotation([rectangle("note", 32, 24, 64, 48)], size=(64, 48))
    ended = stage.put("x.tar", packed(files, ".tar")).run(max_invalid_percent=50.0)
    found = [e for e in examples(ended) if e["image/filename"] == [b"game/ds0/img/big.jpg"]]
    assert edges_of(found[0]) == [(0.5, 0.5, 1.0, 1.0)]
    assert found[0]["image/width"] == [1280]
    assert ended.dataset().problem_counts == {"SizeMismatch": 1, "SizeScaled": 1}


def test_misnamed_picture_is_read_by_its_content(tmp_path: Path) -> None:
    found = read(encoded(halves(), "PNG"), tmp_path, "a.jpg")
    assert found.misnamed_as == "PNG"
    assert decoded(found).format == "JPEG"


def test_equal_pictures_have_equal_fingerprints_and_others_do_not(tmp_path: Path) -> None:
    one, same = read(jpeg(1), tmp_path), read(encoded(picture(1), "PNG"), tmp_path, "b.png")
    other = read(jpeg(2), tmp_path)
    assert one.source_sha256 != same.source_sha256
    assert (one.dhash ^ same.dhash).bit_count() <= 3
    assert (one.dhash ^ other.dhash).bit_count() > 10


WHOLE = {form: encoded(picture(1), form) for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")} | {
    "LZW": encoded(picture(1), "TIFF", compression="tiff_lzw"),
    "FILM": encoded(picture(1), "GIF", save_all=True, append_images=[picture(2)]),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damaged_pictures_are_read_or_named_unreadable(form: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[form])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(len(damaged) // 2, len(damaged)))
    with tempfile.TemporaryDirectory() as name:
        try:
            found = read(bytes(damaged[:end]), Path(name))
        except (UnreadableImage, DatasetError):
            return
        assert decoded(found).mode == "RGB"


def test_large_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("1", (300, 200)), "PNG"))
    with pytest.raises(DatasetError, match=r"300×200 .* Mpx"):
        prepare_image(path.read_bytes(), name="a.png", limits=DatasetLimits(picture_pixels=50_000))
