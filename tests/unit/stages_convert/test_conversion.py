"""Whole conversions: several archives, class rules, duplicates."""

import errno
import io
import sqlite3
from pathlib import Path, PosixPath
from typing import BinaryIO

import pytest

from atoll_contract.convert_spec import ConvertSpec, DatasetSource, Rename
from atoll_contract.errors import ExitCode, Reason
from atoll_stages.convert.example_store import full_disk_as_os_error
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from atoll_stages.convert.shards import write_shards
from support.archives import (
    annotation,
    coco,
    encoded,
    packed,
    picture,
    rectangle,
    supervisely,
    tfod_csv,
    voc,
    write_files,
    yolo,
)
from support.convert_stage import ConvertStage, totals
from support.converted_records import examples


@pytest.mark.parametrize(
    ("files", "suffix", "classes"),
    [
        (supervisely(10), ".tar", ["note"]),
        (coco(10), ".zip", ["note"]),
        (voc(10), ".tar.gz", ["note"]),
        (yolo(10), ".zip", ["note", "robot"]),
        (tfod_csv(6), ".zip", ["note, small"]),
    ],
    ids=["supervisely", "coco", "voc", "yolo", "tfod-csv"],
)
def test_every_format_becomes_records(
    stage: ConvertStage, files: dict[str, bytes], suffix: str, classes: list[str]
) -> None:
    ended = stage.put(f"x{suffix}", packed(files, suffix)).run()
    assert ended.code == ExitCode.OK
    assert list(ended.dataset().class_names) == classes
    records = examples(ended)
    assert len(records) == ended.result.summary["pictures"] == (12 if suffix == ".zip" and len(classes[0]) > 5 else 10)
    for record in records:
        assert len(record["image/object/class/label"]) == 1
        label = record["image/object/class/label"][0]
        assert record["image/object/class/text"] == [classes[label - 1].encode()]


def test_the_split_of_axons_zip_is_kept(stage: ConvertStage) -> None:
    dataset = stage.put("x.zip", packed(tfod_csv(6), ".zip")).run().dataset()
    assert dataset.split_by == "datasets"
    assert dataset.splits["test"].pictures == 6


def test_archives_are_merged_by_class_name(stage: ConvertStage) -> None:
    stage.put("a.tar", packed(supervisely(6, labels=["note", "cube"]), ".tar"))
    stage.put("b.zip", packed(coco(6, labels=["cone", "cube"], first=50), ".zip"))
    ended = stage.run()
    dataset = ended.dataset()
    assert dataset.class_names == ("note", "cube", "cone")
    assert {item.name: sum(item.boxes.values()) for item in dataset.classes} == {"note": 6, "cube": 9, "cone": 3}
    assert [(source.format, source.pictures, source.boxes) for source in dataset.sources] == [
        ("supervisely", 6, 12),
        ("coco", 6, 6),
    ]
    ids = {record["image/source_id"][0] for record in examples(ended)}
    assert b"b.zip: p0050.jpg" in ids
    assert len(ids) == 12


def test_problems_name_their_archive_where_there_are_several(stage: ConvertStage) -> None:
    files = supervisely(6)
    del files["game/ds0/img/frame_00003.jpg"]
    stage.put("a.tar", packed(supervisely(6, first=500), ".tar")).put("b.tar", packed(files, ".tar"))
    problem = stage.run().dataset().problems[0]
    assert problem.file == "b.tar: game/ds0/ann/frame_00003.jpg.json"


def test_a_prefix_means_every_archive_below_it(stage: ConvertStage) -> None:
    for number in range(3):
        stage.put(f"season/{number}.tar", packed(supervisely(4, first=100 * number), ".tar"))
    stage.put("season/notes.txt", b"not an archive")
    stage.sources[:] = [DatasetSource("datasets/team/season/")]
    dataset = stage.run().dataset()
    assert [source.key for source in dataset.sources] == [f"datasets/team/season/{number}.tar" for number in range(3)]


@pytest.mark.parametrize("key", ["datasets/team/nothing.tar", "datasets/team/empty/"])
def test_a_dataset_that_is_not_there(stage: ConvertStage, key: str) -> None:
    stage.store.mkdir()
    stage.sources.append(DatasetSource(key))
    ended = stage.run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_NOT_FOUND, Reason.DATASET_NOT_FOUND)
    assert key in ended.message


def test_a_pinned_prefix_is_a_wrong_setting(stage: ConvertStage) -> None:
    stage.put("season/a.tar", packed(supervisely(4), ".tar"))
    stage.sources[:] = [DatasetSource("datasets/team/season/", digest="sha256:" + "0" * 64)]
    ended = stage.run()
    assert (ended.code, ended.reason) == (ExitCode.INVALID_SPEC, Reason.INVALID_SPEC)


def test_rename_ignore_and_order_of_classes(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(6, labels=["Note", "robot", "cube", "note "]), ".tar"))
    ended = stage.run(
        classes=("cube", "note"), rename=(Rename("Note", "note"), Rename("never", "x")), ignore=("robot", "nobody")
    )
    dataset = ended.dataset()
    assert dataset.class_names == ("cube", "note")
    assert {item.name: sum(item.boxes.values()) for item in dataset.classes} == {"cube": 6, "note": 12}
    assert dataset.problem_counts == {}
    assert totals(dataset)["objects"] == {"seen": 24, "used": 18, "ignoredAsAsked": 6}
    assert 'rename from "never" met no object' in dataset.warnings
    assert 'ignore "nobody" met no object' in dataset.warnings


def test_a_listed_class_without_boxes_stays_in_the_label_map(stage: ConvertStage) -> None:
    dataset = stage.put("x.tar", packed(supervisely(6), ".tar")).run(classes=("cube", "note")).dataset()
    assert dataset.class_names == ("cube", "note")
    assert 'class "cube" has no boxes; it stays in the label map' in dataset.warnings


def test_geometry_without_area_is_counted_and_its_picture_kept(stage: ConvertStage) -> None:
    files = supervisely(6)
    line = {**rectangle("note", 1, 2, 3, 4), "geometryType": "line"}
    files["game/ds0/ann/frame_00002.jpg.json"] = annotation([line, rectangle("note", 4, 5, 34, 40)])
    dataset = stage.put("x.tar", packed(files, ".tar")).run().dataset()
    assert dataset.problem_counts == {"GeometryWithoutArea": 1}
    assert sum(part.boxes for part in dataset.splits.values()) == 6


def test_exact_duplicates_are_dropped_within_a_dataset_and_reported_across(stage: ConvertStage) -> None:
    files = supervisely(6, datasets=("ds0", "ds1"))
    files["game/ds0/img/frame_00004.jpg"] = files["game/ds0/img/frame_00001.jpg"]
    files["game/ds1/img/frame_01002.jpg"] = files["game/ds0/img/frame_00001.jpg"]
    dataset = stage.put("x.tar", packed(files, ".tar")).run().dataset()
    assert sum(part.pictures for part in dataset.splits.values()) == 11
    assert [(p.file, p.action) for p in dataset.problems if p.kind == "Duplicate"] == [
        ("game/ds0/img/frame_00004.jpg", "dropped"),
        ("game/ds1/img/frame_01002.jpg", "kept"),
    ]


def test_near_duplicates_are_reported(stage: ConvertStage) -> None:
    files = supervisely(6)
    files["game/ds0/img/other.jpg"] = encoded(picture(1), "JPEG", quality=60)
    files["game/ds0/ann/other.jpg.json"] = annotation([rectangle("note", 4, 5, 34, 40)])
    dataset = stage.put("x.tar", packed(files, ".tar")).run().dataset()
    assert [(p.kind, p.file) for p in dataset.problems] == [("NearDuplicate", "game/ds0/img/other.jpg")]
    assert 'looks like "game/ds0/img/frame_00001.jpg"' in dataset.problems[0].detail


def test_neighbouring_frames_that_look_alike_are_no_problem(stage: ConvertStage) -> None:
    files = supervisely(120)
    files["game/ds0/img/frame_00002.jpg"] = encoded(picture(1), "JPEG", quality=60)
    kinds = stage.put("x.tar", packed(files, ".tar")).run().dataset().problems
    assert not [problem for problem in kinds if problem.file.endswith("frame_00002.jpg")]


def test_a_prefix_without_archives_is_the_datasets_own_folder(stage: ConvertStage) -> None:
    write_files(supervisely(6), stage.store / "datasets" / "team" / "loose")
    stage.sources.append(DatasetSource("datasets/team/loose/"))
    first, second = stage.run(), stage.run()
    assert (first.reason, second.reason) == (Reason.COMPLETED, Reason.CACHE_HIT)
    dataset = first.dataset()
    assert [(source.key, source.pictures) for source in dataset.sources] == [("datasets/team/loose/", 6)]


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_an_archive_is_removed_once_its_pictures_are_read(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"data{suffix}"
    archive.write_bytes(packed(supervisely(20), suffix))
    source = Source(archive.name, archive, disposable=True)
    with read_dataset([source], ConvertSpec(sources=()), tmp_path / "work") as conversion:
        assert conversion.store.count() == 20
        assert not archive.exists()


class FullDisk(PosixPath):
    def open(self, *_: object, **__: object) -> BinaryIO:  # type: ignore[override]
        return io.open("/dev/full", "wb")  # noqa: UP020 - the folder's own `open` is this one


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file on a disk that is always full")
def test_records_that_do_not_fit_on_the_disk_are_told(tmp_path: Path) -> None:
    archive = tmp_path / "data.tar"
    archive.write_bytes(packed(supervisely(20), ".tar"))
    with read_dataset([Source(archive.name, archive)], ConvertSpec(sources=()), tmp_path / "work") as conversion:
        classes = summarize(conversion).classes
        with pytest.raises(OSError, match="No space left"):
            next(write_shards(conversion.store, "train", FullDisk(tmp_path), classes=classes, sources=["data.tar"]))


def test_a_full_disk_is_the_systems_own_error(tmp_path: Path) -> None:
    """SQLite has an error of its own; the stage ends with `EphemeralStorageExceeded` on ENOSPC only."""
    database = sqlite3.connect(tmp_path / "small.sqlite")
    database.executescript("PRAGMA max_page_count = 3; CREATE TABLE t (x)")
    with pytest.raises(OSError, match="No space left") as caught, full_disk_as_os_error():
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 900,)] * 40)
    assert caught.value.errno == errno.ENOSPC
    database.close()
