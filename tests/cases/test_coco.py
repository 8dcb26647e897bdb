"""COCO as tools and people really write it: every box, class, split and problem."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.shapes import run_length_edges
from atoll_stages.convert.readers.values import InvalidValue
from support.archives import SIZE, jpeg
from support.read_back import ReadBack, read_back

CATEGORIES = [{"id": 1, "name": "note"}, {"id": 2, "name": "cone"}]
BOX = ("note", 10, 10, 40, 40)
POLYGON = [[10, 10, 50, 12, 48, 40, 12, 38]]


def item(number: int, image: Any, **values: Any) -> dict[str, Any]:
    """An annotation with the box 10, 10, 40, 40, of which the values may change every key."""
    base = {"id": number, "image_id": image, "category_id": 1, "bbox": [10, 10, 30, 30], "iscrowd": 0}
    return {**base, "segmentation": [], **values}


def images(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for number, name in enumerate(names)]


def document(names: Sequence[str], annotations: Sequence[Any] | None, **changes: Any) -> bytes:
    whole = {"images": images(names), "annotations": annotations, "categories": CATEGORIES, **changes}
    return json.dumps(whole).encode()


def pictures(count: int, folder: str = "images") -> dict[str, bytes]:
    return {f"{folder}/p{number}.jpg": jpeg(number) for number in range(count)}


def one_object(folder: Path, **values: Any) -> ReadBack:
    """Five pictures; the first has the object to be tried, the others one of a plain box."""
    names = [f"p{number}.jpg" for number in range(5)]
    objects = [item(0, 0, **values), *(item(number, number) for number in range(1, 5))]
    return read_back({**pictures(5), "a.json": document(names, objects)}, folder, max_invalid_percent=100.0)


# Geometry.


@pytest.mark.parametrize("bbox", [None, [], [0, 0, 0, 0], [12, 12, 0, 0], [1, 2, 3], [None] * 4, "", {}], ids=repr)
def test_a_polygon_without_a_usable_bbox_gives_the_box_around_it(tmp_path: Path, bbox: Any) -> None:
    found = one_object(tmp_path, bbox=bbox, segmentation=POLYGON)
    assert found.boxes["images/p0.jpg"] == [("note", 10, 10, 50, 40)]
    assert found.counts == {"BoxAround": 1}
    assert found.details == ("BoxAround: the box around its polygon",)


@pytest.mark.parametrize(
    "segmentation",
    [
        POLYGON[0],
        [[[10, 10], [50, 12], [48, 40]]],
        [[10, 10, 20, 12, 15, 40], [30, 20, 50, 22, 48, 30]],
        [["10", "10", "50", "12,0", "48", "40"]],
    ],
    ids=["flat", "pairs", "two parts", "texts"],
)
def test_polygons_in_every_notation(tmp_path: Path, segmentation: Any) -> None:
    found = one_object(tmp_path, bbox=[], segmentation=segmentation)
    assert found.boxes["images/p0.jpg"] == [("note", 10, 10, 50, 40)]


def test_the_bbox_counts_where_both_are_there(tmp_path: Path) -> None:
    found = one_object(tmp_path, segmentation=POLYGON)
    assert found.boxes["images/p0.jpg"] == [BOX]
    assert found.counts == {}


@pytest.mark.parametrize(
    "counts",
    # Columns 10 and 11, rows 5 to 7 of 48 are set.
    [[485, 3, 45, 3, 2534], "U?3]10k]2"],
    ids=["list", "text"],
)
def test_a_mask_without_bbox_gives_the_box_around_it(tmp_path: Path, counts: Any) -> None:
    found = one_object(tmp_path, bbox=[], segmentation={"size": [48, 64], "counts": counts})
    assert found.boxes["images/p0.jpg"] == [("note", 10, 5, 12, 8)]
    assert found.counts == {"BoxAround": 1}


def test_masks_packed_by_pycocotools(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    mask = pytest.importorskip("pycocotools.mask")
    chance = numpy.random.default_rng(7)
    for share in (0.002, 0.01, 0.1, 0.5, 0.97):
        for _ in range(20):
            height, width = (int(side) for side in chance.integers(1, 60, 2))
            pixels = (chance.random((height, width)) < share).astype("uint8")
            pixels[height // 2, width // 2] = 1
            packed = mask.encode(numpy.asfortranarray(pixels))
            rows, columns = numpy.nonzero(pixels)
            found = run_length_edges({"size": [height, width], "counts": packed["counts"].decode()})
            assert found == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [4, 4]},
        {"size": [4], "counts": [0, 16]},
        {"size": [0, 4], "counts": []},
        {"size": [4, 4], "counts": [16]},
        {"size": [4, 4], "counts": [0, 17]},
        {"size": [4, 4], "counts": [3, -1, 5]},
        {"size": [4, 4], "counts": "é"},
        {"size": [4, 4], "counts": "Z" * 30},
        {"size": [4, 4], "counts": "o"},
        {"size": [4, 4], "counts": {"a": 1}},
    ],
)
def test_a_damaged_mask_is_named(mask: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="mask"):
        run_length_edges(mask)


def test_keypoints_alone_give_the_box_around_those_that_are_labelled(tmp_path: Path) -> None:
    found = one_object(tmp_path, bbox=[], keypoints=[10, 12, 2, 0, 0, 0, 30, 22, 1])
    assert found.boxes["images/p0.jpg"] == [("note", 10, 12, 30, 22)]
    assert found.counts == {"BoxAround": 1}


@pytest.mark.parametrize("keypoints", [[10, 12, 2], [10, 12, 2, 30, 12, 2]])
def test_keypoints_without_area_are_left_out_with_their_kind(tmp_path: Path, keypoints: list[int]) -> None:
    found = one_object(tmp_path, bbox=None, keypoints=keypoints)
    assert found.boxes["images/p0.jpg"] == []
    assert found.counts == {"GeometryWithoutArea": 1}


@pytest.mark.parametrize(("degrees", "count"), [(90.0, 1), ("90", 1), (-90, 1), (0.0, 0), (360, 0), ("left", 0)])
def test_a_rectangle_that_cvat_turned(tmp_path: Path, degrees: Any, count: int) -> None:
    found = one_object(tmp_path, bbox=[10, 10, 30, 10], attributes={"occluded": False, "rotation": degrees})
    turned, plain = ("note", 20, 0, 30, 30), ("note", 10, 10, 40, 20)
    assert found.boxes["images/p0.jpg"] == [turned if count else plain]
    assert found.counts.get("BoxAround", 0) == count


def test_neither_box_nor_shape_is_counted(tmp_path: Path) -> None:
    found = one_object(tmp_path, bbox=None, segmentation=None)
    assert found.boxes["images/p0.jpg"] == []
    assert found.counts == {"BoxMalformed": 1}


# Crowds.


def test_a_crowd_among_objects_is_left_out(tmp_path: Path) -> None:
    found = one_object(tmp_path, iscrowd=1)
    assert found.boxes["images/p0.jpg"] == []
    assert found.counts == {"Crowd": 1}


@pytest.mark.parametrize("mark", [1, 1.0, True, "1"])
def test_where_every_object_is_a_crowd_they_are_used_and_counted(tmp_path: Path, mark: Any) -> None:
    mask = {"size": [48, 64], "counts": [485, 3, 45, 3, 2534]}
    objects = [item(n, n, iscrowd=mark, bbox=[10, 10, 30, 30] if n else None, segmentation=mask) for n in range(5)]
    names = [f"p{number}.jpg" for number in range(5)]
    found = read_back({**pictures(5), "a.json": document(names, objects)}, tmp_path)
    assert found.boxes == {
        "images/p0.jpg": [("note", 10, 5, 12, 8)],
        **{f"images/p{number}.jpg": [BOX] for number in range(1, 5)},
    }
    assert found.counts == {"CrowdUsed": 5, "BoxAround": 1}


# Values.


@pytest.mark.parametrize("image_id", ["0", 0.0, "0.0"], ids=repr)
@pytest.mark.parametrize("category_id", ["1", 1.0, " 1 "], ids=repr)
def test_ids_as_text_and_as_float(tmp_path: Path, image_id: Any, category_id: Any) -> None:
    found = one_object(tmp_path, image_id=image_id, category_id=category_id, iscrowd=0.0, segmentation=None)
    assert found.boxes["images/p0.jpg"] == [BOX]
    assert found.counts == {}


def test_ids_that_are_texts_of_their_own(tmp_path: Path) -> None:
    changes = {
        "images": [{"id": f"img-{n}", "file_name": f"p{n}.jpg", "width": None, "height": None} for n in range(4)],
        "categories": [{"id": "n", "name": "note", "supercategory": None}, {"id": 7, "name": 2027}],
    }
    objects = [item(n, f"img-{n}", category_id="n" if n % 2 else "7") for n in range(4)]
    found = read_back({**pictures(4), "a.json": document([], objects, **changes)}, tmp_path)
    assert [box[0] for boxes in found.boxes.values() for box in boxes] == ["2027", "note", "2027", "note"]
    assert found.classes == ("note", "2027")


def test_numbers_as_text(tmp_path: Path) -> None:
    found = one_object(tmp_path, bbox=["10", "10.0", "3e1", "30,0"])
    assert found.boxes["images/p0.jpg"] == [BOX]


def test_the_size_of_a_picture_as_text(tmp_path: Path) -> None:
    """The picture was labelled at twice its size."""
    listed = [{"id": number, "file_name": f"p{number}.jpg", "width": "128", "height": 96.0} for number in range(4)]
    objects = [item(number, number, bbox=[20, 20, 60, 60]) for number in range(4)]
    found = read_back({**pictures(4), "a.json": document([], objects, images=listed)}, tmp_path)
    assert found.boxes["images/p0.jpg"] == [BOX]
    assert found.counts == {"SizeScaled": 4}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"category_id": None}, 'category_id "None" is not in categories'),
        ({"category_id": True}, 'category_id "True" is not in categories'),
        ({"category_id": 1.5}, 'category_id "1.5" is not in categories'),
        ({"image_id": None}, 'image_id "None" is not in images'),
        ({"bbox": [10, 10, "wide", 30]}, '"wide" is not a number'),
        ({"bbox": [10, 10, True, 30]}, "a boolean where a number is needed"),
    ],
)
def test_a_value_that_is_none_is_counted_with_its_object(tmp_path: Path, values: dict[str, Any], expected: str) -> None:
    found = one_object(tmp_path, **values)
    assert found.boxes["images/p0.jpg"] == []
    assert found.counts == {"BoxMalformed": 1}
    assert expected in found.details[0]


def test_a_list_of_annotations_that_is_null_is_empty(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no box is left") as raised:
        read_back({**pictures(4), "a.json": document([f"p{n}.jpg" for n in range(4)], None)}, tmp_path)
    assert raised.value.reason is Reason.NO_USABLE_EXAMPLES


@pytest.mark.parametrize(
    "entry",
    [
        {"id": None, "file_name": "p4.jpg"},
        {"file_name": "p4.jpg"},
        {"id": 9, "file_name": None},
        {"id": 9},
        None,
        "p4.jpg",
    ],
    ids=repr,
)
def test_an_entry_without_id_or_name_takes_no_other_with_it(tmp_path: Path, entry: Any) -> None:
    listed = [*images([f"p{number}.jpg" for number in range(4)]), entry]
    objects = [*(item(number, number) for number in range(4)), item(4, 9)]
    whole = document([], objects, images=listed)
    found = read_back({**pictures(5), "a.json": whole}, tmp_path, max_invalid_percent=100.0)
    assert found.boxes == {f"images/p{number}.jpg": [BOX] for number in range(4)}
    assert found.counts["PictureMissing"] == 1
    assert found.counts["AnnotationMissing"] == 1


# One picture twice.


def test_the_boxes_of_both_entries_of_a_picture_are_kept(tmp_path: Path) -> None:
    names = [*(f"p{number}.jpg" for number in range(5)), "images/p0.jpg", "p0.jpg"]
    objects = [
        *(item(number, number) for number in range(6)),
        item(6, 5, bbox=[50, 20, 10, 20]),
        item(7, 6, category_id=2),
    ]
    found = read_back({**pictures(5), "a.json": document(names, objects)}, tmp_path)
    assert found.boxes["images/p0.jpg"] == [BOX, ("note", 50, 20, 60, 40), ("cone", 10, 10, 40, 40)]
    assert [found.boxes[f"images/p{number}.jpg"] for number in range(1, 5)] == [[BOX]] * 4
    assert found.counts["PictureMerged"] == 1
    assert 'PictureMerged: "images/p0.jpg" is entered 3 times; 1 boxes are there twice' in found.details


def test_equal_boxes_of_one_entry_are_no_double_entry(tmp_path: Path) -> None:
    names = [f"p{number}.jpg" for number in range(4)]
    objects = [*(item(number, number) for number in range(4)), item(4, 0)]
    found = read_back({**pictures(4), "a.json": document(names, objects)}, tmp_path)
    assert found.boxes["images/p0.jpg"] == [BOX, BOX]
    assert "PictureMerged" not in found.counts


def test_entries_of_a_picture_at_two_scales_are_not_mixed(tmp_path: Path) -> None:
    listed = [*images([f"p{n}.jpg" for n in range(4)]), {"id": 9, "file_name": "p0.jpg", "width": 128, "height": 96}]
    objects = [*(item(number, number) for number in range(4)), item(4, 9, bbox=[100, 40, 20, 40])]
    found = read_back({**pictures(4), "a.json": document([], objects, images=listed)}, tmp_path)
    assert found.boxes["images/p0.jpg"] == [BOX]
    assert found.counts["AnnotationDuplicate"] == 1


def test_an_item_that_is_repeated_word_for_word_is_one(tmp_path: Path) -> None:
    listed = [*images([f"p{n}.jpg" for n in range(4)]), {"id": 0, "file_name": "p0.jpg"}]
    objects = [item(number, number) for number in range(4)]
    whole = document([], objects, images=listed, categories=[*CATEGORIES, CATEGORIES[0]])
    found = read_back({**pictures(4), "a.json": whole}, tmp_path)
    assert found.boxes["images/p0.jpg"] == [BOX]
    assert found.counts == {}


def test_three_files_that_label_the_same_pictures_differently_are_counted(tmp_path: Path) -> None:
    files = pictures(3)
    for shift, subset in ((1, "validation"), (3, "train"), (6, "test")):
        objects = [item(number, number, bbox=[10 + shift, 10, 30, 30]) for number in range(3)]
        files[f"annotations/instances_{subset}.json"] = document([f"p{number}.jpg" for number in range(3)], objects)
    found = read_back(files, tmp_path)
    assert sorted(found.boxes) == ["images/p0.jpg", "images/p1.jpg", "images/p2.jpg"]
    assert found.counts["AnnotationDuplicate"] == 6


@pytest.mark.parametrize("names", [("train", "val", "all"), ("instances_Train", "instances_Validation", "a_whole")])
def test_files_of_a_split_beat_the_file_of_the_whole(tmp_path: Path, names: tuple[str, str, str]) -> None:
    train, validation, whole = (f"annotations/{name}.json" for name in names)
    all_names = [f"p{number}.jpg" for number in range(6)]
    files = {
        **pictures(6),
        train: document(all_names[:4], [item(number, number) for number in range(4)]),
        validation: document(all_names[4:], [item(number, number) for number in range(2)]),
        whole: document(all_names, [item(number, number) for number in range(6)]),
    }
    found = read_back(files, tmp_path)
    assert [found.split[f"images/{name}"] for name in all_names] == ["train"] * 4 + ["validation"] * 2
    assert all(boxes == [BOX] for boxes in found.boxes.values())
    assert found.counts == {}


@pytest.mark.parametrize(
    ("name", "first", "rest"),
    [("train", "train", "validation"), ("val", "validation", "train"), ("instances_Train", "train", "validation")],
)
def test_what_the_file_of_one_split_leaves_of_the_whole_is_the_other(
    tmp_path: Path, name: str, first: str, rest: str
) -> None:
    names = [f"p{number}.jpg" for number in range(6)]
    files = {
        **pictures(6),
        f"annotations/{name}.json": document(names[:4], [item(number, number) for number in range(4)]),
        "annotations/all.json": document(names, [item(number, number) for number in range(6)]),
    }
    found = read_back(files, tmp_path)
    assert [found.split[f"images/{name}"] for name in names] == [first] * 4 + [rest] * 2
    assert found.counts == {}


def test_the_file_of_other_pictures_is_no_whole(tmp_path: Path) -> None:
    names = [f"p{number}.jpg" for number in range(8)]
    files = {**pictures(8)}
    for part, name in enumerate(("train", "val", "more", "again")):
        own = names[2 * part : 2 * part + 2]
        files[f"annotations/{name}.json"] = document(own, [item(number, number) for number in range(2)])
    found = read_back(files, tmp_path)
    assert [found.split[f"images/{name}"] for name in names] == ["train"] * 2 + ["validation"] * 2 + ["train"] * 4
    assert "4 pictures without a part went to train" in found.warnings


# The folders of CVAT.


@pytest.mark.parametrize("lead", ["", "export/"])
def test_subsets_of_cvat_with_the_same_names_of_frames(tmp_path: Path, lead: str) -> None:
    files: dict[str, bytes] = {}
    boxes: dict[str, list[Any]] = {}
    for part, (subset, count) in enumerate((("Train", 4), ("Validation", 2), ("backup", 1))):
        names = [f"frame_{number:06d}.PNG" for number in range(count)]
        objects = [item(number, number, bbox=[10 + part, 10, 30, 30]) for number in range(count)]
        files[f"{lead}annotations/instances_{subset}.json"] = document(names, objects)
        for number, name in enumerate(names):
            files[f"{lead}images/{subset}/{name}"] = jpeg(100 * part + number)
            boxes[f"{lead}images/{subset}/{name}"] = [("note", 10 + part, 10, 40 + part, 40)]
    found = read_back(files, tmp_path)
    assert found.boxes == boxes
    assert {name: split for name, split in found.split.items() if "Train" in name or "Validation" in name} == {
        name: "train" if "Train" in name else "validation" for name in boxes if "backup" not in name
    }
    assert not {"PictureMissing", "AnnotationMissing", "AnnotationDuplicate"} & found.counts.keys()


def test_names_of_windows_and_label_studio(tmp_path: Path) -> None:
    names = ["images\\4/p0.jpg", "..\\..\\media\\upload\\4\\p1.jpg", "images\\p2.jpg", ".\\images/p3.jpg"]
    found = read_back({**pictures(4), "result.json": document(names, [item(n, n) for n in range(4)])}, tmp_path)
    assert found.boxes == {f"images/p{number}.jpg": [BOX] for number in range(4)}


def test_roboflows_root_category_is_no_class_of_the_label_map(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "fish", "supercategory": "none"}, *CATEGORIES]
    files: dict[str, bytes] = {}
    for first, part in ((0, "train"), (10, "valid")):
        names = [f"p{first + number}_jpg.rf.0{number}.jpg" for number in range(4)]
        objects = [item(number, number, category_id=1 + number % 2) for number in range(3)]
        files[f"{part}/_annotations.coco.json"] = document(names, objects, categories=categories)
        files.update({f"{part}/{name}": jpeg(first + number) for number, name in enumerate(names)})
    found = read_back(files, tmp_path)
    assert found.classes == ("note", "cone")
    assert [len(boxes) for boxes in found.boxes.values()] == [1, 1, 1, 0] * 2
    assert list(found.split.values()) == ["train"] * 4 + ["validation"] * 4
