"""Every format is detected, and read into the same annotated images; what cannot be read is counted."""

from pathlib import Path

import pytest

from atoll_contract.archive.extract import extract
from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError
from atoll_stages.convert.problems import Problems
from atoll_stages.convert.readers import find_readers
from atoll_stages.convert.readers.base import Archive
from support.archives import (
    CSV_HEADER,
    annotation,
    coco,
    encoded,
    jpeg,
    meta,
    packed,
    picture,
    rectangle,
    supervisely,
    tfod_csv,
    voc,
    yolo,
)
from support.reader_result import LIMITS, ReaderResult


@pytest.mark.parametrize(
    ("files", "form"),
    [
        (supervisely(3), DatasetFormat.SUPERVISELY),
        (coco(3), DatasetFormat.COCO),
        (voc(3), DatasetFormat.VOC),
        (yolo(3), DatasetFormat.YOLO),
        (tfod_csv(3), DatasetFormat.TFOD_CSV),
    ],
    ids=["supervisely", "coco", "voc", "yolo", "tfod-csv"],
)
def test_each_format_is_detected(tmp_path: Path, files: dict[str, bytes], form: DatasetFormat) -> None:
    result = ReaderResult(files, tmp_path)
    assert result.format is form
    assert len(result.images) in (3, 6)
    assert all(len(image.boxes) == 1 for image in result.images)
    assert result.counts == {}


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="looked for yolo"):
        ReaderResult(coco(2), tmp_path, DatasetFormat.YOLO)


def test_an_archive_of_no_format_is_refused_with_all_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"supervisely: .*coco: .*voc: .*yolo: "):
        ReaderResult({"a.jpg": jpeg()}, tmp_path)


def test_a_name_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    files = {
        "x/a.jpg": jpeg(1),
        "y/a.jpg": jpeg(2),
        "deep/labels.csv": (CSV_HEADER + "a.jpg,64,48,n,1,1,9,9\n").encode(),
    }
    result = ReaderResult(files, tmp_path)
    assert result.images == []
    assert result.counts == {"PictureAmbiguous": 1}
    assert result.problems.listed[0].detail == '"a.jpg" may be "x/a.jpg" or "y/a.jpg"'


def test_every_archive_kind_reads_alike(tmp_path: Path) -> None:
    files = supervisely(2)
    found = []
    for suffix in (".tar", ".tar.gz", ".zip"):
        source = tmp_path / f"x{suffix}"
        source.write_bytes(packed(files, suffix))
        with extract(source, tmp_path / f"out{suffix}", LIMITS) as members:
            archive = Archive("x", members, LIMITS, Problems())
            images = find_readers(archive, DatasetFormat.AUTO)[0].read(archive).images
            found.append([(item.image.name, item.boxes, item.dataset) for item in images])
    assert found[0] == found[1] == found[2]


def test_png_exports_are_read_too(tmp_path: Path) -> None:
    files = {
        "game/meta.json": meta("note"),
        "game/ds0/img/a.png": encoded(picture(1), "PNG"),
        "game/ds0/ann/a.png.json": annotation([rectangle("note", 1, 2, 30, 40)]),
    }
    assert ReaderResult(files, tmp_path).boxes() == [("note", 1, 2, 30, 40)]


def test_a_reader_notes_the_members_beside_pictures_and_annotations_that_it_uses(tmp_path: Path) -> None:
    assert ReaderResult(supervisely(2), tmp_path).used == {"game/meta.json"}
