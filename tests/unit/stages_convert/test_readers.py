"""Every format gives the same neutral examples; what a format cannot give is counted."""

from pathlib import Path

import pytest

from atoll_contract.archive.extract import extract
from atoll_contract.errors import DatasetError
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.example import Archive
from atoll_stages.convert.pipeline import reader_of
from atoll_stages.convert.problems import Problems
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
from support.reading import LIMITS, Seen


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
def test_formats_are_told_apart(tmp_path: Path, files: dict[str, bytes], form: DatasetFormat) -> None:
    seen = Seen(files, tmp_path)
    assert seen.format is form
    assert len(seen.examples) in (3, 6)
    assert all(len(example.boxes) == 1 for example in seen.examples)
    assert seen.counts == {}


def test_a_format_that_the_archive_does_not_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="looked for yolo"):
        Seen(coco(2), tmp_path, DatasetFormat.YOLO)


def test_no_format_at_all_names_all_that_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"supervisely: .*coco: .*voc: .*yolo: "):
        Seen({"a.jpg": jpeg()}, tmp_path)


def test_a_name_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    files = {
        "x/a.jpg": jpeg(1),
        "y/a.jpg": jpeg(2),
        "deep/labels.csv": (CSV_HEADER + "a.jpg,64,48,n,1,1,9,9\n").encode(),
    }
    seen = Seen(files, tmp_path)
    assert seen.examples == []
    assert seen.counts == {"PictureMissing": 1}


def test_every_archive_kind_reads_alike(tmp_path: Path) -> None:
    files = supervisely(2)
    found = []
    for suffix in (".tar", ".tar.gz", ".zip"):
        source = tmp_path / f"x{suffix}"
        source.write_bytes(packed(files, suffix))
        with extract(source, tmp_path / f"out{suffix}", LIMITS) as members:
            archive = Archive("x", members, LIMITS, Problems())
            examples = reader_of(archive, DatasetFormat.AUTO)[1].read(archive).examples
            found.append([(e.picture.name, e.boxes, e.dataset) for e in examples])
    assert found[0] == found[1] == found[2]


def test_png_exports_are_read_too(tmp_path: Path) -> None:
    files = {
        "game/meta.json": meta("note"),
        "game/ds0/img/a.png": encoded(picture(1), "PNG"),
        "game/ds0/ann/a.png.json": annotation([rectangle("note", 1, 2, 30, 40)]),
    }
    assert Seen(files, tmp_path).boxes() == [("note", 1, 2, 30, 40)]
