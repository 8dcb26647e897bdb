"""labelme and CreateML: each object with its box, whatever shape it was drawn as."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.archives import SIZE, jpeg, packed
from support.convert_stage import ConvertStage, Ended
from support.converted_pictures import PixelBox, pictures_of, warnings_of

BOX: PixelBox = ("cone", 8, 12, 40, 36)


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    return ConvertStage(tmp_path)


def shape(kind: str | None, *points: tuple[float, float], label: Any = "cone") -> dict[str, Any]:
    found = {"label": label, "points": [list(point) for point in points], "group_id": None, "flags": {}}
    return found if kind is None else {**found, "shape_type": kind}


RECTANGLE = shape("rectangle", (8, 12), (40, 36))


def labelme(name: str, *shapes: dict[str, Any], **more: Any) -> bytes:
    document: dict[str, Any] = {
        "version": "5.3.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": name,
        "imageData": None,
    }
    return json.dumps({**document, "imageHeight": SIZE[1], "imageWidth": SIZE[0], **more}).encode()


def convert(stage: ConvertStage, files: dict[str, bytes], **options: Any) -> Ended:
    return stage.put("x.zip", packed(files, ".zip")).run(**options)


def images(count: int, folder: str = "") -> dict[str, bytes]:
    return {f"{folder}img{number}.jpg": jpeg(number) for number in range(count)}


def beside(label: bytes) -> dict[str, bytes]:
    """Two pictures: `label` is the annotation of the first, the second has the usual box."""
    return {**images(2), "img0.json": label, "img1.json": labelme("img1.jpg", RECTANGLE)}


def test_j3_a_json_beside_each_picture(stage: ConvertStage) -> None:
    labels = {f"img{number}.json": labelme(f"img{number}.jpg", RECTANGLE) for number in range(4)}
    ended = convert(stage, {**images(4), **labels})
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == {}
    assert ended.dataset().sources[0].format == "labelme"


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        (b"__ignore__\n_background_\ncone\n", {}),
        (b"img0 8 12 40 36\n", {"FileUnused": 1}),
        (b"\xff\xfe\xfd", {"FileUnused": 1}),
    ],
)
def test_j3_the_list_that_labelme_offers_is_no_lost_label_file(
    stage: ConvertStage, text: bytes, unused: dict[str, int]
) -> None:
    labels = {f"img{number}.json": labelme(f"img{number}.jpg", RECTANGLE) for number in range(4)}
    ended = convert(stage, {**images(4), **labels, "labels.txt": text, "flags.txt": b"done\n"})
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == unused


@pytest.mark.parametrize("path", ["..\\imgs\\img0.jpg", "../imgs/img0.jpg", "C:\\Users\\me\\imgs\\img0.jpg", None])
def test_j3_pictures_in_a_folder_of_their_own(stage: ConvertStage, path: Any) -> None:
    labels = {"labels/img0.json": labelme(path, RECTANGLE), "labels/img1.json": labelme("img1.jpg", RECTANGLE)}
    ended = convert(stage, {**images(2, "imgs/"), **labels})
    assert pictures_of(ended) == {name: [BOX] for name in images(2)}


@pytest.mark.parametrize(
    "drawn",
    [
        shape("rectangle", (40, 36), (8, 12)),
        shape("rectangle", (8, 12), (40, 12), (40, 36), (8, 36)),
        shape(None, (8, 12), (40, 12), (40, 36)),
        shape("polygon", (8, 20), (20, 12), (40, 20), (20, 36)),
        shape("rotation", (8, 20), (20, 12), (40, 20), (20, 36)),
        shape("mask", (8, 12), (40, 36)),
    ],
    ids=["backwards", "four corners", "old polygon", "polygon", "rotation", "mask"],
)
def test_j3_the_box_around_every_shape(stage: ConvertStage, drawn: dict[str, Any]) -> None:
    ended = convert(stage, beside(labelme("img0.jpg", drawn)))
    assert pictures_of(ended) == {"img0.jpg": [BOX], "img1.jpg": [BOX]}
    assert warnings_of(ended) == ({} if drawn.get("shape_type") == "rectangle" else {"BoxAround": 1})


def test_j3_a_circle_is_its_centre_and_a_point_on_it(stage: ConvertStage) -> None:
    ended = convert(stage, beside(labelme("img0.jpg", shape("circle", (24, 24), (30, 32)))))
    assert pictures_of(ended) == {"img0.jpg": [("cone", 14, 14, 34, 34)], "img1.jpg": [BOX]}
    assert warnings_of(ended) == {"BoxAround": 1}


def test_j3_what_has_no_area_or_no_label_is_counted(stage: ConvertStage) -> None:
    drawn = [
        RECTANGLE,
        shape("point", (5, 5)),
        shape("linestrip", (5, 5), (9, 9)),
        shape("cuboid", (1, 1)),
        shape("rectangle", (1, 1), (9, 9), label=None),
        shape("circle", (1, 1)),
    ]
    ended = convert(stage, beside(labelme("img0.jpg", *drawn)), max_invalid_percent=100.0)
    assert pictures_of(ended) == {"img0.jpg": [BOX], "img1.jpg": [BOX]}
    assert warnings_of(ended) == {"GeometryWithoutArea": 2, "GeometryUnknown": 1, "BoxMalformed": 2}


def test_j3_no_shapes_is_a_negative_and_a_lost_picture_is_counted(stage: ConvertStage) -> None:
    ended = convert(stage, {**beside(labelme("img0.jpg")), "lost.json": labelme("lost.jpg", RECTANGLE)})
    assert pictures_of(ended) == {"img0.jpg": [], "img1.jpg": [BOX]}
    assert warnings_of(ended) == {"PictureMissing": 1}


def test_j3_the_picture_inside_the_json_does_not_hide_the_rest(stage: ConvertStage) -> None:
    inside = base64.b64encode(random.Random(1).randbytes(2_000_000)).decode()
    document = {"imageData": inside, "version": "4.5", "shapes": [RECTANGLE], "imagePath": "img0.jpg"}
    ended = convert(stage, beside(json.dumps(document).encode()))
    assert pictures_of(ended) == {"img0.jpg": [BOX], "img1.jpg": [BOX]}


def test_j3_a_damaged_file_is_named(stage: ConvertStage) -> None:
    labels = {f"img{number}.json": labelme(f"img{number}.jpg", RECTANGLE) for number in range(3)}
    labels["img1.json"] = labels["img1.json"][:-9]
    ended = convert(stage, {**images(3), **labels}, max_invalid_percent=50.0)
    assert pictures_of(ended) == {"img0.jpg": [BOX], "img2.jpg": [BOX]}
    assert warnings_of(ended) == {"AnnotationUnreadable": 1, "AnnotationMissing": 1}


def createml(names: list[str], *, key: str = "image", label: Any = "cone") -> bytes:
    coordinates = {"x": 24, "y": 24, "width": 32, "height": 24}
    objects = [{"label": label, "coordinates": coordinates}]
    return json.dumps([{key: name, "annotations": objects} for name in names]).encode()


@pytest.mark.parametrize("key", ["image", "imagefilename"])
def test_j4_createml(stage: ConvertStage, key: str) -> None:
    files = {**images(3), "annotations.json": createml(sorted(images(3)), key=key)}
    ended = convert(stage, files)
    assert pictures_of(ended) == {name: [BOX] for name in images(3)}
    assert warnings_of(ended) == {}
    assert ended.dataset().sources[0].format == "createml"


def test_j4_createml_of_roboflow_keeps_its_split(stage: ConvertStage) -> None:
    files: dict[str, bytes] = {}
    for part, first in (("train", 0), ("valid", 6)):
        names = [f"p{number}.jpg" for number in range(first, first + 6)]
        files |= {f"{part}/{name}": jpeg(int(name[1:-4])) for name in names}
        files[f"{part}/_annotations.createml.json"] = createml(names)
    ended = convert(stage, files)
    assert pictures_of(ended) == {f"p{number}.jpg": [BOX] for number in range(12)}
    splits = ended.dataset().splits
    assert {name: part.pictures for name, part in splits.items() if part.pictures} == {"train": 6, "validation": 6}


def test_j4_createml_with_faults(stage: ConvertStage) -> None:
    good = json.loads(createml(["img0.jpg"]))
    bad = [{"label": "cone"}, {"coordinates": {"x": 1, "y": 1, "width": 2, "height": 2}}, "cone"]
    bad.append({"label": "cone", "coordinates": {"x": 1, "y": 1, "width": 2}})
    more = [{"image": "img1.jpg", "annotations": bad}, {"image": "lost.jpg", "annotations": bad}]
    files = {**images(2), "a.json": json.dumps([*good, *more]).encode()}
    ended = convert(stage, files, max_invalid_percent=100.0)
    assert pictures_of(ended) == {"img0.jpg": [BOX], "img1.jpg": []}
    assert warnings_of(ended) == {"BoxMalformed": 4, "PictureMissing": 1}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([{"image": 5, "annotations": [{"coordinates": {}}]}], "[0] needs the name of an image"),
        ([{"image": "img0.jpg", "annotation_id": {"coordinates": {}}}], "and a list of annotations"),
        (["image", "annotations", "coordinates"], "[0] must be an object, not a string"),
    ],
)
def test_j4_a_list_that_is_none_is_named(stage: ConvertStage, document: Any, words: str) -> None:
    ended = convert(stage, {**images(1), "a.json": json.dumps(document).encode()})
    assert ended.code == 14
    assert words in ended.message
