"""Faults D7–D11: pictures and labels that are hostile or broken, through the stage's own main."""

from typing import Any

import pytest

from atoll_contract.errors import ExitCode, Reason
from support.archives import (
    annotation,
    coco,
    encoded,
    jpeg,
    packed,
    picture,
    png_header,
    rectangle,
    supervisely,
    voc,
    voc_xml,
)
from support.convert_stage import ConvertStage

GOOD = supervisely(10)
IMG, ANN = "game/ds0/img/", "game/ds0/ann/"


def with_picture(name: str, data: bytes, *objects: Any, size: tuple[int, int] | None = None) -> dict[str, bytes]:
    """The good export and one more picture."""
    return {**GOOD, IMG + name: data, f"{ANN}{name}.json": annotation(objects, size=size)}


def with_annotation(data: bytes) -> dict[str, bytes]:
    """The good export, its first annotation replaced."""
    return {**GOOD, f"{ANN}frame_00000.jpg.json": data}


# D7: pictures that cost more than they show.


def test_D7_picture_bomb(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(with_picture("a.png", png_header(50_000, 50_000)), ".tar")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert '"game/ds0/img/a.png" is 50000×50000 (2,500 Mpx), limit 64 Mpx' in ended.message


def test_D7_picture_beyond_a_side(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(with_picture("a.png", png_header(20_000, 2)), ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert "and 16384 per side" in ended.message


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", encoded(picture(1), "PNG", save_all=True, append_images=[picture(2)]), "an animation of 2 frames"),
        ("a.webp", encoded(picture(1), "WEBP", save_all=True, append_images=[picture(2)]), "an animation of 2 frames"),
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(600), "it is HEIC, the iPhone's own kind"),
        ("a.png", png_header(0, 0), "no readable JPEG, PNG, WebP"),
        ("a.jpg", b"", "no readable JPEG, PNG, WebP"),
    ],
    ids=["apng", "webp", "heic", "0x0", "empty"],
)
def test_D7_picture_of_a_kind_that_is_not_taken(stage: ConvertStage, name: str, data: bytes, expected: str) -> None:
    ended = stage.put("x.tar", packed(with_picture(name, data), ".tar")).run(max_invalid_percent=50.0)
    assert ended.code == ExitCode.OK
    problem = next(p for p in ended.dataset().problems if p.kind == "PictureUnreadable")
    assert problem.file == IMG + name
    assert expected in problem.detail


# D8: pictures that cannot be read.


def test_D8_unreadable_pictures_beyond_the_limit(stage: ConvertStage) -> None:
    files = {**GOOD, IMG + "frame_00003.jpg": jpeg(3)[:400], IMG + "frame_00004.jpg": b"not a picture"}
    ended = stage.put("x.tar", packed(files, ".tar")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "2 of 10 pictures unreadable (20.0 %, limit 1 %); first: " in ended.message
    assert f'"{IMG}frame_00003.jpg": PictureUnreadable' in ended.message


def test_D8_unreadable_pictures_within_the_limit(stage: ConvertStage) -> None:
    files = {**GOOD, IMG + "frame_00003.jpg": jpeg(3)[:400]}
    ended = stage.put("x.tar", packed(files, ".tar")).run(max_invalid_percent=10.0)
    assert ended.code == ExitCode.OK
    dataset = ended.dataset()
    assert dataset.problem_counts["PictureUnreadable"] == 1
    assert sum(part.pictures for part in dataset.splits.values()) == 9


# D9: JSON that is none, or not strictly.

DEEP = b'{"objects": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<html>", "line 1 col 1: Expecting value"),
        (b"[]", "line 1 col 1: the root must be an object, not a list"),
        (b"{}", 'has no key "objects"'),
        (b'{"objects": {}}', 'key "objects" must be a list, not an object'),
        (b'{\n "objects": [],\n "objects": []}', 'line 3 col 2: duplicate key "objects"'),
        (b'{"a": NaN, "objects": []}', "line 1 col 7: NaN is not a number"),
        (b'{"a": -Infinity}', "line 1 col 7: -Infinity is not a number"),
        (b'{"a": 1e999}', 'line 1 col 7: "1e999" is not a finite number'),
        (DEEP, "line 1 col 44: nested more than 32 levels deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1 col 7: a number of 5000 digits, limit 20"),
        (b'{"a": "\xff"}', "byte 7: not UTF-8"),
    ],
    ids=["html", "root", "missing", "type", "duplicate", "NaN", "-Infinity", "1e999", "depth", "digits", "utf-8"],
)
def test_D9_annotation_that_is_not_strict_json(stage: ConvertStage, data: bytes, expected: str) -> None:
    ended = stage.put("x.tar", packed(with_annotation(data), ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert f"{ANN}frame_00000.jpg.json" in ended.message
    assert expected.replace('"', '\\"') in ended.message or expected in ended.message


def test_D9_nan_in_the_one_file_of_a_dataset(stage: ConvertStage) -> None:
    files = {**coco(), "_annotations.coco.json": b'{"images": NaN, "annotations": [], "categories": []}'}
    ended = stage.put("x.zip", packed(files, ".zip")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert ended.message == 'x.zip: "_annotations.coco.json" line 1 col 12: NaN is not a number'


# D10: boxes that are none.


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((70, 5, 90, 40), "BoxOutside"),
        ((5, 5, 5, 40), "BoxEmpty"),
        (("four", 5, 34, 40), "BoxMalformed"),
        ((0.1, 0.1, 0.5, 0.6), "BoxNormalised"),
        ((None, 5, 34, 40), "BoxMalformed"),
        ((True, 5, 34, 40), "BoxMalformed"),
    ],
)
def test_D10_box_that_is_none(stage: ConvertStage, box: tuple[Any, ...], kind: str) -> None:
    data = annotation([rectangle("note", 4, 5, 34, 40), *[rectangle("note", *box)] * 5])
    ended = stage.put("x.tar", packed(with_annotation(data), ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert "5 of 15 boxes invalid (33.3 %, limit 1 %); first: " in ended.message
    assert f'"{ANN}frame_00000.jpg.json" object 1: {kind}' in ended.message


def test_D10_inverted_box(stage: ConvertStage) -> None:
    files = {**voc(), "Annotations/p0003.xml": voc_xml("p0003.jpg", [("note", 34, 5, 4, 40)] * 5)}
    ended = stage.put("x.zip", packed(files, ".zip")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert '"Annotations/p0003.xml" object 0: BoxInverted [34, 5, 4, 40] in 64×48' in ended.message


def test_D10_not_finite_in_xml(stage: ConvertStage) -> None:
    files = {**voc(), "Annotations/p0003.xml": voc_xml("p0003.jpg", [("note", float("nan"), 5, float("inf"), 40)] * 5)}
    ended = stage.put("x.zip", packed(files, ".zip")).run()
    assert ended.reason is Reason.ANNOTATION_INVALID
    assert "is not a finite number" in ended.message


def test_D10_box_across_the_border_is_clipped_and_counted(stage: ConvertStage) -> None:
    data = annotation([rectangle("note", -12, 4, 90, 61)])
    ended = stage.put("x.tar", packed(with_annotation(data), ".tar")).run()
    assert ended.code == ExitCode.OK
    problem = next(p for p in ended.dataset().problems if p.kind == "BoxClipped")
    assert (problem.file, problem.object) == (f"{ANN}frame_00000.jpg.json", 0)
    assert (problem.action, problem.detail) == ("clipped", "[-12, 4, 90, 61] in 64×48")
    assert ended.result.summary["classes"] == [{"name": "note", "boxes": 10}]


# D11: annotations and pictures without each other.


def test_D11_annotation_without_picture_and_picture_without_annotation(stage: ConvertStage) -> None:
    files = dict(GOOD)
    del files[IMG + "frame_00001.jpg"]
    del files[ANN + "frame_00002.jpg.json"]
    ended = stage.put("x.tar", packed(files, ".tar")).run_process()
    assert ended.code == ExitCode.OK
    dataset = ended.dataset()
    assert dataset.problem_counts == {"AnnotationMissing": 1, "PictureMissing": 1}
    assert [(p.kind, p.file, p.action) for p in dataset.problems] == [
        ("PictureMissing", ANN + "frame_00001.jpg.json", "skipped"),
        ("AnnotationMissing", IMG + "frame_00002.jpg", "skipped"),
    ]
    assert ended.result.summary["problems"] == 2
    assert ended.result.summary["pictures"] == 8


def test_D11_annotation_without_objects_is_a_negative(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(with_annotation(annotation()), ".tar")).run()
    assert ended.result.summary["negatives"] == 1
    assert ended.result.summary["pictures"] == 10
