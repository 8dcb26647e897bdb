"""Faults D12, D14–D16, D18: classes, parts and documents that are hostile or missing, through the stage's own main."""

import json

import pytest

from atoll_contract.convert_spec import DatasetLimits, Split, SplitBy
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.labelmap import parse_label_map
from support.archives import (
    annotation,
    jpeg,
    meta,
    packed,
    rectangle,
    supervisely,
    voc,
)
from support.convert_stage import ConvertStage

GOOD = supervisely(10)


def test_D12_no_box_of_any_class(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(GOOD, ".tar")).run_process(classes=("cube",))
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "no box is left of any class in 10 pictures (ignored: 10 of 'note')" in ended.message


def test_D12_empty_class_list_and_no_objects(stage: ConvertStage) -> None:
    files = {name: annotation() if "/ann/" in name else data for name, data in GOOD.items()}
    ended = stage.put("x.tar", packed({**files, "game/meta.json": meta()}, ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "none was annotated" in ended.message


def test_D12_unused_class_is_a_warning(stage: ConvertStage) -> None:
    files = {**GOOD, "game/meta.json": meta("cube", "note", "background", "note")}
    dataset = stage.put("x.tar", packed(files, ".tar")).run().dataset()
    assert dataset.class_names == ("note",)
    assert 'class "cube" has no boxes; it is left out of the label map' in dataset.warnings


def test_D12_class_that_only_validation_has(stage: ConvertStage) -> None:
    files = supervisely(4, datasets=("train", "val"))
    name = "game/val/ann/frame_01000.jpg.json"
    files[name] = annotation([rectangle("cube", 4, 5, 34, 40), rectangle("note", 4, 5, 34, 40)])
    dataset = stage.put("x.tar", packed(files, ".tar")).run().dataset()
    assert 'class "cube" has boxes, but none in train' in dataset.warnings


def test_D12_more_classes_than_allowed(stage: ConvertStage) -> None:
    files = {**GOOD, "game/meta.json": meta(*(f"c{number}" for number in range(30)))}
    ended = stage.put("x.tar", packed(files, ".tar")).run(limits=DatasetLimits(classes=20))
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert '"game/meta.json" has more than 20 classes' in ended.message


# D14: parts that would be empty.


def test_D14_one_picture(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(supervisely(1), ".tar")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "train split is empty (1 usable picture, split by hash 80/20/0)" in ended.message


@pytest.mark.parametrize("count", [2, 3, 10, 29, 30, 51])
def test_D14_no_part_is_empty(stage: ConvertStage, count: int) -> None:
    dataset = stage.put("x.tar", packed(supervisely(count), ".tar")).run().dataset()
    pictures = {part: item.pictures for part, item in dataset.splits.items()}
    assert set(pictures) == {"train", "validation"}
    assert min(pictures.values()) >= 1
    assert pictures["train"] >= pictures["validation"]


def test_D14_two_pictures_cannot_make_three_parts(stage: ConvertStage) -> None:
    split = Split(train=60, validation=20, test=20)
    ended = stage.put("x.tar", packed(supervisely(2), ".tar")).run(split=split)
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "split is empty (2 usable pictures" in ended.message


def test_D14_split_by_tags_that_nobody_set(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(GOOD, ".tar")).run(split=Split(by=SplitBy.TAGS))
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "split by tags: no picture has one of train," in ended.message


# D15: the same picture on both sides.


def test_D15_same_picture_in_train_and_validation(stage: ConvertStage) -> None:
    files = supervisely(5, datasets=("train", "val"))
    files["game/val/img/frame_01002.jpg"] = files["game/train/img/frame_00001.jpg"]
    ended = stage.put("x.tar", packed(files, ".tar")).run_process()
    assert ended.code == ExitCode.OK
    dataset = ended.dataset()
    assert dataset.problem_counts["SplitLeakage"] == 1
    leak = next(p for p in dataset.problems if p.kind == "SplitLeakage")
    assert leak.file == "game/val/img/frame_01002.jpg"
    assert leak.detail == 'in validation, and as "game/train/img/frame_00001.jpg" in train'
    assert any("1 picture in two parts of the split" in warning for warning in dataset.warnings)


# D16: class names that want out.

HOSTILE = ["../../x", "=1+1", "{{ evil }}", "$(touch stolen)", '"quoted" item }', "🤖 robot", "👩\u200d🚀", "名前"]
CONTROLS = ["\x1b]0;PWNED\x07", "new\nline", "a\0b", "a\x85b", "c1\x9b31m", "\u202egnp.exe", "a\u2028b", "a\u2066b"]


def test_D16_hostile_class_names_are_data(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(supervisely(6, labels=HOSTILE), ".tar")).run_process()
    assert ended.code == ExitCode.OK
    dataset = ended.dataset()
    assert list(dataset.class_names) == HOSTILE
    text = (ended.store / dataset.label_map.key).read_text()
    assert [label.name for label in parse_label_map(text)] == HOSTILE
    assert len(text.splitlines()) == 8 * len(HOSTILE)


@pytest.mark.parametrize("name", CONTROLS)
def test_D16_control_characters_in_a_class_name_are_refused(stage: ConvertStage, name: str) -> None:
    ended = stage.put("x.tar", packed(supervisely(4, labels=[name]), ".tar")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    escaped = name.encode("unicode_escape").decode()
    assert ended.message.startswith(f'x.tar: class name "{escaped}" has the control character U+')
    assert "rename the class in the labelling tool" in ended.message
    assert name not in ended.output


def test_D16_endless_class_name(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(supervisely(4, labels=["x" * 10_240]), ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert ended.message.startswith('x.tar: class name "xxx')
    assert "of 10240 characters; allowed are 1 to 128" in ended.message


def test_D16_class_name_of_blanks(stage: ConvertStage) -> None:
    files = {**GOOD, "game/ds0/ann/frame_00003.jpg.json": annotation([rectangle("  ", 4, 5, 34, 40)])}
    ended = stage.put("x.tar", packed(files, ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert 'x.tar: "game/ds0/ann/frame_00003.jpg.json" object 0: class name ""' in ended.message


# D18: XML that reads more than itself.

XXE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'
LAUGHS = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize("data", [LAUGHS, b'<!DOCTYPE annotation SYSTEM "http://x/y.dtd"><annotation/>'])
def test_D18_document_type_in_xml(stage: ConvertStage, data: bytes) -> None:
    ended = stage.put("x.zip", packed({**voc(), "Annotations/p0003.xml": data}, ".zip")).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'DTD not allowed in "Annotations/p0003.xml"' in ended.message


def test_D18_external_entity(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", packed({**voc(), "Annotations/p0003.xml": XXE}, ".zip")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'DTD not allowed in "Annotations/p0003.xml"' in ended.message


def test_D9_yaml_that_grows(stage: ConvertStage) -> None:
    bomb = b"a: &a [x,x]\nb: &b [*a,*a]\nnames: *b\n"
    files = {"data.yaml": bomb, "images/a.jpg": jpeg(), "labels/a.txt": json.dumps(0).encode()}
    ended = stage.put("x.zip", packed(files, ".zip")).run()
    assert (ended.code, ended.reason) == (ExitCode.ANNOTATION_INVALID, Reason.ANNOTATION_INVALID)
    assert '"data.yaml" line 2 col 8: aliases are not allowed' in ended.message
