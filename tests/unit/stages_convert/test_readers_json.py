"""Supervisely and COCO: what their documents give, and what in them is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import DatasetError
from support.archives import (
    annotation,
    coco,
    jpeg,
    meta,
    rectangle,
    supervisely,
)
from support.reader_result import ReaderResult


def test_supervisely_new_layout_reads_annotations_only(tmp_path: Path) -> None:
    files = supervisely(2)
    for number in range(2):
        base = f"frame_{number:05d}.jpg"
        files[f"game/ds0/img_info/{base}.json"] = b'{"id": 1, "imageName": "x"}'
        files[f"game/ds0/meta/{base}.json"] = b'{"shot": "night"}'
        files[f"game/ds0/ann/._{base}.json"] = b"\0\5\x16\7 resource fork"
        files[f"game/ds0/masks_machine/{base}.png"] = b"mask"
    files["game/obj_class_to_machine_color.json"] = b"{}"
    result = ReaderResult(files, tmp_path)
    assert len(result.images) == 2
    assert result.counts == {}


@pytest.mark.parametrize("project", ["game", "", "a/b c, d"])
def test_supervisely_project_at_any_depth(tmp_path: Path, project: str) -> None:
    lead = f"{project}/" if project else ""
    files = {f"{lead}{name.removeprefix('game/')}": data for name, data in supervisely(2).items()}
    result = ReaderResult(files, tmp_path)
    assert [image.dataset for image in result.images] == ["ds0", "ds0"]


def test_supervisely_nested_datasets(tmp_path: Path) -> None:
    files = {name.replace("ds0", "season/datasets/train"): data for name, data in supervisely(2).items()}
    assert {image.dataset for image in ReaderResult(files, tmp_path).images} == {"season/train"}


def test_supervisely_annotations_of_2018_have_no_picture_suffix(tmp_path: Path) -> None:
    files = {name.replace(".jpg.json", ".json"): data for name, data in supervisely(2).items()}
    assert len(ReaderResult(files, tmp_path).images) == 2


def test_supervisely_tags_old_and_new(tmp_path: Path) -> None:
    files = supervisely(2)
    files["game/ds0/ann/frame_00000.jpg.json"] = annotation(tags=["val"])
    files["game/ds0/ann/frame_00001.jpg.json"] = b'{"objects": [], "tags": ["train"]}'
    assert [image.tags for image in ReaderResult(files, tmp_path).images] == [("val",), ("train",)]


def test_supervisely_classes_in_the_order_of_meta(tmp_path: Path) -> None:
    files = {**supervisely(1, labels=["b", "a"]), "game/meta.json": meta("c", "b", "a")}
    assert ReaderResult(files, tmp_path).classes == ("c", "b", "a")


def test_supervisely_class_by_id_where_the_title_is_missing(tmp_path: Path) -> None:
    item = rectangle("x", 4, 5, 34, 40)
    del item["classTitle"]
    files = {**supervisely(1), "game/meta.json": meta("cube", "note")}
    files["game/ds0/ann/frame_00000.jpg.json"] = annotation([{**item, "classId": 11}])
    assert ReaderResult(files, tmp_path).boxes() == [("note", 4, 5, 34, 40)]


# COCO


def document(files: dict[str, bytes], **changes: Any) -> bytes:
    return json.dumps({**json.loads(files["_annotations.coco.json"]), **changes}).encode()


def test_coco_official_layout(tmp_path: Path) -> None:
    files = {f"val2017/p{number:04d}.jpg": jpeg(number) for number in range(2)}
    files["annotations/instances_val2017.json"] = coco(2)["_annotations.coco.json"]
    files["annotations/person_keypoints_val2017.json"] = coco(2)["_annotations.coco.json"]
    result = ReaderResult(files, tmp_path)
    assert [image.dataset for image in result.images] == ["annotations/val", "annotations/val"]
    assert result.boxes()[0] == ("note", 4, 5, 34, 40)


def test_coco_of_roboflow_has_a_file_for_each_part(tmp_path: Path) -> None:
    files = {**coco(2, folder="train"), **coco(1, folder="valid")}
    assert [image.dataset for image in ReaderResult(files, tmp_path).images] == ["train", "train", "valid"]


def test_coco_faults_are_counted_by_object(tmp_path: Path) -> None:
    files = coco(1)
    base = {"image_id": 0, "category_id": 1, "bbox": [4, 5, 30, 35]}
    annotations = [
        base,
        {**base, "image_id": 9},
        {**base, "category_id": 9},
        {**base, "bbox": [1, 2, 3]},
        {**base, "iscrowd": 1},
        {"image_id": 0, "category_id": 1, "segmentation": [[1, 2, 11, 2, 11, 22]]},
        "nonsense",
    ]
    files["_annotations.coco.json"] = document(files, annotations=annotations)
    result = ReaderResult(files, tmp_path)
    assert result.boxes() == [("note", 4, 5, 34, 40), ("note", 1, 2, 11, 22)]
    assert result.counts == {"BoxMalformed": 4, "Crowd": 1, "BoxAround": 1}
    assert {problem.object for problem in result.problems.listed} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"images": [{"id": 0}]}, r"images\[0\] needs a whole number or text as id, and a file_name"),
        ({"images": [{"id": 0, "file_name": "a"}, {"id": 0, "file_name": "b"}]}, r"images\[1\]: id 0 is there twice"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] needs"),
        ({"categories": {}}, 'key "categories" must be a list'),
    ],
)
def test_coco_document_that_is_none(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    files = coco(1)
    with pytest.raises(DatasetError, match=expected):
        ReaderResult({**files, "_annotations.coco.json": document(files, **changes)}, tmp_path)
