"""Supervisely projects as teams really have them: every box, class, split and problem."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import DatasetError
from support.archives import annotation, jpeg, meta, rectangle
from support.read_back import ReadBack, read_back

BOX = ("note", 10, 10, 40, 40)


def shape(kind: str, **values: Any) -> dict[str, Any]:
    return {"id": 9, "classId": 10, "classTitle": "note", "geometryType": kind, "tags": [], **values}


ORIENTED = shape("oriented_bbox", points=[[20, 16], [50, 32]], angle=math.pi / 6)
AROUND = ("note", 18.01, 9.57, 51.99, 38.43)


def project(*objects: dict[str, Any], name: str = "game/ds0", count: int = 5) -> dict[str, bytes]:
    """A project whose pictures all have these objects."""
    files = {f"{name.split('/')[0]}/meta.json": meta("note")}
    for number in range(count):
        files[f"{name}/img/f{number}.jpg"] = jpeg(number)
        files[f"{name}/ann/f{number}.jpg.json"] = annotation(objects)
    return files


def first(found: ReadBack) -> Any:
    return found.boxes["game/ds0/img/f0.jpg"]


def test_oriented_boxes_alone(tmp_path: Path) -> None:
    found = read_back(project(ORIENTED), tmp_path)
    assert found.boxes == {f"game/ds0/img/f{number}.jpg": [AROUND] for number in range(5)}
    assert found.counts == {"BoxAround": 5}


def test_a_class_of_any_shape(tmp_path: Path) -> None:
    """Rectangle, oriented box, polygon, cuboids and keypoints have a box; a point and lines have none."""
    objects = [
        rectangle("note", 10, 10, 40, 40),
        ORIENTED,
        shape("polygon", points={"exterior": [[10, 10], [40, 12], [20, 40]], "interior": []}),
        shape("cuboid", points=[[10, 10], [40, 10], [40, 40], [12, 30]], faces=[[0, 1, 2, 3]]),
        shape("cuboid_2d", vertices={"a": {"loc": [10, 40]}, "b": {"loc": [40, 10]}}),
        shape("graph", nodes={"a": {"loc": [10, 10]}, "b": {"loc": [40, 20]}, "c": {"loc": [30, 40]}}),
        shape("point", points={"exterior": [[10, 10]], "interior": []}),
        shape("line", points={"exterior": [[10, 10], [40, 40]], "interior": []}),
        shape("polyline", points={"exterior": [[10, 10], [40, 40]], "interior": []}),
        shape("graph", nodes={"a": {"loc": [10, 10]}}),
        shape("mask_3d"),
    ]
    found = read_back(project(*objects), tmp_path)
    assert first(found) == [BOX, AROUND, BOX, BOX, BOX, BOX]
    assert found.counts == {"BoxAround": 25, "GeometryWithoutArea": 20, "GeometryUnknown": 5}


def test_names_with_colons_blanks_and_umlauts_in_two_datasets(tmp_path: Path) -> None:
    files = {"robots/meta.json": meta("note")}
    names = [f"robots/{dataset}" for dataset in ("2024-03-01T12:30:00", "Spielfeld Ü", "100 % (2)", "#1")]
    for part, name in enumerate(names):
        for number in range(3):
            files[f"{name}/img/12:30:0{number} ü & ä.jpg"] = jpeg(10 * part + number)
            files[f"{name}/ann/12:30:0{number} ü & ä.jpg.json"] = annotation([rectangle("note", 10, 10, 40 + part, 40)])
    found = read_back(files, tmp_path)
    assert found.boxes == {
        f"{name}/img/12:30:0{number} ü & ä.jpg": [("note", 10, 10, 40 + part, 40)]
        for part, name in enumerate(names)
        for number in range(3)
    }
    assert found.counts == {}


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Validation"), ("training", "valid")])
@pytest.mark.parametrize("how", ["tags", "datasets"])
def test_tags_and_datasets_that_mean_a_split(tmp_path: Path, names: tuple[str, str], how: str) -> None:
    files = {"game/meta.json": meta("note")}
    for part, name in enumerate(names):
        for number in range(3):
            dataset, stem = f"game/{name if how == 'datasets' else 'ds0'}", f"f{3 * part + number}.jpg"
            files[f"{dataset}/img/{stem}"] = jpeg(3 * part + number)
            tags = ["night", name] if how == "tags" else []
            files[f"{dataset}/ann/{stem}.json"] = annotation([rectangle("note", 10, 10, 40, 40)], tags=tags)
    found = read_back(files, tmp_path)
    assert sorted(filter(None, found.split.values())) == ["train"] * 3 + ["validation"] * 3
    assert found.counts == {}


def test_a_project_without_meta_is_read_by_the_titles(tmp_path: Path) -> None:
    files = project(rectangle("note", 10, 10, 40, 40))
    del files["game/meta.json"]
    found = read_back(files, tmp_path)
    assert first(found) == [BOX]
    assert found.counts == {}


@pytest.mark.parametrize(
    ("has_meta", "detail"),
    [
        (True, "no classTitle, and its classId is not in meta.json"),
        (False, "no classTitle, and there is no meta.json that names its classId"),
    ],
)
def test_a_class_that_nothing_names_is_counted(tmp_path: Path, has_meta: bool, detail: str) -> None:
    item = {**rectangle("note", 10, 10, 40, 40), "classId": 99}
    del item["classTitle"]
    files = project(rectangle("note", 10, 10, 40, 40), item)
    if not has_meta:
        del files["game/meta.json"]
    found = read_back(files, tmp_path, max_invalid_percent=100.0)
    assert first(found) == [BOX]
    assert found.counts == {"BoxMalformed": 5}
    assert found.details[0] == f"BoxMalformed: {detail}"


@pytest.mark.parametrize("class_id", [10, "10", 10.0])
def test_a_class_by_its_id(tmp_path: Path, class_id: Any) -> None:
    item = {**rectangle("note", 10, 10, 40, 40), "classId": class_id}
    del item["classTitle"]
    assert first(read_back(project(item), tmp_path)) == [BOX]


def test_annotations_without_the_suffix_of_the_picture(tmp_path: Path) -> None:
    files = {
        name.replace(".jpg.json", ".json"): data for name, data in project(rectangle("note", 10, 10, 40, 40)).items()
    }
    found = read_back(files, tmp_path)
    assert len(found.boxes) == 5
    assert found.counts == {}


def test_a_picture_that_was_saved_in_another_format(tmp_path: Path) -> None:
    files = {name.replace(".jpg.json", ".png.json"): data for name, data in project(ORIENTED).items()}
    found = read_back(files, tmp_path)
    assert first(found) == [AROUND]
    assert found.counts == {"BoxAround": 5, "PictureFoundByStem": 5}


@pytest.mark.parametrize("name", ["f0.json", "f0.bmp.json"])
def test_of_two_pictures_with_one_stem_none_is_guessed(tmp_path: Path, name: str) -> None:
    files = project(rectangle("note", 10, 10, 40, 40))
    files[f"game/ds0/ann/{name}"] = files.pop("game/ds0/ann/f0.jpg.json")
    files["game/ds0/img/f0.png"] = jpeg(77)
    found = read_back(files, tmp_path)
    assert len(found.boxes) == 4
    assert found.counts["PictureAmbiguous"] == 1


def test_a_picture_with_an_annotation_of_its_own_is_no_other_ones(tmp_path: Path) -> None:
    files = project(rectangle("note", 10, 10, 40, 40))
    files["game/ds0/ann/f0.png.json"] = annotation([rectangle("note", 1, 2, 3, 4)])
    found = read_back(files, tmp_path)
    assert first(found) == [BOX]
    assert found.counts == {"PictureMissing": 1}


@pytest.mark.parametrize("kind", ["videos", "volumes", "point_clouds"])
def test_a_project_of_no_images_is_named(tmp_path: Path, kind: str) -> None:
    files = {**project(ORIENTED), "game/meta.json": json.dumps({"classes": [], "projectType": kind}).encode()}
    with pytest.raises(DatasetError, match=f'"game/meta.json" is of a Supervisely project of "{kind}"'):
        read_back(files, tmp_path)


def test_further_documents_of_an_export_are_no_annotations(tmp_path: Path) -> None:
    """Masks for neural networks, class mappings, key-value maps and the page that explains the export."""
    files = project(rectangle("note", 10, 10, 40, 40))
    files["game/classes_mapping.json"] = json.dumps({"note": 1}).encode()
    files["game/obj_class_to_machine_color.json"] = json.dumps({"note": [1, 1, 1]}).encode()
    files["game/key_id_map.json"] = b"{}"
    files["game/README.md"] = b"# game"
    files["game/ds0/masks_machine/f0.png"] = b"a mask"
    found = read_back(files, tmp_path)
    assert len(found.boxes) == 5
    assert "AnnotationMissing" not in found.counts
