"""Pascal VOC, YOLO and TF-OD CSV: what their files give, and what in them is counted."""

from pathlib import Path

import pytest

from atoll_contract.errors import DatasetError
from support.archives import (
    CSV_HEADER,
    SIZE,
    jpeg,
    voc,
    voc_xml,
    yolo,
)
from support.reader_result import ReaderResult


def test_voc_parts_from_image_sets(tmp_path: Path) -> None:
    files = {**voc(3), "ImageSets/Main/train.txt": b"p0000\np0001\n", "ImageSets/Main/val.txt": b"p0002\n"}
    assert [image.dataset for image in ReaderResult(files, tmp_path).images] == ["train", "train", "validation"]


def test_voc_of_roboflow_lies_beside_its_pictures(tmp_path: Path) -> None:
    files = {"train/a.jpg": jpeg(), "train/a.xml": voc_xml("a.jpg", [("note", 1, 2, 30, 40)])}
    result = ReaderResult(files, tmp_path)
    assert result.images[0].dataset == "train"
    assert result.images[0].size == SIZE


def test_voc_faults(tmp_path: Path) -> None:
    good = voc_xml("p0000.jpg", [("note", 4, 5, 34, 40)])
    files = voc(3)
    files["Annotations/p0000.xml"] = good.replace(b"<xmin>4</xmin>", b"<xmin>four</xmin>")
    files["Annotations/p0001.xml"] = b"<annotation><object>"
    files["Annotations/p0009.xml"] = good.replace(b"p0000", b"p0009")
    result = ReaderResult(files, tmp_path)
    assert result.counts == {"BoxMalformed": 1, "AnnotationUnreadable": 1, "PictureMissing": 1}
    assert "line 1 col 21: " in result.problems.listed[1].detail


def test_voc_in_an_encoding_that_the_parser_does_not_know(tmp_path: Path) -> None:
    files = voc(2)
    text = voc_xml("p0000.jpg", [("圆锥", 4, 5, 34, 40)]).decode()
    files["Annotations/p0000.xml"] = b"<?xml version='1.0' encoding='gbk'?>" + text.encode("gbk")
    result = ReaderResult(files, tmp_path)
    assert result.counts == {"AnnotationUnreadable": 1}
    assert result.problems.listed[0].detail.endswith("; save it as UTF-8")


# YOLO


def test_yolo_boxes_polygons_and_negatives(tmp_path: Path) -> None:
    files = yolo(3)
    files["labels/train/p0001.txt"] = b"1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n"
    files["labels/train/p0002.txt"] = b"\n"
    result = ReaderResult(files, tmp_path)
    assert result.boxes() == [("note", 0.375, 0.25, 0.625, 0.75), ("robot", 0.1, 0.2, 0.5, 0.6)]
    assert result.images[2].boxes == ()
    assert {image.dataset for image in result.images} == {"train"}
    assert all(image.relative for image in result.images)


@pytest.mark.parametrize("layout", ["train/{}/", "{}/train/", "{}/"])
def test_yolo_layouts(tmp_path: Path, layout: str) -> None:
    images, labels = layout.format("images"), layout.format("labels")
    files = {f"{images}a.jpg": jpeg(), f"{labels}a.txt": b"0 0.5 0.5 0.5 0.5", "classes.txt": b"note\n"}
    result = ReaderResult({**files, "README.txt": b"made by hand"}, tmp_path)
    assert len(result.boxes()) == 1
    assert result.counts == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"0 0.5 0.5 0.5", "4 fields"),
        (b"2 0.5 0.5 0.5 0.5", "is not one of the 2 named"),
        (b"note 0.5 0.5 0.5 0.5", "is not one of the 2 named"),
        (b"0 320 240 64 48", "YOLO counts no pixels"),
        (b"0 0.5 nan 0.5 0.5", "is not a finite number"),
    ],
)
def test_yolo_line_that_is_none(tmp_path: Path, line: bytes, expected: str) -> None:
    result = ReaderResult({**yolo(1), "labels/train/p0000.txt": b"0 .5 .5 .5 .5\n" + line}, tmp_path)
    assert result.counts == {"BoxMalformed": 1}
    assert result.problems.listed[0].object == 1
    assert expected in result.problems.listed[0].detail


def test_yolo_names_as_a_map(tmp_path: Path) -> None:
    files = {**yolo(2), "data.yaml": b"names:\n  0: note\n  1: 2027\n"}
    assert ReaderResult(files, tmp_path).classes == ("note", "2027")


@pytest.mark.parametrize("name", ["yes", "Off", "007", "1.10", "12:30", "1_000", "0x1F", "2027-01-05", "1e3", "true"])
def test_yolo_names_are_what_is_written(tmp_path: Path, name: str) -> None:
    """YAML reads them as booleans, numbers and dates."""
    files = {**yolo(2), "data.yaml": f"names: [note, {name}]\n".encode()}
    assert ReaderResult(files, tmp_path).classes == ("note", name)


@pytest.mark.parametrize("name", ["", "~", "null"])
def test_yolo_names_that_are_none(tmp_path: Path, name: str) -> None:
    files = {**yolo(2), "data.yaml": f"names:\n  0: note\n  1: {name}\n".encode()}
    with pytest.raises(DatasetError, match="must be a list of names"):
        ReaderResult(files, tmp_path)


# TF-OD CSV


def test_csv_commas_quotes_and_several_rows(tmp_path: Path) -> None:
    rows = (
        'a b.jpg,64,48,"note, ""small""",4,5,34,40\r\nother.jpg,64,48,cube,1,1,9,9\r\na b.jpg,64,48,cube,1,2,3.5,4\r\n'
    )
    files = {"train/_annotations.csv": (CSV_HEADER + rows).encode(), "train/a b.jpg": jpeg()}
    result = ReaderResult(files, tmp_path)
    assert result.boxes() == [('note, "small"', 4, 5, 34, 40), ("cube", 1, 2, 3.5, 4)]
    assert result.images[0].dataset == "train"
    assert result.counts == {"PictureMissing": 1}


def test_csv_of_the_seed(tmp_path: Path) -> None:
    row = "out/game/ds0/img/frame_00000.jpg,64,48,note,4,5,34,40\n"
    files = {"train.csv": (CSV_HEADER + row).encode(), "out/game/ds0/img/frame_00000.jpg": jpeg()}
    assert [image.dataset for image in ReaderResult(files, tmp_path).images] == ["train"]


def test_csv_faults(tmp_path: Path) -> None:
    rows = "p.jpg,64,48,note,4,5,34\np.jpg,64,48,note,4,5,x,40\np.jpg,64,48,note,4,5,34,40\n"
    result = ReaderResult({"train/_annotations.csv": (CSV_HEADER + rows).encode(), "train/p.jpg": jpeg()}, tmp_path)
    assert result.counts == {"BoxMalformed": 2}
    assert [problem.detail[:5] for problem in result.problems.listed] == ["row 2", "row 3"]
