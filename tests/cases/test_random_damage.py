"""Archives of every format with random damage: what is seen adds up, and what is lost is a warning.

`ATOLL_EXAMPLES=2000` tries more of them.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.convert_spec import ConvertSpec, Rename, Split, SplitBy
from atoll_contract.errors import DatasetError
from atoll_stages.convert.meanings import anchor
from atoll_stages.convert.pipeline import Conversion, Source, read_dataset, summarize
from atoll_stages.convert.problems import Kind
from support.archives import SIZE, coco, jpeg, packed, supervisely, tfod_csv, voc, yolo

EXAMPLES = int(os.environ.get("ATOLL_EXAMPLES", "100"))
Files = dict[str, bytes]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def cvat(count: int) -> Files:
    """CVAT for images, with a box and a polygon in each picture."""
    shapes = '<box label="note" xtl="4" ytl="5" xbr="34" ybr="40"/><polygon label="note" points="1,1;9,1;9,9"/>'
    images = "".join(
        f'<image id="{number}" name="p{number}.jpg" width="{SIZE[0]}" height="{SIZE[1]}">{shapes}</image>'
        for number in range(count)
    )
    files = {f"images/p{number}.jpg": jpeg(number) for number in range(count)}
    return {**files, "annotations.xml": f"<annotations><version>1.1</version>{images}</annotations>".encode()}


def labelme(count: int) -> Files:
    """A JSON beside each picture."""
    shape: dict[str, Any] = {"label": "note", "points": [[4, 5], [34, 40]], "shape_type": "rectangle"}
    files: Files = {}
    for number in range(count):
        document: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": [shape, shape | {"label": "robot"}]}
        document |= {"imagePath": f"p{number}.jpg", "imageData": None, "imageHeight": SIZE[1], "imageWidth": SIZE[0]}
        files |= {f"p{number}.jpg": jpeg(number), f"p{number}.json": json.dumps(document).encode()}
    return files


def createml(count: int) -> Files:
    """One JSON beside all pictures."""
    boxes = [{"label": "note", "coordinates": {"x": 20, "y": 20, "width": 20, "height": 30}}]
    names = [f"p{number}.jpg" for number in range(count)]
    document = [{"image": name, "annotations": boxes} for name in names]
    files = {name: jpeg(number) for number, name in enumerate(names)}
    return {**files, "_annotations.createml.json": json.dumps(document).encode()}


# Five pictures each, and the objects in them.
FORMATS: dict[str, tuple[Files, int]] = {
    "supervisely": (supervisely(5, labels=["note", "robot"]), 10),
    "coco": (coco(5, labels=["note", "robot"]), 5),
    "voc": (voc(5), 5),
    "yolo": ({**yolo(3), **yolo(2, part="val", first=3)}, 5),
    "tfod-csv": (tfod_csv(3, parts=("train", "valid")), 6),
    "cvat": (cvat(5), 10),
    "labelme": (labelme(5), 10),
    "createml": (createml(5), 5),
}
LABELS = (".json", ".xml", ".txt", ".csv", ".yaml")
VALUES = (b"-5", b"0", b"", b"nan", b"1e9", b'"7"', b"99", b"0.5", b"null", b"x")


def labels_of(files: Files) -> list[str]:
    return [name for name in sorted(files) if name.endswith(LABELS)]


def pick(draw: Draw, names: Iterable[str]) -> str:
    found = sorted(names)
    return found[draw(st.integers(0, len(found) - 1))]


def remove(files: Files, draw: Draw) -> None:
    del files[pick(draw, files)]


def cut(files: Files, draw: Draw) -> None:
    name = pick(draw, files)
    files[name] = files[name][: draw(st.integers(0, len(files[name])))]


def flip(files: Files, draw: Draw) -> None:
    name = pick(draw, files)
    data = bytearray(files[name])
    if data:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    files[name] = bytes(data)


def swap(files: Files, draw: Draw) -> None:
    """One file with the content of another: a copy of a picture, or the labels of another picture."""
    files[pick(draw, files)] = files[pick(draw, files)]


def rename(files: Files, draw: Draw) -> None:
    name = pick(draw, files)
    endings = (".txt", ".PNG", "", ".bak.xml")
    files[(name.rpartition(".")[0] or name) + endings[draw(st.integers(0, len(endings) - 1))]] = files.pop(name)


def add(files: Files, draw: Draw) -> None:
    names = ("notes.docx", "__MACOSX/._p.jpg", "x/.DS_Store", "README.txt", "train.txt", "extra.jpg", "classes.txt")
    files[names[draw(st.integers(0, len(names) - 1))]] = jpeg(900 + draw(st.integers(0, 5)))


def enlist(files: Files, draw: Draw) -> None:
    """A list of the split that names members of any kind, also without suffix."""
    if draw(st.booleans()):
        files["frame_9"] = jpeg(909)
    lines = [pick(draw, files) for _ in range(draw(st.integers(1, 4)))]
    names = [line.rpartition("/")[2] if draw(st.booleans()) else line for line in lines]
    files[("train.txt", "val.txt", "ImageSets/Main/test.txt")[draw(st.integers(0, 2))]] = "\n".join(names).encode()


def copy(files: Files, draw: Draw) -> None:
    """The labels again under another name, so that two files are about the same pictures."""
    if labels := labels_of(files):
        name = pick(draw, labels)
        folder, _, base = name.rpartition("/")
        files[f"{folder}/again/{base}".lstrip("/") if draw(st.booleans()) else f"{folder}/z_{base}".lstrip("/")] = (
            files[name]
        )


def change(files: Files, draw: Draw) -> None:
    """Another value in the place of a number of a label file."""
    if labels := labels_of(files):
        name = pick(draw, labels)
        if numbers := list(re.finditer(rb"\d+(\.\d+)?", files[name])):
            found = numbers[draw(st.integers(0, len(numbers) - 1))]
            value = VALUES[draw(st.integers(0, len(VALUES) - 1))]
            files[name] = files[name][: found.start()] + value + files[name][found.end() :]


def mix(files: Files, draw: Draw) -> None:
    """The files of another format beside these."""
    other = FORMATS[pick(draw, FORMATS)][0]
    files.update({name: other[name] for name in other if name not in files})


DAMAGE = (remove, cut, flip, swap, rename, add, enlist, copy, mix, change, change, change)
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"ignore": ("note",)},
    {"classes": ("robot", "Note")},
    {"rename": (Rename("robot", "note"),)},
    {"split": Split(by=SplitBy.HASH)},
)


def check(conversion: Conversion, files: Files) -> None:
    sums = conversion.sums
    for counts in sums.values():
        assert counts["seen"] == sum(counts.values()) - counts["seen"]
    assert sums["members"]["seen"] == len(files)
    examples = list(conversion.store.examples())
    assert sums["pictures"].get("used", 0) == len(examples)
    assert sums["objects"].get("used", 0) == sum(len(example.boxes) for example in examples)


def converted(files: Files, suffix: str, rules: dict[str, Any]) -> bool:
    """Converts the files; checks the totals and the warnings, and returns whether there was no refusal."""
    spec = ConvertSpec(sources=(), max_invalid_percent=100.0, **rules)
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / f"data{suffix}"
        archive.write_bytes(packed(files, suffix))
        try:
            with read_dataset([Source(archive.name, archive)], spec, Path(name) / "work") as conversion:
                check(conversion, files)
                lost = {kind for counts in conversion.sums.values() for kind in counts if kind in set(Kind)}
                warnings = summarize(conversion).warnings
                assert all(any(text.endswith(f"see {anchor(Kind(kind))}") for text in warnings) for kind in lost)
        except DatasetError:
            return False
    return True


def test_what_is_seen_adds_up_and_what_is_lost_is_a_warning() -> None:
    outcomes = Counter[bool]()

    @settings(max_examples=EXAMPLES)
    @given(
        st.sampled_from(sorted(FORMATS)),
        st.lists(st.sampled_from(DAMAGE), max_size=4),
        st.sampled_from(RULES),
        st.sampled_from([".tar", ".zip"]),
        st.data(),
    )
    def holds(
        form: str, damage: list[Callable[[Files, Draw], None]], rules: dict[str, Any], suffix: str, data: st.DataObject
    ) -> None:
        files = dict(FORMATS[form][0])
        for apply in damage:
            apply(files, data.draw)
        outcomes[converted(files, suffix, rules)] += 1

    holds()
    assert outcomes[True] > outcomes.total() / 3


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_without_damage_everything_is_used(form: str, tmp_path: Path) -> None:
    files, objects = FORMATS[form]
    archive = tmp_path / "data.tar"
    archive.write_bytes(packed(files, ".tar"))
    with read_dataset([Source(archive.name, archive)], ConvertSpec(sources=()), tmp_path / "work") as conversion:
        check(conversion, files)
        pictures = sum(file.endswith(".jpg") for file in files)
        assert conversion.sums["pictures"] == {"seen": pictures, "used": pictures}
        assert conversion.sums["objects"] == {"seen": objects, "used": objects}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_the_objects_of_a_missing_picture_are_counted_with_it(form: str, tmp_path: Path) -> None:
    files, objects = dict(FORMATS[form][0]), FORMATS[form][1]
    pictures = [name for name in sorted(files) if name.endswith(".jpg")]
    del files[pictures[1]]
    archive = tmp_path / "data.tar"
    archive.write_bytes(packed(files, ".tar"))
    with read_dataset([Source(archive.name, archive)], ConvertSpec(sources=()), tmp_path / "work") as conversion:
        lost = objects // len(pictures)
        assert conversion.sums["objects"] == {"seen": objects, "used": objects - lost, "PictureMissing": lost}
