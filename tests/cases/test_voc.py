"""Pascal VOC as labelImg, roLabelImg, CVAT, LabelMe and Roboflow write it: every box, class, split and problem."""

from pathlib import Path

import pytest

from support.archives import jpeg, voc_xml
from support.read_back import ReadBack, read_back

BOX = ("cone", 10, 10, 40, 40)
BNDBOX = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"


def annotation(name: str, *objects: str, size: str = "<size><width>64</width><height>48</height></size>") -> bytes:
    inner = "".join(f"<object>{content}</object>" for content in objects)
    return f"<annotation><filename>{name}</filename>{size}{inner}</annotation>".encode()


def named(content: str, label: str = "cone") -> str:
    return f"<name>{label}</name>{content}"


def one_object(folder: Path, content: str, **options: str) -> ReadBack:
    """Five pictures; the first has the object to be tried, the others a plain box."""
    files = {f"JPEGImages/p{number}.jpg": jpeg(number) for number in range(5)}
    files["Annotations/p0.xml"] = annotation("p0.jpg", content, **options)
    for number in range(1, 5):
        files[f"Annotations/p{number}.xml"] = voc_xml(f"p{number}.jpg", [BOX])
    found = read_back(files, folder, max_invalid_percent=100.0)
    assert [found.boxes[f"JPEGImages/p{number}.jpg"] for number in range(1, 5)] == [[BOX]] * 4
    return found


TURNED = "<robndbox><cx>25</cx><cy>15</cy><w>30</w><h>10</h><angle>{}</angle></robndbox>"
PIXELS = "<polygon><pt><x>10</x><y>12</y></pt><pt><x>30.5</x><y>10</y></pt><pt><x>20</x><y>40</y></pt></polygon>"
NUMBERED = "<polygon><x1>10</x1><y1>12</y1><x2>30.5</x2><y2>10</y2><x10>20</x10><y10>40</y10></polygon>"
ROTATION = "<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes>"
FLAT = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>40</xmax><ymax>20</ymax></bndbox>"


@pytest.mark.parametrize(
    ("content", "edges"),
    [
        ("<type>robndbox</type>" + TURNED.format("1.5707963267948966"), (20, 0, 30, 30)),
        (TURNED.format("-1.5707963267948966"), (20, 0, 30, 30)),
        (TURNED.format("0"), (10, 10, 40, 20)),
        (TURNED.format("3.141592653589793"), (10, 10, 40, 20)),
        (PIXELS, (10, 10, 30.5, 40)),
        (NUMBERED, (10, 10, 30.5, 40)),
        (FLAT + ROTATION.format("90.0"), (20, 0, 30, 30)),
    ],
    ids=["quarter", "back", "none", "half", "LabelMe", "Roboflow", "CVAT"],
)
def test_the_box_around_a_shape_is_taken_and_counted(
    tmp_path: Path, content: str, edges: tuple[float, float, float, float]
) -> None:
    found = one_object(tmp_path, named(content))
    assert found.boxes["JPEGImages/p0.jpg"] == [("cone", *edges)]
    assert found.counts == {"BoxAround": 1}


@pytest.mark.parametrize(
    "content",
    [
        named(BNDBOX + PIXELS),
        named(BNDBOX + ROTATION.format("0.0")),
        named(BNDBOX + ROTATION.format("to the left")),
        named("<bndbox><ymax>40,0</ymax><xmax> 4e1 </xmax><ymin>10.0</ymin><xmin>\n10</xmin></bndbox>"),
        named(BNDBOX, "  cone\n"),
    ],
    ids=["box and polygon", "not turned", "own attribute", "numbers", "blanks"],
)
def test_a_plain_box(tmp_path: Path, content: str) -> None:
    found = one_object(tmp_path, content)
    assert found.boxes["JPEGImages/p0.jpg"] == [BOX]
    assert found.counts == {}


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height><depth>3</depth></size>"])
def test_an_annotation_without_a_usable_size(tmp_path: Path, size: str) -> None:
    found = one_object(tmp_path, named(BNDBOX), size=size)
    assert found.boxes["JPEGImages/p0.jpg"] == [BOX]
    assert found.counts == {}


def test_blank_lines_before_the_document(tmp_path: Path) -> None:
    files = {f"p{number}.jpg": jpeg(number) for number in range(4)}
    head = b'\n  \n<?xml version="1.0" encoding="utf-8"?>\n'
    files.update({f"p{number}.xml": head + voc_xml(f"p{number}.jpg", [BOX]) for number in range(4)})
    found = read_back(files, tmp_path)
    assert found.boxes == {f"p{number}.jpg": [BOX] for number in range(4)}


def test_a_class_with_blanks_inside(tmp_path: Path) -> None:
    assert one_object(tmp_path, named(BNDBOX, "red  robot")).boxes["JPEGImages/p0.jpg"][0][0] == "red  robot"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (named(""), "no bndbox"),
        (named("<bndbox><xmin>10</xmin></bndbox>"), "no bndbox/ymin"),
        (named("<bndbox><xmin>far</xmin></bndbox>"), '"far" is not a number'),
        (named("<robndbox><cx>25</cx></robndbox>"), "no robndbox/cy"),
        (named("<polygon><pt><x>1</x><y>2</y></pt></polygon>"), "a polygon has at least 3 points, this one 1"),
        (named("<polygon><pt><x>1</x></pt></polygon>"), "no y"),
        (BNDBOX, "an object without name"),
        (named(BNDBOX, " "), "an object without name"),
    ],
)
def test_an_object_without_box_or_class_is_counted(tmp_path: Path, content: str, detail: str) -> None:
    found = one_object(tmp_path, content)
    assert found.boxes["JPEGImages/p0.jpg"] == []
    assert found.counts == {"BoxMalformed": 1}
    assert found.details[0] == f"BoxMalformed: {detail}"


def test_labelme_keeps_rectangles_as_polygons_and_what_was_deleted(tmp_path: Path) -> None:
    corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((10, 10), (40, 10), (40, 40), (10, 40)))
    drawn = f"<deleted>0</deleted><type>bounding_box</type><polygon>{corners}</polygon>"
    files = {f"p{number}.jpg": jpeg(number) for number in range(4)}
    for number in range(4):
        deleted = named(drawn.replace("<deleted>0", "<deleted>1"))
        files[f"p{number}.xml"] = annotation(f"p{number}.jpg", deleted, named(drawn), size="")
    found = read_back(files, tmp_path)
    assert found.boxes == {f"p{number}.jpg": [BOX] for number in range(4)}
    assert found.counts == {}


# Lists of the split.


def with_lists(folder: Path, names: list[str], lists: dict[str, list[str]]) -> dict[str, str | None]:
    """The split of each picture, with lists below ImageSets."""
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        files[f"JPEGImages/{name}.jpg"] = jpeg(number)
        files[f"Annotations/{name}.xml"] = voc_xml(f"{name}.jpg", [BOX])
    for name, lines in lists.items():
        files[f"ImageSets/{name}"] = "\n".join(lines).encode()
    found = read_back(files, folder)
    assert found.counts == {}
    return {name: found.split[f"JPEGImages/{name}.jpg"] for name in names}


NAMES = [f"my frame {number}" for number in range(6)]


@pytest.mark.parametrize(
    "written",
    ['"{}"', "'{}'", "{}", '"{}" 1', "{} -1", "{}.jpg", '"{}.jpg"', "  {}\r"],
    ids=["quoted", "single", "bare", "quoted flag", "flag", "suffix", "quoted suffix", "blanks"],
)
def test_names_with_blanks_in_lists(tmp_path: Path, written: str) -> None:
    lines = [written.format(name) for name in NAMES]
    split = with_lists(tmp_path, NAMES, {"Main/train.txt": lines[:4], "Main/val.txt": lines[4:]})
    assert list(split.values()) == ["train"] * 4 + ["validation"] * 2


def test_lists_of_one_class_are_no_lists_of_the_split(tmp_path: Path) -> None:
    lists = {
        "Main/train.txt": NAMES[:4],
        "Main/val.txt": NAMES[4:],
        "Main/cone_train.txt": [f"{name}  1" for name in reversed(NAMES)],
        "Main/trainval.txt": NAMES,
    }
    assert list(with_lists(tmp_path, NAMES, lists).values()) == ["train"] * 4 + ["validation"] * 2


def test_a_list_for_train_and_validation_together(tmp_path: Path) -> None:
    split = with_lists(tmp_path, NAMES, {"Main/trainval.txt": NAMES[:5], "Main/test.txt": NAMES[5:]})
    assert split["my frame 5"] == "test"
    assert set(split.values()) == {"train", "validation", "test"}


def test_lists_with_folders_for_names_that_are_there_twice(tmp_path: Path) -> None:
    names = [f"{folder}/p{number}" for folder in ("day", "night") for number in range(3)]
    split = with_lists(tmp_path, names, {"Main/train.txt": names[:3], "Main/val.txt": names[3:]})
    assert list(split.values()) == ["train"] * 3 + ["validation"] * 3


def test_lists_directly_below_the_folder(tmp_path: Path) -> None:
    split = with_lists(tmp_path, NAMES, {"train.txt": NAMES[:4], "val.txt": NAMES[4:]})
    assert list(split.values()) == ["train"] * 4 + ["validation"] * 2
