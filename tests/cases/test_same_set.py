"""One set of labelled pictures in every format that Atoll reads gives the same records from each.

It has three classes, odd names, PNG beside JPEG, pictures on their side by EXIF, a negative, and a split.
"""

import csv
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import pytest

from support.archives import annotation, encoded, meta, packed, picture, rectangle
from support.convert_stage import ConvertStage, Ended
from support.converted_records import edges_of, records_of
from support.sample_archive import SAMPLE_IMAGES

Files = dict[str, bytes]
Box = tuple[str, int, int, int, int]
CLASSES = ("R&D <cube>", "cone", "grüner Würfel")
# A side of 50 pixels, so that shares of the picture with two digits are exact.
SIZE = (100, 50)
NAMES = (
    *("IMG_0001.JPG", "frame,2.jpg", "würfel 3.png", "50% grey 4.jpg", "no#5.png", "x.y.z 6.jpg", "'7'.jpg"),
    *("side 8.jpg", "side 9.jpg", "frame_000010.png", "ünï+cödé 11.jpg", "12.jpeg"),
)
NEGATIVE = "no#5.png"


class Labelled(NamedTuple):
    """A picture, its size as people see it, and its boxes."""

    name: str
    split: str
    size: tuple[int, int]
    boxes: tuple[Box, ...]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem


def images() -> Files:
    side = picture(1).getexif()
    side[0x0112] = 6
    files: Files = {}
    for number, name in enumerate(NAMES):
        drawn = picture(number, size=SIZE)
        if name.endswith(".png"):
            files[name] = encoded(drawn, "PNG")
        else:
            files[name] = encoded(drawn, "JPEG", **({"exif": side} if name.startswith("side") else {}))
    return files


def labelled(number: int) -> Labelled:
    name, split = NAMES[number], "train" if number < 8 else "val"
    size = (SIZE[1], SIZE[0]) if name.startswith("side") else SIZE
    boxes: tuple[Box, ...] = ((CLASSES[number % 3], 4 + 2 * number, 10, 24 + 2 * number, 40),)
    if number % 4 == 0:
        boxes += ((CLASSES[1], 2, 4, 30, 20), (CLASSES[2], 0, 0, *size))
    return Labelled(name, split, size, () if name == NEGATIVE else boxes)


SET = tuple(map(labelled, range(len(NAMES))))
SPLITS = ("train", "val")


def beside(folder: Callable[[Labelled], str]) -> Files:
    """The pictures, each in the folder that a format has for it."""
    found = images()
    return {f"{folder(item)}/{item.name}".lstrip("/"): found[item.name] for item in SET}


def of_split(split: str) -> list[Labelled]:
    return [item for item in SET if item.split == split]


def as_supervisely() -> Files:
    files = {"set/meta.json": meta(*CLASSES)} | beside(lambda item: f"set/{item.split}/img")
    for item in SET:
        document = annotation([rectangle(*box) for box in item.boxes], size=item.size)
        files[f"set/{item.split}/ann/{item.name}.json"] = document
    return files


def as_coco() -> Files:
    files = beside(lambda item: f"images/{item.split}")
    for split in SPLITS:
        entries: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for number, item in enumerate(of_split(split), start=1):
            width, height = item.size
            entries.append({"id": number, "file_name": item.name, "width": width, "height": height})
            for label, left, top, right, bottom in item.boxes:
                values = {"image_id": number, "category_id": CLASSES.index(label) + 1, "iscrowd": 0}
                objects.append({"id": len(objects), "bbox": [left, top, right - left, bottom - top]} | values)
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
        document = {"images": entries, "annotations": objects, "categories": categories}
        files[f"annotations/instances_{split}.json"] = json.dumps(document).encode()
    return files


def as_voc() -> Files:
    files = beside(lambda _: "JPEGImages")
    for item in SET:
        objects = "".join(
            f"<object><name>{escape(label)}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
            for label, left, top, right, bottom in item.boxes
        )
        size = f"<size><width>{item.size[0]}</width><height>{item.size[1]}</height></size>"
        text = f"<annotation><filename>{escape(item.name)}</filename>{size}{objects}</annotation>"
        files[f"Annotations/{item.stem}.xml"] = text.encode()
    for split in SPLITS:
        files[f"ImageSets/Main/{split}.txt"] = "\n".join(item.stem for item in of_split(split)).encode()
    return files


def as_yolo() -> Files:
    files = beside(lambda item: f"images/{item.split}")
    names = json.dumps(list(CLASSES), ensure_ascii=False)
    files["data.yaml"] = f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n".encode()
    for item in SET:
        width, height = item.size
        lines = [
            f"{CLASSES.index(label)} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} "
            f"{(right - left) / width:.6f} {(bottom - top) / height:.6f}\n"
            for label, left, top, right, bottom in item.boxes
        ]
        files[f"labels/{item.split}/{item.stem}.txt"] = "".join(lines).encode()
    return files


def as_csv() -> Files:
    files = beside(lambda item: item.split)
    for split in SPLITS:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"))
        for item in of_split(split):
            table.writerows((item.name, *item.size, *box) for box in item.boxes or [("", "", "", "", "")])
        files[f"{split}/_annotations.csv"] = text.getvalue().encode()
    return files


def as_cvat() -> Files:
    entries = ""
    for number, item in enumerate(SET):
        boxes = "".join(
            f'<box label={quoteattr(label)} xtl="{left}.00" ytl="{top}.00" xbr="{right}.00" ybr="{bottom}.00"/>'
            for label, left, top, right, bottom in item.boxes
        )
        size = f'width="{item.size[0]}" height="{item.size[1]}"'
        part = {"train": "Train", "val": "Validation"}[item.split]
        entries += f'<image id="{number}" name={quoteattr(item.name)} subset="{part}" {size}>{boxes}</image>'
    document = f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{entries}</annotations>'
    return {"annotations.xml": document.encode()} | beside(lambda _: "images")


def as_labelme() -> Files:
    files = beside(lambda item: item.split)
    for item in SET:
        shapes = [
            {"label": label, "points": [[left, top], [right, bottom]], "shape_type": "rectangle", "flags": {}}
            for label, left, top, right, bottom in item.boxes
        ]
        document: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": item.name}
        document |= {"imageData": None, "imageWidth": item.size[0], "imageHeight": item.size[1]}
        files[f"{item.split}/{item.stem}.json"] = json.dumps(document).encode()
    return files


def as_createml() -> Files:
    files = beside(lambda item: item.split)
    for split in SPLITS:
        document = []
        for item in of_split(split):
            objects = []
            for label, left, top, right, bottom in item.boxes:
                middle = {"x": (left + right) / 2, "y": (top + bottom) / 2}
                objects.append(
                    {"label": label, "coordinates": {**middle, "width": right - left, "height": bottom - top}}
                )
            document.append({"image": item.name, "annotations": objects})
        files[f"{split}/_annotations.createml.json"] = json.dumps(document).encode()
    return files


FORMATS = {
    "supervisely": as_supervisely,
    "coco": as_coco,
    "voc": as_voc,
    "yolo": as_yolo,
    "tfod-csv": as_csv,
    "cvat": as_cvat,
    "labelme": as_labelme,
    "createml": as_createml,
}


def converted(root: Path, files: Files) -> Ended:
    ended = ConvertStage(root).put("x.zip", packed(files, ".zip")).run(classes=CLASSES)
    assert ended.code == 0, ended.message
    return ended


def records(ended: Ended) -> dict[str, dict[str, Any]]:
    """Each record whole, by the name of its picture, with its part of the split; edges to six digits."""
    found: dict[str, dict[str, Any]] = {}
    for part, split in ended.dataset().splits.items():
        for record in records_of(ended.store, split):
            rest: dict[str, Any] = {
                key: values for key, values in record.items() if not key.startswith("image/object/bbox")
            }
            rest["edges"] = [tuple(round(edge, 6) for edge in edges) for edges in edges_of(record)]
            rest["part"] = part
            # The folders differ by format.
            name = PurePosixPath(rest.pop("image/filename")[0].decode()).name
            rest.pop("image/source_id", None)
            found[name] = rest
    return found


def pixels(record: dict[str, Any]) -> Iterable[Box]:
    width, height = record["image/width"][0], record["image/height"][0]
    labels = (label.decode() for label in record["image/object/class/text"])
    for label, (left, top, right, bottom) in zip(labels, record["edges"], strict=True):
        yield label, round(left * width), round(top * height), round(right * width), round(bottom * height)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return records(converted(tmp_path_factory.mktemp("reference"), as_supervisely()))


def test_the_reference_is_the_set(reference: dict[str, dict[str, Any]]) -> None:
    assert {name: sorted(pixels(record)) for name, record in reference.items()} == {
        item.name: sorted(item.boxes) for item in SET
    }
    parts = {"train": "train", "val": "validation"}
    assert {name: record["part"] for name, record in reference.items()} == {
        item.name: parts[item.split] for item in SET
    }


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_records_from_every_format(form: str, reference: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    ended = converted(tmp_path, FORMATS[form]())
    dataset = ended.dataset()
    assert dataset.sources[0].format == form
    kinds = dataset.problem_counts.keys() - {"NearDuplicate", "SplitLeakage"}
    assert kinds == set()
    assert records(ended) == reference


@pytest.fixture(scope="module")
def sample(
    sample_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Labelled, ...], Files, tuple[str, ...]]:
    """The project's sample: its pictures with their boxes, the files, and the classes."""
    ended = ConvertStage(tmp_path_factory.mktemp("sample")).put("x.tar", sample_archive.read_bytes()).run()
    found = []
    for name, record in records(ended).items():
        size = (record["image/width"][0], record["image/height"][0])
        part = {"train": "train", "validation": "val"}[record["part"]]
        found.append(Labelled(name, part, size, tuple(pixels(record))))
    with tarfile.open(sample_archive) as archive:
        files = {
            PurePosixPath(member.name).name: file.read()
            for member in archive
            if member.name.endswith(".jpg") and (file := archive.extractfile(member)) is not None
        }
    return tuple(found), files, tuple(item.name for item in ended.dataset().classes)


@pytest.mark.parametrize("form", FORMATS)
def test_the_sample_gives_the_same_records_from_every_format(
    form: str,
    sample: tuple[tuple[Labelled, ...], Files, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules[__name__]
    labelled, files, classes = sample
    assert len(labelled) == SAMPLE_IMAGES
    monkeypatch.setattr(module, "SET", labelled)
    monkeypatch.setattr(module, "CLASSES", classes)
    monkeypatch.setattr(module, "images", lambda: files)
    found = records(converted(tmp_path, FORMATS[form]()))
    parts = {"train": "train", "val": "validation"}
    assert {name: (record["part"], sorted(pixels(record))) for name, record in found.items()} == {
        item.name: (parts[item.split], sorted(item.boxes)) for item in labelled
    }
