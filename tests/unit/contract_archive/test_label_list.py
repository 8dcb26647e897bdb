"""Coral's labels.txt in place of a label map: every usual shape, and a sentence for what is none."""

import codecs
from pathlib import Path

import pytest

from atoll_contract.labelmap import LabelMapError, format_label_map, read_labels

THREE = ("Platelets", "RBC", "White cell")


def read(folder: Path, data: str | bytes) -> tuple[str, ...]:
    path = folder / "labels.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_labels(path)


@pytest.mark.parametrize(
    "text",
    [
        "0  Platelets\n1  RBC\n2  White cell\n",
        "0 Platelets\n1 RBC\n2 White cell",
        "0: Platelets\n1: RBC\n2: White cell\n",
        "0:Platelets\n1 : RBC\n2:White cell\n",
        "0\tPlatelets\n1\tRBC\n2\tWhite cell\n",
        "0,Platelets\n1,RBC\n2,White cell\n",
        "2 White cell\n0 Platelets\n1 RBC\n",
        "Platelets\nRBC\nWhite cell\n",
        "???\nPlatelets\nRBC\nWhite cell\n",
        "\n  Platelets  \n\n\nRBC\nWhite cell\n\n",
        "0  Platelets\r\n\r\n1  RBC\r\n2  White cell\r\n",
        codecs.BOM_UTF8 + b"0  Platelets\r\n1  RBC\r\n2  White cell\r\n",
        codecs.BOM_UTF8 + b"Platelets\nRBC\nWhite cell\n",
        "0 Platelets\n1 RBC\n2 White cell\n".encode("utf-16"),
        format_label_map(THREE),
        codecs.BOM_UTF8 + b"# ours\n" + format_label_map(THREE).encode(),
    ],
)
def test_every_usual_shape_is_read(tmp_path: Path, text: str | bytes) -> None:
    assert read(tmp_path, text) == THREE


def test_a_number_without_a_name_keeps_its_place(tmp_path: Path) -> None:
    assert read(tmp_path, "1  bicycle\n3  car\n4 ???\n") == ("class 0", "bicycle", "class 2", "car", "class 4")
    assert read(tmp_path, "???\nperson\n???\ncar\n") == ("person", "class 1", "car")


@pytest.mark.parametrize("names", [("0", "1", "2"), ("2024 note", "2023 cube"), ("item", "3-pointer"), ("Würfel",)])
def test_names_that_resemble_something_else_are_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert read(tmp_path, "\n".join(names)) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1 has no name"),
        (codecs.BOM_UTF8 + b"\r\n", "line 1 has no name"),
        ('{"names": ["note"]}', "line 1 is no name"),
        ("train: ../train\nnames: [note]", "line 1 is no name: 'train: ../train'"),
        ("names:\n- note\n", "line 1 is no name: 'names:'"),
        ("- note\n- cube\n", "line 1 is no name: '- note'"),
        ("<html>\n<body>", "line 1 is no name"),
        ('items {\n id: 1\n name: "note"\n}', "line 1 is no name"),
        ("0 note\ncube\n", "line 2 is no number and name, as the first is: 'cube'"),
        ("0 note\n5000 cube\n", "line 2 is no number and name"),
        ("note\n1 cube\n", "line 2 has a number, unlike the first: '1 cube'"),
        ("0 note\n0 cube\n", "line 2 has a number or name that stands there already: '0 cube'"),
        ("note\n\nnote\n", "line 3 has a number or name that stands there already: 'note'"),
        (b"note\n\xff\xff\n", "line 2 is not UTF-8"),
        (b"TFL3\0\0\0", "line 1 is no name"),
    ],
)
def test_what_is_no_list_is_named_with_its_line(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(LabelMapError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(sentence)
    assert "labels are a list of names in UTF-8 (on each line a name, or a number" in str(caught.value)
    assert "map.pbtxt" in str(caught.value)


def test_a_label_map_is_still_named_by_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match="label map line 2 col 1"):
        read(tmp_path, 'item { id: 1\nnom "note" }')
    with pytest.raises(LabelMapError, match=r"ids must be 1, 2, 3, …, not \[2\]"):
        read(tmp_path, 'item { id: 2 name: "a" }')
