"""Tables of boxes as Excel, pandas and labelling tools write them: every box, class, split and problem."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from atoll_contract.errors import DatasetError, Reason
from support.archives import jpeg
from support.read_back import ReadBack, read_back

HEADING = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
BOX = ("cone", 10, 10, 40, 40)


def rows(*more: tuple[str, ...], first: int = 0) -> list[tuple[str, ...]]:
    """A row for each of four pictures, and more."""
    return [*((f"i{n}.jpg", "64", "48", "cone", "10", "10", "40", "40") for n in range(first, first + 4)), *more]


def table(lines: Sequence[tuple[str, ...]], *, heading: tuple[str, ...] = HEADING, delimiter: str = ",") -> bytes:
    return "".join(delimiter.join(line) + "\n" for line in (heading, *lines) if line).encode()


def read_table(folder: Path, data: bytes, *, count: int = 4, at: str = "", **spec: float) -> ReadBack:
    pictures = {f"{at}i{number}.jpg": jpeg(number) for number in range(count)}
    return read_back({**pictures, "labels.csv": data}, folder, **spec)


def assert_four_boxes(found: ReadBack) -> None:
    assert found.formats == ("tfod-csv",)
    assert found.boxes == {f"i{number}.jpg": [BOX] for number in range(4)}
    assert found.classes == ("cone",)
    assert found.counts == {}


# Dialects.


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_every_delimiter(tmp_path: Path, delimiter: str, bom: bytes, ends: bytes) -> None:
    assert_four_boxes(read_table(tmp_path, bom + table(rows(), delimiter=delimiter).replace(b"\n", ends)))


@pytest.mark.parametrize("mark", ['"', "'"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_every_cell_in_quotes(tmp_path: Path, mark: str, delimiter: str) -> None:
    lines = [tuple(f"{mark}{cell}{mark}" for cell in line) for line in (HEADING, *rows())]
    assert_four_boxes(read_table(tmp_path, table(lines[1:], heading=lines[0], delimiter=delimiter)))


def test_a_delimiter_inside_of_quotes(tmp_path: Path) -> None:
    lines = rows(("i0.jpg", "64", "48", '"cone; ""red"""', "1", "2", "30", "40"))
    found = read_table(tmp_path, table(lines, delimiter=";"))
    assert found.boxes["i0.jpg"] == [BOX, ('cone; "red"', 1, 2, 30, 40)]


@pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", "SEP=;\n"])
def test_excels_own_first_line(tmp_path: Path, first: str) -> None:
    assert_four_boxes(read_table(tmp_path, first.encode() + table(rows(), delimiter=";")))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_excels_unicode_text(tmp_path: Path, encoding: str) -> None:
    text = table(rows(), delimiter="\t").decode()
    lead = "" if encoding == "utf-16" else "\ufeff"
    assert_four_boxes(read_table(tmp_path, (lead + text).encode(encoding)))


def test_a_table_under_the_suffix_tsv(tmp_path: Path) -> None:
    files = {f"i{number}.jpg": jpeg(number) for number in range(4)}
    assert_four_boxes(read_back({**files, "labels.tsv": table(rows(), delimiter="\t")}, tmp_path))


def test_other_bytes_are_named(tmp_path: Path) -> None:
    data = table(rows(("i0.jpg", "64", "48", "k\u00fcbel", "1", "2", "30", "40"))).decode().encode("cp1252")
    with pytest.raises(DatasetError, match=r'"labels\.csv" byte \d+: not UTF-8; save the table as CSV UTF-8') as raised:
        read_table(tmp_path, data)
    assert raised.value.reason is Reason.ANNOTATION_INVALID


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_decimal_comma(tmp_path: Path, delimiter: str) -> None:
    lines = [("i0.jpg", "64,0", "48", "cone", "10,5", "10,25", "40,0", "4e1"), *rows(first=1)[:3]]
    found = read_table(tmp_path, table(lines, delimiter=delimiter))
    assert found.boxes["i0.jpg"] == [("cone", 10.5, 10.25, 40, 40)]
    assert found.counts == {}


def test_a_decimal_comma_that_makes_more_cells_is_counted(tmp_path: Path) -> None:
    lines = rows(("i0.jpg", "64", "48", "cone", "10,5", "10,5", "40", "40"))
    found = read_table(tmp_path, table(lines), max_invalid_percent=100.0)
    assert found.boxes["i0.jpg"] == [BOX]
    assert found.details == ("BoxMalformed: row 6: 10 cells, the first row has 8",)


@pytest.mark.parametrize("blank", ["", ",,,,,,,", " , ,,,,,, "])
def test_lines_without_content(tmp_path: Path, blank: str) -> None:
    data = table(rows()).decode().replace("\n", f"\n{blank}\n")
    heading, _, rest = data.partition("\n")
    assert_four_boxes(read_table(tmp_path, f"{heading}\n{rest}".encode()))


# Headings.


@pytest.mark.parametrize("order", [(0, 3, 4, 5, 6, 7, 1, 2), (7, 6, 5, 4, 3, 2, 1, 0)])
def test_columns_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    lines = [tuple(line[at] for at in order) for line in (HEADING, *rows())]
    assert_four_boxes(read_table(tmp_path, table(lines[1:], heading=lines[0])))


@pytest.mark.parametrize(
    "heading",
    [
        tuple(name.upper() for name in HEADING),
        tuple(f" {name.title()} " for name in HEADING),
        ("image", "width", "height", "label", "x_min", "y_min", "x_max", "y_max"),
        ("Image Name", "image_width", "image_height", "class_name", "X1", "Y1", "X2", "Y2"),
        ("file", "Width", "Height", "Category", "left", "top", "right", "bottom"),
        ("image_path", "img-width", "img-height", "LabelName", "xtl", "ytl", "xbr", "ybr"),
    ],
    ids=["upper", "title", "min", "x1", "left", "xtl"],
)
def test_headings_of_other_tools(tmp_path: Path, heading: tuple[str, ...]) -> None:
    assert_four_boxes(read_table(tmp_path, table(rows(), heading=heading)))


def test_further_columns_do_not_matter(tmp_path: Path) -> None:
    lines = [("7", *line, "0.9") for line in rows()]
    assert_four_boxes(read_table(tmp_path, table(lines, heading=("", *HEADING, "confidence"))))


def test_vott_has_no_size(tmp_path: Path) -> None:
    lines = [(f'"i{n}.jpg"', "10.0", "10.0", "40.0", "40.0", '"cone"') for n in range(4)]
    heading = tuple(f'"{name}"' for name in ("image", "xmin", "ymin", "xmax", "ymax", "label"))
    assert_four_boxes(read_table(tmp_path, table(lines, heading=heading)))


@pytest.mark.parametrize(
    "heading",
    [
        ("label_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height", "image_name", "image_width", "image_height"),
        ("class", "x", "y", "w", "h", "image", "width", "height"),
        ("class", "left", "top", "width", "height", "image", "image_width", "image_height"),
        (),
    ],
    ids=["makesense", "short", "of the box", "makesense, old"],
)
def test_a_corner_and_sides(tmp_path: Path, heading: tuple[str, ...]) -> None:
    lines = [("cone", "10", "10", "30", "30", f"i{n}.jpg", "64", "48") for n in range(4)]
    assert_four_boxes(read_table(tmp_path, table(lines, heading=heading)))


def test_width_and_height_without_right_and_bottom_are_the_boxs(tmp_path: Path) -> None:
    lines = [(f"i{n}.jpg", "cone", "10", "10", "30", "30") for n in range(4)]
    assert_four_boxes(read_table(tmp_path, table(lines, heading=("filename", "class", "x", "y", "width", "height"))))


def test_no_heading(tmp_path: Path) -> None:
    assert_four_boxes(read_table(tmp_path, table(rows(), heading=())))


def test_keras_retinanet_with_negatives(tmp_path: Path) -> None:
    lines = [*((f"i{n}.jpg", "10", "10", "40", "40", "cone") for n in range(4)), ("i4.jpg", "", "", "", "", "")]
    found = read_table(tmp_path, table(lines, heading=()), count=5)
    assert found.boxes == {**{f"i{number}.jpg": [BOX] for number in range(4)}, "i4.jpg": []}
    assert found.counts == {}


def test_a_table_without_heading_that_begins_with_a_negative(tmp_path: Path) -> None:
    lines = [("i4.jpg", "", "", "", "", ""), *((f"i{n}.jpg", "10", "10", "40", "40", "cone") for n in range(4))]
    found = read_table(tmp_path, table(lines, heading=()), count=5)
    assert found.boxes == {**{f"i{number}.jpg": [BOX] for number in range(4)}, "i4.jpg": []}
    assert found.counts == {}


def test_a_table_without_heading_that_begins_and_ends_with_negatives(tmp_path: Path) -> None:
    empty = [(f"i{n}.jpg", *[""] * 5) for n in (4, 5)]
    boxes = [(f"i{n}.jpg", "10", "10", "40", "40", "cone") for n in range(4)]
    found = read_table(tmp_path, table([empty[0], *boxes, empty[1]], heading=()), count=6)
    assert found.boxes == {**{f"i{number}.jpg": [BOX] for number in range(4)}, "i4.jpg": [], "i5.jpg": []}


# i0.jpg … in AutoML's table: the set, the path in its bucket, the class, and corners in shares of the picture.
CORNERS = ("0.25", "0.25", "0.75", "0.5")
TWO_CORNERS = (*CORNERS[:2], "", "", *CORNERS[2:], "", "")
FOUR_CORNERS = (*CORNERS[:2], CORNERS[2], CORNERS[1], *CORNERS[2:], CORNERS[0], CORNERS[3])


@pytest.mark.parametrize("corners", [TWO_CORNERS, FOUR_CORNERS], ids=["two", "four"])
@pytest.mark.parametrize(
    "sets", [("TRAIN", "VALIDATE", "TEST"), ("TRAINING", "VALIDATION", "TEST"), ("training", "validation", "test")]
)
def test_tables_of_automl_and_model_maker(tmp_path: Path, sets: tuple[str, ...], corners: tuple[str, ...]) -> None:
    parts = (sets[0], sets[0], *sets[1:])
    lines = [(part, f"gs://team/cones/i{n}.jpg", "cone", *corners) for n, part in enumerate(parts)]
    found = read_table(tmp_path, table(lines, heading=()))
    assert found.boxes == {f"i{number}.jpg": [("cone", 16, 12, 48, 24)] for number in range(4)}
    assert found.split == {"i0.jpg": "train", "i1.jpg": "train", "i2.jpg": "validation", "i3.jpg": "test"}
    assert found.counts == {}


@pytest.mark.parametrize("lead", [("UNASSIGNED",), ("",), ()], ids=["UNASSIGNED", "empty", "no column"])
def test_tables_of_automl_without_a_split(tmp_path: Path, lead: tuple[str, ...]) -> None:
    negative = (*lead, "gs://team/i3.jpg", *[""] * 9)
    lines = [negative, *((*lead, f"gs://team/i{n}.jpg", "cone", *TWO_CORNERS) for n in range(3))]
    found = read_table(tmp_path, table(lines, heading=()))
    assert found.boxes == {
        **{f"i{number}.jpg": [("cone", 16, 12, 48, 24)] for number in range(3)},
        "i3.jpg": [],
    }
    assert found.counts == {}


@pytest.mark.parametrize("edge", ["1.5", "-0.1", "96"])
def test_tables_of_automl_have_shares(tmp_path: Path, edge: str) -> None:
    """Of pixels nothing is known there."""
    line = ("TRAIN", "i0.jpg", "cone", "0.1", "0.1", "", "", edge, "0.5", "", "")
    with pytest.raises(DatasetError) as raised:
        read_table(tmp_path, table([line], heading=()))
    assert raised.value.reason is Reason.DATASET_MALFORMED


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"epoch,loss\n1,2\n", b"filename,class\na.jpg,x\n", b"a,b,c,d,e,f\n1,2,3,4,5,6\n"]
)
def test_a_table_without_boxes_is_none_of_the_format(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError) as raised:
        read_table(tmp_path, data)
    assert raised.value.reason is Reason.DATASET_MALFORMED


# Rows.


EMPTY_CLASS, EMPTY_BOX = ("", "background", "-1", "NaN"), ("", "-1", "nan", "0", "-1.00")


@pytest.mark.parametrize(("label", "edge"), list(itertools.product(EMPTY_CLASS, EMPTY_BOX)))
def test_a_row_without_object_is_a_negative(tmp_path: Path, label: str, edge: str) -> None:
    lines = rows(("i4.jpg", "64", "48", label, *[edge] * 4), ("i5.jpg", "64", "48", label, *[edge] * 4))
    found = read_table(tmp_path, table(lines), count=6)
    assert found.boxes == {**{f"i{number}.jpg": [BOX] for number in range(4)}, "i4.jpg": [], "i5.jpg": []}
    assert found.counts == {}


def test_a_short_row_without_object_is_a_negative(tmp_path: Path) -> None:
    found = read_table(tmp_path, table(rows(("i4.jpg", "64", "48"))), count=5)
    assert found.boxes["i4.jpg"] == []
    assert found.counts == {}


def test_a_negative_row_of_a_picture_with_boxes_takes_none_away(tmp_path: Path) -> None:
    assert_four_boxes(read_table(tmp_path, table(rows(("i0.jpg", "64", "48", "", "", "", "", "")))))


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (("i0.jpg", "64", "48", "cone", "", "", "", ""), 'xmin: "" is not a number'),
        (("i0.jpg", "64", "48", "cone", "1", "2", "30", "high"), 'ymax: "high" is not a number'),
        (("i0.jpg", "64", "48", "cone", "1", "2", "inf", "40"), 'xmax: "inf" is not a finite number'),
        (("i0.jpg", "64", "48", "cone", "1_0", "2", "30", "40"), 'xmin: "1_0" is not a number'),
        (("i0.jpg", "64", "48", "", "1", "2", "30", "40"), "no class"),
        (("", "64", "48", "cone", "1", "2", "30", "40"), "no filename"),
    ],
)
def test_a_row_that_is_half_an_object_is_counted(tmp_path: Path, line: tuple[str, ...], detail: str) -> None:
    found = read_table(tmp_path, table(rows(line)), max_invalid_percent=100.0)
    assert found.boxes["i0.jpg"] == [BOX]
    assert found.details == (f"BoxMalformed: row 6: {detail}",)


@pytest.mark.parametrize(
    ("name", "renamed"),
    [("i{}", True), ("photos/i{}.jpg", False), ("C:\\photos\\i{}.jpg", False), ("photos/i{}", True)],
)
def test_names_without_suffix_and_with_folders(tmp_path: Path, name: str, renamed: bool) -> None:
    lines = [(name.format(number), *line[1:]) for number, line in enumerate(rows())]
    found = read_table(tmp_path, table(lines), at="photos/")
    assert found.boxes == {f"photos/i{number}.jpg": [BOX] for number in range(4)}
    assert found.counts == ({"PictureFoundByStem": 4} if renamed else {})


def test_folders_in_names_that_mean_a_split(tmp_path: Path) -> None:
    lines = [(f"{'train' if number < 4 else 'val'}/i{number}.jpg", *line[1:]) for number, line in enumerate(rows() * 2)]
    files = {line[0]: jpeg(number) for number, line in enumerate(lines)}
    found = read_back({**files, "labels.csv": table(lines)}, tmp_path)
    assert list(found.split.values()) == ["train"] * 4 + ["validation"] * 4


def test_tables_of_a_split_beat_the_table_of_the_whole(tmp_path: Path) -> None:
    lines = rows() + rows(first=4)
    files = {f"i{number}.jpg": jpeg(number) for number in range(8)}
    tables = {"train_labels.csv": lines[:5], "test_labels.csv": lines[5:], "all_labels.csv": lines}
    found = read_back({**files, **{name: table(own) for name, own in tables.items()}}, tmp_path)
    assert found.boxes == {f"i{number}.jpg": [BOX] for number in range(8)}
    assert [found.split[f"i{number}.jpg"] for number in range(5, 8)] == ["test"] * 3
    assert "test" not in [found.split[f"i{number}.jpg"] for number in range(5)]
    assert found.counts == {}
