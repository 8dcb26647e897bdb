"""Whatever is left out of a data set or changed is a warning; the totals say what became of everything."""

import json
from pathlib import Path

import pytest

from atoll_contract.convert_spec import Rename
from atoll_contract.dataset import Dataset
from atoll_contract.errors import AtollError, ExitCode, Reason
from atoll_stages.convert.totals import require_equal
from support.archives import SIZE, annotation, coco, jpeg, packed, rectangle, supervisely, voc_xml
from support.convert_stage import ConvertStage, Ended, totals
from support.converted_records import edges_of, examples

Edges = tuple[float, float, float, float]


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    return ConvertStage(tmp_path)


def boxes_by_picture(ended: Ended) -> dict[str, list[Edges]]:
    """The boxes of the records in pixels of the picture, by the picture's name."""
    found = {}
    for record in examples(ended):
        width, height = record["image/width"][0], record["image/height"][0]
        edges = [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in edges_of(record)]
        name = record["image/filename"][0].decode().rpartition("/")[2]
        found[name] = sorted(tuple(round(edge, 3) for edge in box) for box in edges)
    return found


def coco_document(names: list[str], boxes: list[tuple[int, list[float]]]) -> bytes:
    """A COCO document; each box has the index of its picture."""
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in enumerate(names)]
    annotations = [
        {"id": n, "image_id": image, "category_id": 1, "bbox": bbox} for n, (image, bbox) in enumerate(boxes)
    ]
    categories = [{"id": 1, "name": "note"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def warning_of(dataset: Dataset, anchor: str) -> str:
    """The one warning that leads to this place of the page."""
    (found,) = [text for text in dataset.warnings if text.endswith(f"docs/data.md#{anchor}")]
    return found


# L1: a small set and one slip of the mouse.


def one_click(bad: int, *, pictures: int = 20) -> dict[str, bytes]:
    """VOC with four boxes in each picture; `bad` boxes have no width."""
    files = {}
    for number in range(pictures):
        boxes: list[tuple[str, float, float, float, float]] = [
            ("note", 2 + 10 * k, 4, 10 + 10 * k, 20) for k in range(4)
        ]
        if number < bad:
            boxes.append(("note", 30, 4, 30, 20))
        files[f"s{number:02}.jpg"] = jpeg(number)
        files[f"s{number:02}.xml"] = voc_xml(f"s{number:02}.jpg", boxes)
    return files


@pytest.mark.parametrize("bad", [1, 4])
def test_L1_few_bad_boxes_are_left_out_with_a_warning(stage: ConvertStage, bad: int) -> None:
    ended = stage.put("in.tar", packed(one_click(bad), ".tar")).run()
    assert ended.code == ExitCode.OK
    right = [(2.0 + 10 * k, 4.0, 10.0 + 10 * k, 20.0) for k in range(4)]
    assert boxes_by_picture(ended) == {f"s{number:02}.jpg": right for number in range(20)}
    dataset = ended.dataset()
    assert totals(dataset)["objects"] == {"seen": 80 + bad, "used": 80, "BoxEmpty": bad}
    text = warning_of(dataset, "box-empty")
    assert text.startswith(f"{bad} box{'' if bad == 1 else 'es'} without width or height (left out); first: ")
    assert '"s00.xml" object 4: [30, 4, 30, 20] in 64×48; draw it again' in text


def test_L1_five_bad_boxes_and_more_than_the_limit_end_the_run(stage: ConvertStage) -> None:
    ended = stage.put("in.tar", packed(one_click(5), ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert '5 of 85 boxes invalid (5.9 %, limit 1 %); first: "s00.xml" object 4: BoxEmpty' in ended.message


def test_L1_five_bad_boxes_within_the_limit_are_left_out(stage: ConvertStage) -> None:
    ended = stage.put("in.tar", packed(one_click(5), ".tar")).run(max_invalid_percent=6.0)
    assert totals(ended.dataset())["objects"] == {"seen": 85, "used": 80, "BoxEmpty": 5}


# F12, F16: one picture, labelled twice.


NAMES = [f"frame_{number:06}.png" for number in range(6)]
FRAMES = {f"images/{name}": jpeg(number) for number, name in enumerate(NAMES)}


def test_F12_two_files_with_other_boxes_for_the_same_pictures_are_a_warning(stage: ConvertStage) -> None:
    one = coco_document(NAMES, [(n, [4, 5, 20, 20]) for n in range(6)])
    two = coco_document(NAMES, [(n, [30, 20, 20, 20]) for n in range(6)])
    files = {**FRAMES, "annotations/instances_a.json": one, "annotations/instances_b.json": two}
    ended = stage.put("in.zip", packed(files, ".zip")).run()
    assert boxes_by_picture(ended) == {name: [(4.0, 5.0, 24.0, 25.0)] for name in NAMES}
    text = warning_of(ended.dataset(), "annotation-duplicate")
    assert text.startswith("6 annotations of the same picture as an earlier annotation file, with other boxes")
    assert '"annotations/instances_b.json": "images/frame_000000.png" has other boxes or another size in' in text
    assert '"annotations/instances_a.json"' in text
    assert totals(ended.dataset())["objects"] == {"seen": 12, "used": 6, "AnnotationDuplicate": 6}


@pytest.mark.parametrize("boxes", [[], [(0, [30, 20, 20, 20]), *((n, [4, 5, 20, 20]) for n in range(6))]])
def test_F12_fewer_or_more_boxes_are_other_boxes(stage: ConvertStage, boxes: list[tuple[int, list[float]]]) -> None:
    one = coco_document(NAMES, [(n, [4, 5, 20, 20]) for n in range(6)])
    files = {**FRAMES, "a.json": one, "b.json": coco_document(NAMES, boxes)}
    dataset = stage.put("in.zip", packed(files, ".zip")).run().dataset()
    assert warning_of(dataset, "annotation-duplicate").startswith(f"{1 if boxes else 6} annotation")
    assert totals(dataset)["objects"]["used"] == 6


def test_F12_the_same_boxes_again_are_no_warning(stage: ConvertStage) -> None:
    one = coco_document(NAMES, [(n, [4, 5, 20, 20]) for n in range(6)])
    dataset = stage.put("in.zip", packed({**FRAMES, "a.json": one, "b.json": one}, ".zip")).run().dataset()
    assert dataset.problem_counts == {"PictureMisnamed": 6}
    assert totals(dataset)["objects"] == {"seen": 12, "used": 6, "repeated": 6}


def test_F16_a_picture_that_is_twice_in_a_file_keeps_the_boxes_of_both(stage: ConvertStage) -> None:
    names = [*(f"p{number}.jpg" for number in range(6)), "p0.jpg"]
    boxes = [*((n, [10.0, 10, 30, 30]) for n in range(6)), (6, [10.0, 10, 30, 30]), (6, [40.0, 20, 20, 20])]
    files = {**{f"p{n}.jpg": jpeg(n) for n in range(6)}, "a.json": coco_document(names, boxes)}
    ended = stage.put("in.zip", packed(files, ".zip")).run()
    one = (10.0, 10.0, 40.0, 40.0)
    assert boxes_by_picture(ended) == {
        "p0.jpg": [one, (40.0, 20.0, 60.0, 40.0)],
        **{f"p{number}.jpg": [one] for number in range(1, 6)},
    }
    text = warning_of(ended.dataset(), "picture-merged")
    assert text.startswith("1 picture entered twice (taken once, with the boxes of both entries); first: ")
    assert '"a.json": "p0.jpg" is entered 2 times' in text
    assert totals(ended.dataset())["objects"] == {"seen": 8, "used": 7, "repeated": 1}


# What is left out in part.


def test_A5_objects_of_an_unknown_shape_are_a_warning(stage: ConvertStage) -> None:
    files = supervisely(10)
    odd = {**rectangle("note", 20, 10, 40, 30), "geometryType": "spline"}
    for number in range(10):
        both = annotation([rectangle("note", 4, 5, 34, 40), odd])
        files[f"game/ds0/ann/frame_{number:05}.jpg.json"] = both
    dataset = stage.put("in.tar", packed(files, ".tar")).run().dataset()
    text = warning_of(dataset, "geometry-unknown")
    assert text.startswith("10 objects of an unknown shape (left out); first: ")
    assert '"game/ds0/ann/frame_00000.jpg.json" object 1: geometry "spline"; draw a rectangle' in text
    assert totals(dataset)["objects"] == {"seen": 20, "used": 10, "GeometryUnknown": 10}


def test_a_file_that_nothing_is_taken_from_is_a_warning_and_litter_is_none(stage: ConvertStage) -> None:
    names = ("__MACOSX/._a.json", "game/.DS_Store", "Thumbs.db", "game/desktop.ini", "README.txt", "LICENSE")
    litter = dict.fromkeys(names, b"x")
    files = {**supervisely(6), **litter, "game/notes.docx": b"x", "game/ds0/ann/list.csv": b"a,b"}
    dataset = stage.put("in.tar", packed(files, ".tar")).run().dataset()
    text = warning_of(dataset, "file-unused")
    assert text.startswith('2 files from which nothing was taken (left out); first: "game/notes.docx"; ')
    assert totals(dataset)["members"] == {
        "seen": 21,
        "pictures": 6,
        "annotations": 6,
        "descriptions": 1,
        "withoutLabels": 6,
        "FileUnused": 2,
    }


def test_pictures_without_labels_and_labels_without_pictures_are_warnings(stage: ConvertStage) -> None:
    files = coco(8)
    del files["p0003.jpg"]
    dataset = stage.put("in.zip", packed({**files, "other.jpg": jpeg(50)}, ".zip")).run().dataset()
    assert warning_of(dataset, "annotation-missing").startswith("1 picture without annotation (left out); first: ")
    assert warning_of(dataset, "picture-missing").startswith("1 annotation of a picture that is not there (left out)")
    assert totals(dataset)["pictures"] == {"seen": 8, "used": 7, "AnnotationMissing": 1}
    assert totals(dataset)["objects"] == {"seen": 8, "used": 7, "PictureMissing": 1}


def test_a_copy_of_a_picture_counts_its_boxes(stage: ConvertStage) -> None:
    files = supervisely(6)
    files["game/ds0/img/frame_00004.jpg"] = files["game/ds0/img/frame_00001.jpg"]
    dataset = stage.put("in.tar", packed(files, ".tar")).run().dataset()
    assert warning_of(dataset, "duplicate").startswith("1 picture there twice, byte for byte")
    assert totals(dataset)["pictures"] == {"seen": 6, "used": 5, "Duplicate": 1}
    assert totals(dataset)["objects"] == {"seen": 6, "used": 5, "Duplicate": 1}


# What the user asks for.


def test_what_is_ignored_as_asked_is_no_problem_and_no_warning(stage: ConvertStage) -> None:
    stage.put("in.tar", packed(supervisely(70, labels=["note", "robot"]), ".tar"))
    dataset = stage.run(ignore=("robot",)).dataset()
    assert (dataset.problem_counts, dataset.problems, dataset.warnings) == ({}, (), ())
    assert totals(dataset)["objects"] == {"seen": 140, "used": 70, "ignoredAsAsked": 70}


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"ignore": ("Robot",)}, 'ignore "Robot" met no object; did you mean "robot"?'),
        ({"ignore": ("robbot",)}, 'ignore "robbot" met no object; did you mean "robot"?'),
        ({"ignore": ("Roboter", "x")}, 'ignore "x" met no object'),
        ({"rename": (Rename("Note", "ring"),)}, 'rename from "Note" met no object; did you mean "note"?'),
        (
            {"classes": ("note", "ROBOT")},
            'class "ROBOT" has no boxes; it stays in the label map; did you mean "robot"?',
        ),
    ],
)
def test_a_name_that_no_label_has_is_a_warning(stage: ConvertStage, options: dict[str, object], warning: str) -> None:
    stage.put("in.tar", packed(supervisely(6, labels=["note", "robot"]), ".tar"))
    assert warning in stage.run(**options).dataset().warnings


def test_a_class_list_that_meets_nothing_is_told_with_the_likely_names(stage: ConvertStage) -> None:
    ended = stage.put("in.tar", packed(supervisely(6), ".tar")).run(classes=("Note",))
    assert ended.reason is Reason.NO_USABLE_EXAMPLES
    assert "(ignored: 6 of 'note')" in ended.message
    assert 'did you mean "note"?' in ended.message


# No usable example.


def test_no_usable_picture_is_told_in_the_words_of_the_warnings(stage: ConvertStage) -> None:
    files = {name: data for name, data in coco(4).items() if name.endswith(".json")} | {"other.jpg": jpeg(9)}
    ended = stage.put("in.zip", packed(files, ".zip")).run()
    assert ended.reason is Reason.NO_USABLE_EXAMPLES
    assert "no usable picture in 1 archive; 4 annotations of a picture that is not there" in ended.message
    assert "add the picture, or export with pictures; see docs/data.md#picture-missing" in ended.message


def test_totals_that_differ_are_an_internal_error_that_names_the_sum() -> None:
    require_equal("boxes in the split", 3, 3)
    with pytest.raises(AtollError, match="boxes in the split: 3 ≠ 4") as caught:
        require_equal("boxes in the split", 3, 4)
    assert caught.value.reason is Reason.INTERNAL_ERROR
