"""YOLO as its tools write it: names of each folder, keypoints, confidences, turned boxes, polygons, any number."""

from pathlib import Path

import pytest

from atoll_contract.errors import DatasetError, Reason
from support.archives import jpeg
from support.reader_result import ReaderResult

Boxes = dict[str, list[tuple[object, ...]]]

BOX = "0.5 0.5 0.25 0.5"
EDGES = (0.375, 0.25, 0.625, 0.75)
# A box turned by 30° and its corners, in shares of a square.
CORNERS = "0.3 0.2 0.473 0.3 0.423 0.387 0.25 0.287"
AROUND_CORNERS = (0.25, 0.2, 0.473, 0.387)
POLYGON = "0.1 0.2 0.5 0.2 0.6 0.4 0.5 0.6 0.1 0.6"
AROUND_POLYGON = (0.1, 0.2, 0.6, 0.6)


def export(*labels: str, names: bytes = b"names: [cone, cube]\nnc: 2\n") -> dict[str, bytes]:
    """Ultralytics' layout: a picture and its labels each."""
    files = {"data.yaml": names}
    for number, text in enumerate(labels):
        files[f"images/p{number}.jpg"] = jpeg(number)
        files[f"labels/p{number}.txt"] = text.encode()
    return files


def boxes_of(result: ReaderResult) -> Boxes:
    return {
        item.image.name: [(b.label, *(round(edge, 6) for edge in (b.xmin, b.ymin, b.xmax, b.ymax))) for b in item.boxes]
        for item in result.images
    }


def details(result: ReaderResult) -> list[str]:
    return [problem.detail for problem in result.problems.listed]


# Columns.


@pytest.mark.parametrize("shape", ["[2, 2]", "[1, 3]", "[17, 3]", "[4, 2]", "\n- 1\n- 2"])
@pytest.mark.parametrize("after", ["", " 0.87"])
def test_keypoints_that_kpt_shape_announces(tmp_path: Path, shape: str, after: str) -> None:
    """The keypoints lie anywhere, so that only kpt_shape tells them from a polygon."""
    number, size = (int(text) for text in shape.strip("[]").replace("\n-", ",").strip(", ").split(","))
    keypoints = " 0.9 0.1 2"[: 8 if size == 2 else None] * number
    names = f"kpt_shape: {shape}\nnames: [cone]\ntrain: images\n".encode()
    result = ReaderResult(export(f"0 {BOX}{keypoints}{after}\n", f"0 {BOX}\n", names=names), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)], "images/p1.jpg": [("cone", *EDGES)]}
    assert result.counts == {"ColumnUnread": 1}
    columns = 5 + number * size + bool(after)
    expected = f"line 1: columns 6 to {columns} ({number} keypoints, as kpt_shape says) not read"
    assert details(result) == [expected]


def test_columns_that_kpt_shape_does_not_announce(tmp_path: Path) -> None:
    names = b"kpt_shape: [2, 2]\nnames: [cone]\ntrain: images\n"
    result = ReaderResult(export(f"0 {BOX}\n0 {POLYGON}\n", names=names), tmp_path)
    assert result.counts == {"BoxMalformed": 1}
    assert details(result) == ["line 2: 11 fields; a box has 5, one with kpt_shape [2, 2] has 9"]


@pytest.mark.parametrize("shape", ["17", "[17]", "[0, 2]", "[17, 4]", "[a, 3]", "[true, 3]"])
def test_a_kpt_shape_that_is_none(tmp_path: Path, shape: str) -> None:
    names = f"kpt_shape: {shape}\nnames: [cone]\ntrain: images\n".encode()
    with pytest.raises(DatasetError, match=r'"data.yaml" key kpt_shape must be \[number of keypoints, 2 or 3\], not'):
        ReaderResult(export(f"0 {BOX}\n", names=names), tmp_path)


@pytest.mark.parametrize(
    ("keypoints", "number", "unread"),
    [
        ("0.52 0.40 0.60 0.70", 2, "columns 6 to 9 (2 keypoints"),
        ("0.52 0.40", 1, "columns 6 to 7 (1 keypoints"),
        ("0.52 0.40 2 0 0 0 0.6 0.7 1", 3, "columns 6 to 14 (3 keypoints"),
        ("0.52 0.40 0.9 0.45 0.5 0.7 0.6 0.7 0.1", 3, "columns 6 to 14 (3 keypoints"),
        ("0.52 0.40 2 0.6 0.7 1 0.91", 2, "columns 6 to 12 (2 keypoints"),
        ("0.52 0.40 0.6 0.3 0.4 0.7 0.55 0.44 0.91", 4, "columns 6 to 14 (4 keypoints"),
    ],
)
def test_keypoints_without_kpt_shape(tmp_path: Path, keypoints: str, number: int, unread: str) -> None:
    """All lie in their boxes, in every line: the assumption is named."""
    labels = [f"0 {BOX} {keypoints}\n" for _ in range(3)]
    result = ReaderResult(export(*labels, f"1 {BOX}\n"), tmp_path)
    assert set(map(tuple, boxes_of(result).values())) == {(("cone", *EDGES),), (("cube", *EDGES),)}
    assert result.counts == {"ColumnUnread": 3}
    assert unread in details(result)[0], number
    assert "as they lie in every box; no kpt_shape says so" in details(result)[0]


@pytest.mark.parametrize("column", ["0.8731", "1", "17", "1.000000e+00"])
def test_a_sixth_column(tmp_path: Path, column: str) -> None:
    result = ReaderResult(export(f"0 {BOX} {column}\n1 {BOX} {column}\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES), ("cube", *EDGES)]}
    assert result.counts == {"ColumnUnread": 2}
    assert details(result)[0] == "line 1: column 6 (a confidence or track id) not read"


def test_confidence_and_track_id(tmp_path: Path) -> None:
    result = ReaderResult(export(f"0 {BOX} 0.87 3\n", f"1 {BOX} 0.5 12\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)], "images/p1.jpg": [("cube", *EDGES)]}
    assert result.counts == {"ColumnUnread": 2}
    assert "confidence and track id" in details(result)[0]


@pytest.mark.parametrize(
    ("line", "edges", "counts"),
    [
        (CORNERS, AROUND_CORNERS, {"BoxAround": 1}),
        (f"{CORNERS} 0.91", AROUND_CORNERS, {"BoxAround": 1, "ColumnUnread": 1}),
        (POLYGON, AROUND_POLYGON, {"BoxAround": 1}),
        (f"{POLYGON} 0.91", AROUND_POLYGON, {"BoxAround": 1, "ColumnUnread": 1}),
        ("0.1 0.1 0.9 0.1 0.5 1", (0.1, 0.1, 0.9, 1), {"BoxAround": 1}),
        ("0.1 0.1 0.9 0.1 0.5 0.7 0.2 0.3", (0.1, 0.1, 0.9, 0.7), {"BoxAround": 1}),
    ],
    ids=["corners", "corners-confidence", "polygon", "polygon-confidence", "triangle", "quadrangle"],
)
def test_the_box_around_a_shape(
    tmp_path: Path, line: str, edges: tuple[float, float, float, float], counts: dict[str, int]
) -> None:
    result = ReaderResult(export(f"0 {line}\n", f"1 {BOX}\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *edges)], "images/p1.jpg": [("cube", *EDGES)]}
    assert result.counts == counts


def test_polygons_of_many_lengths_are_no_keypoints(tmp_path: Path) -> None:
    """Each alone might be a box with keypoints in it."""
    inside = ["0.45 0.45", "0.55 0.45", "0.55 0.55", "0.45 0.55", "0.44 0.5", "0.46 0.46"]
    labels = ["0 " + " ".join(inside[:count]) + "\n" for count in (4, 5, 6)]
    result = ReaderResult(export(*labels), tmp_path)
    assert boxes_of(result) == {
        "images/p0.jpg": [("cone", 0.45, 0.45, 0.55, 0.55)],
        "images/p1.jpg": [("cone", 0.44, 0.45, 0.55, 0.55)],
        "images/p2.jpg": [("cone", 0.44, 0.45, 0.55, 0.55)],
    }
    assert result.counts == {"BoxAround": 3}


def test_an_even_number_of_columns_among_polygons_is_damaged(tmp_path: Path) -> None:
    result = ReaderResult(export(f"0 {POLYGON}\n0 {POLYGON} 0.5\n"), tmp_path)
    assert result.counts == {"BoxAround": 1, "BoxMalformed": 1}
    assert "line 2: 12 fields" in details(result)[1]


def test_one_damaged_line_does_not_change_what_the_others_mean(tmp_path: Path) -> None:
    lines = f"0 {BOX} 0.52 0.40 0.60 0.70\n" * 30
    result = ReaderResult(export(lines + f"0 {BOX} 0.5 0.6 0.7\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)] * 30}
    assert result.counts == {"ColumnUnread": 30, "BoxMalformed": 1}


def test_two_exports_have_columns_of_their_own(tmp_path: Path) -> None:
    files = {f"pose/{name}": data for name, data in export(f"0 {BOX} .9 .9 .1 .1\n").items()}
    files["pose/data.yaml"] = b"kpt_shape: [2, 2]\nnames: [cone, cube]\ntrain: images\n"
    files |= {f"obb/{name}": data for name, data in export(f"1 {CORNERS}\n").items()}
    result = ReaderResult(files, tmp_path)
    assert boxes_of(result) == {
        "pose/images/p0.jpg": [("cone", *EDGES)],
        "obb/images/p0.jpg": [("cube", *AROUND_CORNERS)],
    }


# Numbers.


@pytest.mark.parametrize("text", ["1", "1.0", "1.000000000000000000e+00", "01", "+1"])
def test_a_class_number_in_any_notation(tmp_path: Path, text: str) -> None:
    result = ReaderResult(export(f"{text} 5.000e-01 0.5 .25 5e-1\r\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cube", *EDGES)]}
    assert result.counts == {}


@pytest.mark.parametrize("text", ["-1", "1.5", "nan", "inf", "2", "1e9", "cone", "1_0", "0x1"])
def test_a_class_number_that_is_none(tmp_path: Path, text: str) -> None:
    result = ReaderResult(export(f"0 {BOX}\n\n{text} {BOX}\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)]}
    assert result.counts == {"BoxMalformed": 1}
    assert details(result) == [f'line 3: class "{text}" is not one of the 2 named']
    assert result.problems.listed[0].object == 2


@pytest.mark.parametrize("value", ["nan", "-inf", "", "x", "640"])
def test_a_number_that_is_none(tmp_path: Path, value: str) -> None:
    result = ReaderResult(export(f"0,{value},0.5,0.25,0.5\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": []}
    assert result.counts == {"BoxMalformed": 1}
    assert details(result)[0].startswith("line 1: ")


@pytest.mark.parametrize(
    "line",
    [
        "0,0.5,0.5,0.25,0.5",
        "0, 0.5, 0.5, 0.25, 0.5,",
        "0\t0.5\t0.5\t0.25\t0.5",
        "0;0.5;0.5;0.25;0.5",
        "0;0,5;0,5;0,25;0,5",
        "0 0,5 0,5 0,25 0,5",
        "  0   0.5 0.5\t0.25 0.5  ",
        "\ufeff0 0.5 0.5 0.25 0.5",
    ],
)
def test_separators(tmp_path: Path, line: str) -> None:
    result = ReaderResult(export(line), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)]}
    assert result.counts == {}


def test_a_line_with_two_separators(tmp_path: Path) -> None:
    result = ReaderResult(export("0,0.5 0.5,0.25 0.5\n"), tmp_path)
    assert result.counts == {"BoxMalformed": 1}
    assert details(result) == ['line 1: the fields are divided by blanks and by ","']


# Names.


def labelled(folder: str, *classes: int) -> dict[str, bytes]:
    files = {}
    for number in classes:
        files[f"{folder}/{number}.jpg"] = jpeg(number + len(folder) * 7 + ord(folder[0]))
        files[f"{folder}/{number}.txt"] = f"{number} {BOX}\n".encode()
    return files


def labels_of(result: ReaderResult) -> dict[str, str]:
    return {item.image.name: item.boxes[0].label for item in result.images}


@pytest.mark.parametrize("base", ["classes.txt", "obj.names", "coco.names", "_darknet.labels", "data.yaml"])
def test_each_folder_has_its_own_names(tmp_path: Path, base: str) -> None:
    first, second = b"alfa\nbeta\ngamma\n", b"gamma\nalfa\nbeta\n"
    if base == "data.yaml":
        first, second = b"nc: 3\nnames: [alfa, beta, gamma]\n", b"nc: 3\nnames: {0: gamma, '1': alfa, 2: beta}\n"
    files = {f"a/{base}": first, f"b/{base}": second, **labelled("a", 0, 1, 2), **labelled("b", 0, 1, 2)}
    result = ReaderResult(files, tmp_path)
    assert labels_of(result) == {
        "a/0.jpg": "alfa",
        "a/1.jpg": "beta",
        "a/2.jpg": "gamma",
        "b/0.jpg": "gamma",
        "b/1.jpg": "alfa",
        "b/2.jpg": "beta",
    }
    assert sorted(result.classes) == ["alfa", "beta", "gamma"]
    assert result.counts == {}


def test_the_nearest_names_count(tmp_path: Path) -> None:
    files = {"data.yaml": b"names: [cone]\ntrain: .\n", "a/labels/classes.txt": b"cube\n", **labelled("b/labels/c", 0)}
    files |= {"a/images/0.jpg": jpeg(1), "a/labels/0.txt": f"0 {BOX}".encode()}
    assert labels_of(ReaderResult(files, tmp_path)) == {"a/images/0.jpg": "cube", "b/labels/c/0.jpg": "cone"}


def test_a_farther_file_with_other_names_is_told(tmp_path: Path) -> None:
    files = {**export(f"0 {BOX}\n", f"1 {BOX}\n"), "labels/classes.txt": b"cube\ncone\n"}
    result = ReaderResult(files, tmp_path)
    assert labels_of(result) == {"images/p0.jpg": "cube", "images/p1.jpg": "cone"}
    assert result.counts == {"ClassNamesDiffer": 1}
    assert result.problems.listed[0].file == "data.yaml"
    expected = 'class 0 of "labels/p0.txt" is "cube" by the nearer "labels/classes.txt", not "cone"'
    assert details(result) == [expected]


def test_kpt_shape_of_a_farther_file(tmp_path: Path) -> None:
    names = b"kpt_shape: [2, 2]\nnames: [cone, cube]\nnc: 2\n"
    files = {**export(f"0 {BOX} .9 .9 .1 .1\n", names=names), "labels/classes.txt": b"cone\ncube\n"}
    result = ReaderResult(files, tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)]}
    assert result.counts == {"ColumnUnread": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_names_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    files = {"classes.txt": "Würfel\r\ncone\r\n".encode(encoding), **labelled("a", 0, 1)}
    assert labels_of(ReaderResult(files, tmp_path)) == {"a/0.jpg": "Würfel", "a/1.jpg": "cone"}


@pytest.mark.parametrize("where", ["labels/classes.txt", "data/obj.names", "some/classes.txt"])
def test_names_that_lie_elsewhere(tmp_path: Path, where: str) -> None:
    files = {where: b"cone\ncube\n", **labelled("another/folder/images", 0, 1)}
    result = ReaderResult(files, tmp_path)
    assert labels_of(result) == {"another/folder/images/0.jpg": "cone", "another/folder/images/1.jpg": "cube"}


def test_names_under_a_name_that_obj_data_gives(tmp_path: Path) -> None:
    files = {"obj.data": b"classes = 2\ntrain = data/train.txt\nnames = data/robots.lst\n", "robots.lst": b"cone\ncube"}
    result = ReaderResult({**files, **labelled("obj_train_data", 0, 1)}, tmp_path)
    assert labels_of(result) == {"obj_train_data/0.jpg": "cone", "obj_train_data/1.jpg": "cube"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"classes.txt": b"cone\ncube\n"}, {"data.yaml": b"nc: 2\nnames: [cube, cone]\n"}),
        ({"my.yaml": b"path: .\nnames: [cone, cube]\n"}, {"your.yml": b"path: .\nnames: [cone, ball]\n"}),
        ({"x/classes.txt": b"cone\ncube\n"}, {"y/classes.txt": b"cube\ncone\n"}),
    ],
)
def test_names_that_contradict_each_other_are_refused(
    tmp_path: Path, one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    with pytest.raises(DatasetError) as caught:
        ReaderResult({**one, **other, **labelled("z", 1)}, tmp_path)
    assert caught.value.reason is Reason.ANNOTATION_INVALID
    assert all(f'"{name}"' in caught.value.message for name in (*one, *other, "z/1.txt"))


def test_names_that_agree_are_one(tmp_path: Path) -> None:
    files = {"classes.txt": b"cone\ncube\n", "data.yaml": b"nc: 3\nnames: [cone, cube, ball]\n", **labelled("z", 1, 2)}
    result = ReaderResult(files, tmp_path)
    assert labels_of(result) == {"z/1.jpg": "cube", "z/2.jpg": "ball"}
    assert result.classes == ("cone", "cube", "ball")


@pytest.mark.parametrize(
    "other",
    [
        {"args.yaml": b"task: detect\nmodel: yolov8n.pt\n# class names are in data.yaml\n"},
        {"hyp.yaml": b"lr0: 0.01\nnames_of_losses: [box, cls]\n"},
        {"model.yaml": b"nc: 80\nbackbone:\n  - [-1, 1, Conv, [64, 3, 2]]\n"},
        {"people.yaml": b"names: [Ann, Bob]\nschool: yes\n"},
        {"ci.yml": b"jobs:\n  names: [a, b]\n  train: yes\n"},
        {"broken.yaml": b"task: [\n"},
        {"cluster.yaml": b"spec:\n  names: {kind: Robot}\n---\nspec: {}\n"},
    ],
)
@pytest.mark.parametrize("base", ["data.yaml", "dataset.yml", "robots.yaml"])
def test_a_yaml_that_names_no_classes(tmp_path: Path, base: str, other: dict[str, bytes]) -> None:
    names = b"names: [cone, cube]\n" if base != "robots.yaml" else b"train: images\nnames:\n  0: cone\n  1: cube\n"
    files = {**export(f"1 {BOX}\n", names=names), **other}
    files[base] = files.pop("data.yaml")
    assert labels_of(ReaderResult(files, tmp_path)) == {"images/p0.jpg": "cube"}


def test_a_damaged_data_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'"data.yaml" line 2 col 3: '):
        ReaderResult(export(f"0 {BOX}\n", names=b"names: [cone\nnc: 1\n"), tmp_path)


@pytest.mark.parametrize("names", ["5", "cone", "[[cone]]", "{a: cone}", "{-1: cone}", "[null]", "null"])
def test_names_that_are_none(tmp_path: Path, names: str) -> None:
    with pytest.raises(DatasetError, match="key names must be a list of names, or a map from number to name"):
        ReaderResult(export(f"0 {BOX}\n", names=f"nc: 1\nnames: {names}\n".encode()), tmp_path)


# Label files.


def test_labels_without_picture_are_counted_wherever_they_lie(tmp_path: Path) -> None:
    files = {**export(f"0 {BOX}\n"), "old/a.txt": f"0 {BOX}\n1 {BOX}\n".encode(), "labels/b.txt": b""}
    files |= {"README.txt": b"made by hand\n", "train.txt": b"images/p0.jpg\n", "labels/notes.txt": b"to do\n"}
    result = ReaderResult(files, tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)]}
    assert result.counts == {"PictureMissing": 2}
    assert [problem.file for problem in result.problems.listed] == ["labels/b.txt", "old/a.txt"]


@pytest.mark.parametrize("text", ["a photo of 2 robots, 3 cones\n", "images/p0.jpg\nimages/p1.jpg\n", "#\n"])
def test_a_text_beside_a_picture_that_is_no_label(tmp_path: Path, text: str) -> None:
    files = {**export(f"0 {BOX}\n"), "images/p1.jpg": jpeg(7), "images/p1.txt": text.encode()}
    result = ReaderResult(files, tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": [("cone", *EDGES)]}


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.25", "cone 0.5 0.5 0.25 0.5", "0 1 2", "nan nan nan nan nan", "0,5,x,7,8"]
)
def test_a_damaged_label_file_is_one(tmp_path: Path, line: str) -> None:
    result = ReaderResult(export(f"{line}\n"), tmp_path)
    assert boxes_of(result) == {"images/p0.jpg": []}
    assert result.counts == {"BoxMalformed": 1}


def test_some_labels_end_in_xml_txt(tmp_path: Path) -> None:
    files = {"classes.txt": b"cone\n"}
    for number in range(5):
        files[f"x{number}.jpg"] = jpeg(number)
        files[f"x{number}.xml.txt" if number < 2 else f"x{number}.txt"] = f"0 {BOX}\n".encode()
    result = ReaderResult(files, tmp_path)
    assert boxes_of(result) == {f"x{number}.jpg": [("cone", *EDGES)] for number in range(5)}
    assert result.counts == {"PictureFoundByStem": 2}
