"""Finding the picture that an annotation means: names in every notation, folders of every export, no guessing."""

import json
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from support.archives import SIZE, encoded, jpeg, picture, voc_xml
from support.reader_result import ReaderResult

CLASSES = {"classes.txt": b"cone\n"}
LINE = b"0 0.5 0.5 0.25 0.5\n"
YOLO_BOX = ("cone", 0.375, 0.25, 0.625, 0.75)
VOC_BOX = ("cone", 10, 10, 40, 40)
FOUND = {"PictureFoundByStem": 1}


def boxes_by_picture(result: ReaderResult) -> dict[str, list[tuple[object, ...]]]:
    return {item.image.name: [tuple(box[:5]) for box in item.boxes] for item in result.images}


def coco(*names: str) -> bytes:
    """A COCO document whose pictures have one box each; the number of the picture moves its box."""
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, 5, 20, 20]} for n in range(len(names))]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cone"}]}).encode()


def coco_box(number: int) -> list[tuple[object, ...]]:
    return [("cone", number, 5, number + 20, 25)]


# Names.


@pytest.mark.parametrize(
    ("name", "member", "counts"),
    [
        ("images\\4/cb0618f0-a.png", "images/cb0618f0-a.png", {}),
        ("..\\..\\label-studio\\media\\upload\\4\\cb0618f0-a.png", "images/cb0618f0-a.png", {}),
        ("C:\\Users\\me\\set\\a.jpg", "images/a.jpg", {}),
        ("/data/local-files/?d=set/a.jpg", "images/a.jpg", {}),
        ("/data/local-files/?d=set%5Cmy%20a.jpg", "images/my a.jpg", {}),
        ("/data/upload/1/ab12cd34-a.jpg", "images/a.jpg", FOUND),
        ("a.jpg", "images/ab12cd34-a.jpg", FOUND),
        ("http://host:8080/data/upload/1/ab12cd34-a.jpg?x=1", "images/ab12cd34-a.jpg", {}),
        ("s3://bucket/set/a.jpg", "pictures/a.jpg", {}),
        ("file:///C:/set/a.jpg", "a.jpg", {}),
        ("Capture%20d%C3%A9cran.jpg", "images/Capture décran.jpg", FOUND),
        ("Capture décran.jpg", "images/Capture%20d%C3%A9cran.jpg", FOUND),
        (unicodedata.normalize("NFD", "é.jpg"), "é.jpg", {}),
        ("a.JPG", "images/a.jpg", {}),
        ("A.jpg", "images/a.jpg", FOUND),
        ("a", "images/a.jpg", FOUND),
        ("a.png", "images/a.jpg", FOUND),
        ("100%.jpg", "100%.jpg", {}),
        ("v1.2", "v1.2.jpg", FOUND),
    ],
)
def test_a_name_in_any_notation(tmp_path: Path, name: str, member: str, counts: dict[str, int]) -> None:
    result = ReaderResult({"result.json": coco(name), member: jpeg(1), "images/other.jpg": jpeg(2)}, tmp_path)
    assert boxes_by_picture(result) == {member: coco_box(0)}
    assert result.counts == counts


def test_the_name_with_its_suffix_beats_the_stem(tmp_path: Path) -> None:
    files = {"a.jpg": jpeg(1), "a.png": encoded(picture(2), "PNG"), "result.json": coco("a.png", "a.jpg")}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"a.png": coco_box(0), "a.jpg": coco_box(1)}
    assert result.counts == {}


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("a", ("a.jpg", "a.png")),
        ("a.bmp", ("a.jpg", "a.png")),
        ("a.jpg", ("x/a.jpg", "y/a.jpg")),
        ("a.jpg", ("ab12cd34-a.jpg", "ef56ab78-a.jpg")),
        ("set/a.jpg", ("x/set/a.jpg", "y/set/a.jpg")),
    ],
)
def test_of_two_that_fit_none_is_guessed(tmp_path: Path, name: str, members: tuple[str, str]) -> None:
    files = {member: jpeg(number) for number, member in enumerate(members)}
    result = ReaderResult({**files, "deep/er/result.json": coco(name)}, tmp_path)
    assert result.images == []
    assert result.counts == {"PictureAmbiguous": 1}
    assert all(f'"{member}"' in result.problems.listed[0].detail for member in members)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("20270101-cam.jpg", "20270102-cam.jpg"),
        ("b.jpg", "a.jpg"),
        ("?d=.jpg", "a.jpg"),
        ("result.json", "a.jpg"),
        ("", "a.jpg"),
        ("..", "a.jpg"),
    ],
)
def test_another_picture_is_not_taken(tmp_path: Path, name: str, member: str) -> None:
    result = ReaderResult({"result.json": coco(name), member: jpeg(1)}, tmp_path)
    assert result.images == []
    assert result.counts == {"PictureMissing": 1}


def test_a_picture_that_another_part_has_is_not_taken(tmp_path: Path) -> None:
    """The picture of train is missing; the one of the same name in valid has boxes of its own."""
    files = {"train/x.coco.json": coco("a.jpg"), "valid/x.coco.json": coco("b.jpg", "a.jpg"), "train/c.jpg": jpeg(3)}
    result = ReaderResult({**files, "valid/a.jpg": jpeg(1), "valid/b.jpg": jpeg(2)}, tmp_path)
    assert boxes_by_picture(result) == {"valid/b.jpg": coco_box(0), "valid/a.jpg": coco_box(1)}
    assert result.counts == {"PictureMissing": 1}


def test_the_pictures_of_one_camera_are_not_looked_for_at_another(tmp_path: Path) -> None:
    files = {"cam1/x.json": coco("a.jpg"), "cam2/x.json": coco("a.jpg"), "cam1/b.jpg": jpeg(1), "cam2/a.jpg": jpeg(2)}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"cam2/a.jpg": coco_box(0)}
    assert result.counts == {"PictureMissing": 1}


def test_pictures_far_from_their_document(tmp_path: Path) -> None:
    """A stray picture beside the document does not hide those of another folder."""
    files = {"notes/all.json": coco("a.jpg"), "notes/logo.png": jpeg(1), "photos/a.jpg": jpeg(2)}
    assert boxes_by_picture(ReaderResult(files, tmp_path)) == {"photos/a.jpg": coco_box(0)}


def test_an_archive_in_a_folder_that_is_called_test(tmp_path: Path) -> None:
    files = {"test/notes/all.json": coco("a.jpg", "b.jpg"), "test/x/train/a.jpg": jpeg(1), "test/x/val/b.jpg": jpeg(2)}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"test/x/train/a.jpg": coco_box(0), "test/x/val/b.jpg": coco_box(1)}
    assert result.counts == {}


# Folders.


def test_coco_of_subsets_with_the_same_frames(tmp_path: Path) -> None:
    files = {
        "annotations/instances_Train.json": coco("frame_000000.PNG", "frame_000001.PNG"),
        "annotations/instances_Robot 1.json": coco("frame_000000.PNG"),
        "images/Train/frame_000000.PNG": encoded(picture(1), "PNG"),
        "images/Train/frame_000001.PNG": encoded(picture(2), "PNG"),
        "images/Robot 1/frame_000000.PNG": encoded(picture(3), "PNG"),
    }
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {
        "images/Train/frame_000000.PNG": coco_box(0),
        "images/Train/frame_000001.PNG": coco_box(1),
        "images/Robot 1/frame_000000.PNG": coco_box(0),
    }
    assert result.counts == {}


def test_coco_of_years(tmp_path: Path) -> None:
    files = {
        "annotations/instances_train2017.json": coco("1.jpg"),
        "annotations/instances_val2017.json": coco("1.jpg"),
        "train2017/1.jpg": jpeg(1),
        "val2017/1.jpg": jpeg(2),
    }
    result = ReaderResult(files, tmp_path)
    assert {item.image.name: item.annotation for item in result.images} == {
        "train2017/1.jpg": "annotations/instances_train2017.json",
        "val2017/1.jpg": "annotations/instances_val2017.json",
    }


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("annotations/train", "images/train"),
        ("Annotations", "JPEGImages"),
        ("data/Annotations/a/b", "data/Images/a/b"),
        ("train/xml", "train/img"),
        ("train/annotations", "train"),
        ("my annotations", "my photos"),
        ("", ""),
    ],
)
def test_voc_in_parallel_trees(tmp_path: Path, annotations: str, pictures: str) -> None:
    """In another tree the same name is there too, with an annotation of its own."""
    files = {
        f"{annotations}/a.xml".lstrip("/"): voc_xml("a.jpg", [VOC_BOX]),
        f"{pictures}/a.jpg".lstrip("/"): jpeg(1),
        "zz/Annotations/a.xml": voc_xml("a.jpg", [("cube", 1, 1, 9, 9)]),
        "zz/JPEGImages/a.jpg": jpeg(2),
    }
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {
        f"{pictures}/a.jpg".lstrip("/"): [VOC_BOX],
        "zz/JPEGImages/a.jpg": [("cube", 1, 1, 9, 9)],
    }
    assert result.counts == {}


@pytest.mark.parametrize(
    ("labels", "pictures"),
    [
        ("Train/Labels", "Train/Images"),
        ("labels/train", "images/train"),
        ("another/folder/images", "another/folder/images"),
        ("LABELS", "IMAGES"),
        ("obj_train_data", "obj_train_data"),
        ("set/labels/a/b", "set/images/a/b"),
        ("yolo txt", "pictures of robots"),
    ],
)
def test_yolo_folders(tmp_path: Path, labels: str, pictures: str) -> None:
    files = {**CLASSES, f"{labels}/a.txt": LINE, f"{pictures}/a.jpg": jpeg(1)}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {f"{pictures}/a.jpg": [YOLO_BOX]}
    assert result.counts == {}


# Annotations of one picture.


def test_a_picture_that_the_xml_names_beats_one_of_its_stem(tmp_path: Path) -> None:
    files = {"v0.jpg": jpeg(1), "v0.png": encoded(picture(2), "PNG"), "v1.jpg": jpeg(3)}
    files["v0.xml"] = voc_xml("v0.png", [("cone", 50, 20, 60, 40)])
    files["v1.xml"] = voc_xml("v1.jpg", [VOC_BOX])
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"v0.png": [("cone", 50, 20, 60, 40)], "v1.jpg": [VOC_BOX]}
    assert result.counts == {}


def test_an_xml_named_otherwise_goes_with_the_picture_that_it_names(tmp_path: Path) -> None:
    files = {"label_7.xml": voc_xml("v0.jpg", [VOC_BOX]), "v0.jpg": jpeg(1), "label_7.jpg": jpeg(2)}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"v0.jpg": [VOC_BOX]}


def test_a_copied_xml_goes_with_its_own_picture(tmp_path: Path) -> None:
    """A flipped copy keeps the name of the picture in it."""
    files = {"a.jpg": jpeg(1), "a_flip.jpg": jpeg(2), "a.xml": voc_xml("a.jpg", [VOC_BOX])}
    files["a_flip.xml"] = voc_xml("a.jpg", [("cone", 24, 10, 54, 40)])
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {"a.jpg": [VOC_BOX], "a_flip.jpg": [("cone", 24, 10, 54, 40)]}
    assert result.counts == FOUND


@pytest.mark.parametrize("name", ["x0", "x0.png", "old name.jpg", ""])
def test_an_xml_whose_name_is_stale(tmp_path: Path, name: str) -> None:
    result = ReaderResult({"x0.xml": voc_xml(name, [VOC_BOX]), "x0.jpg": jpeg(1)}, tmp_path)
    assert boxes_by_picture(result) == {"x0.jpg": [VOC_BOX]}
    assert result.counts == (FOUND if name else {})


@pytest.mark.parametrize("name", ["x0.jpg", ""])
def test_xml_xml(tmp_path: Path, name: str) -> None:
    result = ReaderResult({"x0.xml.xml": voc_xml(name, [VOC_BOX]), "x0.jpg": jpeg(1)}, tmp_path)
    assert boxes_by_picture(result) == {"x0.jpg": [VOC_BOX]}


@pytest.mark.parametrize(
    ("label", "member", "counts"),
    [
        ("x0.xml.txt", "x0.jpg", FOUND),
        ("x0.jpg.txt", "x0.jpg", {}),
        ("x0.JPG.txt", "x0.jpg", {}),
        ("x0.png.txt", "x0.jpg", FOUND),
        ("x0.txt", "x0.JPEG", {}),
        ("X0.txt", "x0.jpg", FOUND),
        ("x.v2.txt", "x.v2.jpg", {}),
        (quote("Capture décran 0.txt"), "Capture décran 0.jpg", FOUND),
        ("Capture décran 0.txt", quote("Capture décran 0.jpg"), FOUND),
        ("ab12cd34-x.txt", "x.jpg", FOUND),
        ("x.txt", "ab12cd34-x.jpg", FOUND),
    ],
)
def test_the_name_of_a_label_file(tmp_path: Path, label: str, member: str, counts: dict[str, int]) -> None:
    result = ReaderResult({**CLASSES, f"labels/{label}": LINE, f"images/{member}": jpeg(1)}, tmp_path)
    assert boxes_by_picture(result) == {f"images/{member}": [YOLO_BOX]}
    assert result.counts == counts


def test_a_label_file_that_names_its_picture_beats_the_stem(tmp_path: Path) -> None:
    files = {**CLASSES, "a.png.txt": LINE, "a.jpg": jpeg(1), "a.png": encoded(picture(2), "PNG")}
    assert boxes_by_picture(ReaderResult(files, tmp_path)) == {"a.png": [YOLO_BOX]}


def test_a_label_file_of_two_pictures_is_not_guessed(tmp_path: Path) -> None:
    files = {**CLASSES, "a.txt": LINE, "a.jpg": jpeg(1), "a.png": encoded(picture(2), "PNG")}
    result = ReaderResult(files, tmp_path)
    assert result.images == []
    assert result.counts == {"PictureAmbiguous": 1}
    assert result.problems.listed[0].detail == '"a" may be "a.jpg" or "a.png"'


@pytest.mark.parametrize("elsewhere", ["valid/images/a.jpg", "cam2/a.jpg"])
def test_a_label_file_does_not_take_the_picture_of_another(tmp_path: Path, elsewhere: str) -> None:
    label = elsewhere.replace("images", "labels").replace(".jpg", ".txt")
    files = {**CLASSES, "train/labels/a.txt": LINE, label: b"\n", elsewhere: jpeg(1)}
    result = ReaderResult(files, tmp_path)
    assert boxes_by_picture(result) == {elsewhere: []}
    assert result.counts == {"PictureMissing": 1}
