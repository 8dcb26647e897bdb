"""Pictures of every kind that cameras and labelling tools save: read, or named with what to do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.archives import annotation, encoded, jpeg, meta, packed, picture, rectangle
from support.convert_stage import ConvertStage
from support.converted_pictures import PixelBox, pictures_of, warnings_of

BOX: PixelBox = ("note", 10, 12, 40, 44)


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    return ConvertStage(tmp_path)


def export(pictures: dict[str, bytes]) -> dict[str, bytes]:
    """A Supervisely project with these pictures and two JPEGs, one box in each."""
    files = {"robots/meta.json": meta("note")}
    for name, data in {**pictures, "j0.jpg": jpeg(50), "j1.jpg": jpeg(51)}.items():
        files[f"robots/ds0/img/{name}"] = data
        files[f"robots/ds0/ann/{name}.json"] = annotation([rectangle(*BOX)])
    return files


def test_h1_bmp_and_tiff_are_read(stage: ConvertStage) -> None:
    pictures = {
        "k0.bmp": encoded(picture(0), "BMP"),
        "k1.tiff": encoded(picture(1), "TIFF"),
        "k2.jpg": encoded(picture(2), "JPEG"),
        "k3.png": encoded(picture(3), "PNG"),
        "k5.tif": encoded(picture(5), "TIFF", compression="tiff_lzw"),
    }
    ended = stage.put("x.tar", packed(export(pictures), ".tar")).run()
    assert pictures_of(ended) == {name: [BOX] for name in (*pictures, "j0.jpg", "j1.jpg")}
    assert warnings_of(ended) == {}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_h1_every_mode_of_bmp(stage: ConvertStage, mode: str) -> None:
    ended = stage.put("x.tar", packed(export({"a.bmp": encoded(picture(1, mode=mode), "BMP")}), ".tar")).run()
    assert pictures_of(ended)["a.bmp"] == [BOX]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_h1_every_mode_of_tiff(stage: ConvertStage, mode: str, compression: str | None) -> None:
    grey = np.asarray(picture(1, mode="L"), np.uint16)
    image = Image.fromarray(grey * 257) if mode == "I;16" else picture(1, mode=mode)
    data = encoded(image, "TIFF", compression=compression)
    ended = stage.put("x.tar", packed(export({"a.tif": data}), ".tar")).run()
    assert pictures_of(ended)["a.tif"] == [BOX]


def test_h2_the_first_frame_of_a_gif_and_the_first_page_of_a_tiff(stage: ConvertStage) -> None:
    pictures = {
        "one.gif": encoded(picture(1), "GIF"),
        "film.gif": encoded(picture(2), "GIF", save_all=True, append_images=[picture(3), picture(4)]),
        "pages.tif": encoded(picture(5), "TIFF", save_all=True, append_images=[picture(6, size=(20, 20))]),
    }
    ended = stage.put("x.tar", packed(export(pictures), ".tar")).run()
    assert pictures_of(ended) == {name: [BOX] for name in (*pictures, "j0.jpg", "j1.jpg")}
    assert warnings_of(ended) == {"PictureFirstFrame": 2}


def test_h3_avif_is_read(stage: ConvertStage) -> None:
    pictures = {f"k{number}.avif": encoded(picture(number), "AVIF") for number in range(3)}
    ended = stage.put("x.tar", packed(export(pictures), ".tar")).run()
    assert pictures_of(ended) == {name: [BOX] for name in (*pictures, "j0.jpg", "j1.jpg")}
    assert warnings_of(ended) == {}


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("a.heic", b"\0\0\0\x24ftypheic", "it is HEIC, the iPhone's own kind, which is not read: export as JPEG"),
        ("a.heif", b"\0\0\0\x18ftypmif1", "it is HEIC"),
        ("a.jpg", b"\0\0\0\x24ftypheic", "it is HEIC"),
        ("a.jxl", b"\xff\x0a", "it is JPEG XL"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "it is JPEG 2000"),
        ("a.jpg", b"8BPS\0\1", "it is a Photoshop file"),
        ("a.jpg", b"\0\0\0\x20ftypisom", "it is a video"),
        ("a.jpg", b"nothing", 'first bytes "nothing"'),
    ],
)
def test_h4_other_kinds_are_named(stage: ConvertStage, name: str, head: bytes, words: str) -> None:
    files = export({name: head.ljust(600, b"\0") if head != b"nothing" else head})
    ended = stage.put("x.tar", packed(files, ".tar")).run(max_invalid_percent=50.0)
    assert sorted(pictures_of(ended)) == ["j0.jpg", "j1.jpg"]
    problem = next(item for item in ended.dataset().problems if item.kind == "PictureUnreadable")
    assert words in problem.detail
    assert "no readable JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF" in problem.detail


def test_h5_floating_point_is_not_guessed(stage: ConvertStage) -> None:
    data = encoded(picture(1, mode="F"), "TIFF")
    ended = stage.put("x.tar", packed(export({"a.tif": data}), ".tar")).run(max_invalid_percent=50.0)
    assert sorted(pictures_of(ended)) == ["j0.jpg", "j1.jpg"]
    assert "save it with 8 bits" in ended.dataset().problems[0].detail
