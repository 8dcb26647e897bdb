"""Shapes of exports that people reported to labelling and training tools, each by its id: every box, class, warning and
the split of the smallest set of that shape.

The other ids: C4, D3, E7, E8 in `test_formats`, D1, E1, E2, E4, E5, K3 in `test_archives`, F12, F16, L1 in
`test_nothing_lost`, H1, H3 in `test_pictures`, J3 in `test_labelme`, O1, O2 in `test_stores`. Below `tests/unit`: V1 in
`contract_archive/test_label_list`, V2 in `cli_video/test_broken_videos`, X1, X2 in `edge_camera/test_frc_by_hand`.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.archives import CSV_HEADER, SIZE, annotation, encoded, jpeg, meta, picture, rectangle, voc_xml
from support.read_back import PixelBox, read_back

Files = dict[str, bytes]
Boxes = dict[str, list[PixelBox]]
T, V = "train", "validation"
WIDTH, HEIGHT = SIZE
CONE: PixelBox = ("cone", 16, 12, 48, 36)
EDGES = "0.5 0.5 0.5 0.5"
LINE = f"0 {EDGES}\n".encode()
NAMES = {"classes.txt": b"cone\n"}
CVAT_BOX = b'<box label="cone" xtl="16" ytl="12" xbr="48" ybr="36"/>'


@dataclass(frozen=True)
class Case:
    """Files, and what is to become of them; `split` where the export names one."""

    files: Files
    boxes: Boxes
    counts: dict[str, int] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ("cone",)


def images(*names: str) -> Files:
    return {name: jpeg(number) for number, name in enumerate(names)}


def numbered(count: int, folder: str = "", letter: str = "p") -> list[str]:
    return [f"{folder}{letter}{number}.jpg" for number in range(count)]


def stem(name: str) -> str:
    return name.rpartition(".")[0]


def all_cones(*names: str) -> Boxes:
    return {name: [CONE] for name in names}


def in_halves(names: list[str]) -> dict[str, str]:
    return {name: T if at < len(names) / 2 else V for at, name in enumerate(names)}


def yolo(names: list[str], line: bytes = LINE, **more: bytes) -> Files:
    """Labels beside pictures."""
    return images(*names) | {f"{stem(name)}.txt": line for name in names} | NAMES | more


def coco(entries: list[tuple[Any, str]], objects: list[dict[str, Any]], *categories: tuple[Any, str]) -> bytes:
    listed = [{"id": own, "file_name": name, "width": WIDTH, "height": HEIGHT} for own, name in entries]
    numbered_objects = [{"id": number, "bbox": [16, 12, 32, 24]} | item for number, item in enumerate(objects)]
    kinds = [{"id": own, "name": name} for own, name in categories or ((1, "cone"),)]
    return json.dumps({"images": listed, "annotations": numbered_objects, "categories": kinds}).encode()


def coco_each(names: list[str], **values: Any) -> bytes:
    """A COCO document with an object in each picture."""
    objects = [{"image_id": number, "category_id": 1} | values for number in range(len(names))]
    return coco(list(enumerate(names)), objects)


def supervisely(count: int, objects: list[Any], folder: str = "robots/ds0") -> tuple[Files, list[str]]:
    names = numbered(count, f"{folder}/img/")
    labels = {f"{folder}/ann/{name.rpartition('/')[2]}.json": annotation(objects) for name in names}
    return {"robots/meta.json": meta("cone")} | images(*names) | labels, names


def oriented() -> dict[str, Any]:
    """A rectangle of 24 × 12 about 32, 24, turned by 30 degrees; its points are a plain list."""
    points = [[20, 18], [44, 30]]
    return {"classTitle": "cone", "geometryType": "oriented_bbox", "points": points, "angle": math.radians(30)}


def turned_box() -> PixelBox:
    cosine, sine = math.cos(math.radians(30)), math.sin(math.radians(30))
    across, down = 12 * cosine + 6 * sine, 12 * sine + 6 * cosine
    left, top, right, bottom = (round(edge, 2) for edge in (32 - across, 24 - down, 32 + across, 24 + down))
    return "cone", left, top, right, bottom


def a1() -> Case:
    files, names = supervisely(4, [oriented()])
    return Case(files, {name: [turned_box()] for name in names}, {"BoxAround": 4})


def a3() -> Case:
    names = numbered(4)
    document = coco_each(names, bbox=[], segmentation=[[16, 12, 48, 12, 48, 36, 20, 36]])
    return Case(images(*names) | {"a.json": document}, all_cones(*names), {"BoxAround": 4})


def a5() -> Case:
    files, names = supervisely(4, [rectangle("cone", 2, 2, 18, 18), oriented()])
    boxes: list[PixelBox] = [("cone", 2, 2, 18, 18), turned_box()]
    return Case(files, dict.fromkeys(names, boxes), {"BoxAround": 4})


def b1() -> Case:
    names = [*numbered(3, "train/images/"), *numbered(3, "valid/images/", "q")]
    labels = {stem(name).replace("images", "labels") + ".txt": LINE.strip() + b" .4 .4 .6 .7\n" for name in names}
    entries = b"train: ../train/images\nval: ../valid/images\nkpt_shape: [2, 2]\nnc: 1\nnames: ['cone']\n"
    counts = {"ColumnUnread": 6}
    return Case(images(*names) | labels | {"data.yaml": entries}, all_cones(*names), counts, in_halves(names))


def b3() -> Case:
    names = numbered(4)
    return Case(yolo(names, LINE.strip() + b" 0.8731\n"), all_cones(*names), {"ColumnUnread": 4})


def c1() -> Case:
    files: Files = {}
    boxes: Boxes = {}
    for folder, classes in (("a", ("cone", "cube", "note")), ("b", ("note", "cone", "cube"))):
        files[f"{folder}/classes.txt"] = "\n".join(classes).encode()
        for number, label in enumerate(classes):
            name = f"{folder}/{folder}{number}.jpg"
            files |= {name: jpeg(len(files)), f"{stem(name)}.txt": f"{number} {EDGES}\n".encode()}
            boxes[name] = [(label, *CONE[1:])]
    return Case(files, boxes, classes=("cone", "cube", "note"))


def c3() -> Case:
    names = numbered(4)
    files = yolo(names, **{"args.yaml": b"task: detect\ndata: data.yaml\n# class names are in data.yaml\n"})
    del files["classes.txt"]
    return Case(files | {"data.yaml": b"names: [cone]\n"}, all_cones(*names), {"FileUnused": 1})


def f1() -> Case:
    names = [*numbered(3, "Train/Images/"), *numbered(3, "Valid/Images/", "q")]
    labels = {stem(name).replace("Images", "Labels") + ".txt": LINE for name in names}
    files = images(*names) | labels | {"data.yaml": b"names: [cone]\n"}
    return Case(files, all_cones(*names), split=in_halves(names))


def f2() -> Case:
    names = [*numbered(3, "another/folder/images/"), *numbered(3, "some/folder/", "q")]
    files = yolo(names) | {"some/classes.txt": b"cone\n"}
    del files["classes.txt"]
    return Case(files, all_cones(*names))


def f3() -> Case:
    names = ["images/Capture décran 0.jpg", "images/Capture décran 1.jpg", "images/q2.jpg", "images/q3.jpg"]
    labels = {f"labels/{quote(stem(name.partition('/')[2]))}.txt": LINE for name in names}
    return Case(images(*names) | labels | NAMES | {"notes.json": b"{}"}, all_cones(*names), {"PictureFoundByStem": 2})


def f5() -> Case:
    names = [f"images/cb0618f{number}-shot_{number}.jpg" for number in range(4)]
    bases = [name.partition("/")[2] for name in names]
    roots = ("images\\4/", "..\\..\\label-studio\\media\\upload\\4\\")
    written = [roots[number % 2] + base for number, base in enumerate(bases)]
    return Case(images(*names) | {"result.json": coco_each(written)}, all_cones(*names))


def rows(names: list[str], *cells: str) -> Files:
    lines = [f"{name},{WIDTH},{HEIGHT},{cell}\n" for name, cell in zip(names, cells, strict=True)]
    return {"labels.csv": (CSV_HEADER + "".join(lines)).encode()}


def f6() -> Case:
    names = numbered(4, "images/")
    table = rows([stem(name).partition("/")[2] for name in names], *["cone,16,12,48,36"] * 4)
    return Case(images(*names) | table, all_cones(*names), {"PictureFoundByStem": 4})


def f8() -> Case:
    names = ["p0.png", *numbered(4)[1:]]
    files = images("p0.jpg", *names[1:]) | {"p0.png": encoded(picture(9), "PNG")}
    files |= {f"{stem(name)}.xml": voc_xml(name, [CONE]) for name in names}
    return Case(files, all_cones(*names), {"AnnotationMissing": 1})


def f10() -> Case:
    names = numbered(4)
    return Case(images(*names) | {f"{stem(n)}.xml.xml": voc_xml(n, [CONE]) for n in names}, all_cones(*names))


def f11() -> Case:
    names = numbered(4)
    files = yolo(names)
    files |= {f"p{number}.xml.txt": files.pop(f"p{number}.txt") for number in (0, 1)}
    return Case(files, all_cones(*names), {"PictureFoundByStem": 2})


def f13() -> Case:
    """Frames of two videos have one name."""
    names = [f"images/{part}/frame_00000{number}.PNG" for part in ("Train", "Validation") for number in (0, 1)]
    files = {name: encoded(picture(number), "PNG") for number, name in enumerate(names)}
    boxes: Boxes = {}
    for part, left in (("Train", 4), ("Validation", 24)):
        frames = ["frame_000000.PNG", "frame_000001.PNG"]
        files[f"annotations/instances_{part}.json"] = coco_each(frames, bbox=[left, 10, 30, 30])
        boxes |= {f"images/{part}/{frame}": [("cone", left, 10, left + 30, 40)] for frame in frames}
    return Case(files, boxes, split=in_halves(names))


def g1() -> Case:
    names = numbered(4)
    line = " ".join(f"{value:.18e}" for value in (0, 0.5, 0.5, 0.5, 0.5)).encode()
    return Case(yolo(names, line), all_cones(*names))


def g2() -> Case:
    names = numbered(4)
    objects = [{"image_id": n, "category_id": "0", "iscrowd": 0.0, "segmentation": None} for n in range(4)]
    document = coco(list(enumerate(names)), objects, (0, "cone"))
    return Case(images(*names) | {"labels.json": document}, all_cones(*names))


def g4() -> Case:
    names = numbered(4)
    table = rows(names, "cone,16,12,48,36", "cone,16,12,48,36", ",,,,", ",,,,")
    return Case(images(*names) | table, all_cones(*names[:2]) | {names[2]: [], names[3]: []})


def g6() -> Case:
    names = numbered(4)
    table = rows(names, *["cone,16,12,48,36"] * 4)["labels.csv"].replace(b",", b";")
    return Case(images(*names) | {"labels.csv": table}, all_cones(*names))


def i1() -> Case:
    names = [*numbered(3, "obj_Train_data/"), *numbered(3, "obj_Validation_data/", "q")]
    lists = {
        "Train.txt": "\n".join(f"data/{name}" for name in names[:3]).encode(),
        "Validation.txt": "\n".join(f"data/{name}" for name in names[3:]).encode(),
        "obj.data": b"classes = 1\ntrain = data/Train.txt\nvalid = data/Validation.txt\nnames = data/obj.names\n",
        "obj.names": b"cone\n",
    }
    files = yolo(names) | lists
    del files["classes.txt"]
    return Case(files, all_cones(*names), split=in_halves(names))


def i3() -> Case:
    names = [f"JPEGImages/my frame {number}.jpg" for number in range(6)]
    bases = [stem(name.partition("/")[2]) for name in names]
    files = images(*names) | {f"Annotations/{base}.xml": voc_xml(f"{base}.jpg", [CONE]) for base in bases}
    for part, listed in (("train", bases[:3]), ("val", bases[3:])):
        files[f"ImageSets/Main/{part}.txt"] = "".join(f'"{base}"\n' for base in listed).encode()
    return Case(files, all_cones(*names), split=in_halves(names))


def j1() -> Case:
    names = numbered(4, "vott-csv-export/")
    lines = "".join(f'"{name.partition("/")[2]}",16.0,12.0,48.0,36.0,"cone"\n' for name in names)
    table = '"image","xmin","ymin","xmax","ymax","label"\n' + lines
    return Case(images(*names) | {"vott-csv-export/export.csv": table.encode()}, all_cones(*names))


def j2() -> Case:
    names = [f"images/frame_00000{number}.PNG" for number in range(4)]
    entries = b"".join(
        b'<image id="%d" name="frame_00000%d" width="64" height="48">%b</image>' % (number, number, CVAT_BOX)
        for number in range(4)
    )
    files = {name: encoded(picture(number), "PNG") for number, name in enumerate(names)}
    files["annotations.xml"] = b"<annotations><version>1.1</version>" + entries + b"</annotations>"
    return Case(files, all_cones(*names))


def k1() -> Case:
    files: Files = {}
    names = [f"{part}/{part}_{number}_jpg.rf.0{number}.jpg" for part in ("train", "valid") for number in range(3)]
    for part in ("train", "valid"):
        own = [name.partition("/")[2] for name in names if name.startswith(part)]
        objects = [{"image_id": number, "category_id": 1} for number in (0, 1)]
        files[f"{part}/_annotations.coco.json"] = coco(list(enumerate(own)), objects, (0, "reef"), (1, "cone"))
    boxes: Boxes = {name: [] if "_2_" in name else [CONE] for name in names}
    return Case(images(*names) | files, boxes, split=in_halves(names))


def k2() -> Case:
    """Telephones store pictures on their side; shares of the picture are those of the upright one."""
    names = numbered(4, "images/")
    side = picture(1).getexif()
    side[0x0112] = 6
    files = {name: encoded(picture(number), "JPEG", exif=side) for number, name in enumerate(names)}
    files |= {f"labels/p{number}.txt": b"0 .25 .25 .75 .25 .75 .75 .25 .75\n" for number in range(4)}
    upright: PixelBox = ("cone", HEIGHT / 4, WIDTH / 4, HEIGHT * 3 / 4, WIDTH * 3 / 4)
    return Case(files | NAMES, {name: [upright] for name in names}, {"BoxAround": 4})


def k4() -> Case:
    files: Files = {"robots/meta.json": meta("cone")}
    boxes: Boxes = {}
    for folder in ("2024-03-01T12:30:00", "Spielfeld Ü"):
        for name in ("12:30:00 ü.jpg", "12:30:01 ü.jpg"):
            files[f"robots/{folder}/img/{name}"] = jpeg(len(files))
            files[f"robots/{folder}/ann/{name}.json"] = annotation([rectangle(*CONE)])
            boxes[f"robots/{folder}/img/{name}"] = [CONE]
    return Case(files, boxes)


CASES = {
    "A1-sly-oriented-bbox": a1,
    "A3-coco-empty-bbox": a3,
    "A5-sly-half-the-objects": a5,
    "B1-yolo-pose-2d": b1,
    "B3-yolo-confidence": b3,
    "C1-two-classes-txt": c1,
    "C3-yaml-that-is-none": c3,
    "F1-yolo-capital-folders": f1,
    "F2-yolo-labels-in-images": f2,
    "F3-ls-percent-labels": f3,
    "F5-ls-coco-windows": f5,
    "F6-csv-no-suffix": f6,
    "F8-voc-same-stem": f8,
    "F10-voc-xml-xml": f10,
    "F11-yolo-xml-txt": f11,
    "F13-cvat-coco-subset-folders": f13,
    "G1-yolo-float-class": g1,
    "G2-coco-string-category": g2,
    "G4-csv-negative-rows": g4,
    "G6-csv-semicolons": g6,
    "I1-cvat-yolo-subsets": i1,
    "I3-voc-lists-with-blanks": i3,
    "J1-vott-csv": j1,
    "J2-cvat-for-images": j2,
    "K1-roboflow-group": k1,
    "K2-yolo-exif": k2,
    "K4-sly-names": k4,
}


@pytest.mark.parametrize("name", CASES)
def test_reported(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    result = read_back(case.files, tmp_path)
    assert result.boxes == case.boxes
    assert result.counts == case.counts
    assert result.classes == case.classes
    if case.split:
        assert result.split == case.split
    else:
        assert set(result.split.values()) == {T, V}
