"""Faults D13, D17, D19, D20: names, digests and contents of archives, through the stage's own main."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from atoll_contract.errors import ExitCode, Reason
from atoll_stages.convert.tfrecord import write_records
from support.archives import (
    TAR_END,
    jpeg,
    packed,
    supervisely,
    tar_member,
)
from support.convert_stage import ConvertStage

GOOD = supervisely(4)


def test_D13_name_that_is_not_utf8(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", tar_member(b"img/caf\xe9.jpg", jpeg()) + TAR_END).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert 'member 1 "img/caf\\xe9.jpg": the name is not UTF-8' in ended.message


@pytest.mark.parametrize(
    "second", [b"IMG_1.jpg", b"img_1.JPG", "I\u0307MG_1.jpg".encode()], ids=["same", "other case", "other mark"]
)
def test_D13_duplicate_names(stage: ConvertStage, second: bytes) -> None:
    first = b"IMG_1.jpg" if b"\xcc" not in second else "\u0130MG_1.jpg".encode()
    ended = stage.put("x.tar", tar_member(first, jpeg()) + tar_member(second, jpeg()) + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "duplicate member" in ended.message
    assert "(2 times: member 1" in ended.message


def test_D17_digest_of_another_archive(stage: ConvertStage) -> None:
    bomb = tar_member(b"../x", b"would be DatasetUnsafe, were it looked at") + TAR_END
    ended = stage.put("x.tar", bomb, digest="sha256:" + "0" * 64).run_process()
    assert (ended.code, ended.reason) == (ExitCode.INTEGRITY_MISMATCH, Reason.INTEGRITY_MISMATCH)
    assert "0" * 64 in ended.message
    assert hashlib.sha256(bomb).hexdigest() in ended.message


def test_D17_right_digest(stage: ConvertStage) -> None:
    data = packed(GOOD, ".tar")
    ended = stage.put("x.tar", data, digest="sha256:" + hashlib.sha256(data).hexdigest()).run()
    assert ended.code == ExitCode.OK


def _records(tmp_path: Path) -> bytes:
    path = tmp_path / "records"
    with path.open("wb") as file:
        write_records(file, [b"a" * 100, b"b" * 100, b"c" * 100])
    data = path.read_bytes()
    path.unlink()
    return data


def test_D19_record_with_wrong_crc(stage: ConvertStage) -> None:
    data = bytearray(_records(stage.root))
    data[250] ^= 1
    ended = stage.put("x.tar", packed({"train.tfrecord": bytes(data)}, ".tar")).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert '"train.tfrecord": record 2 CRC mismatch' in ended.message


def test_D19_whole_records_are_no_input_either(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed({"train.tfrecord": _records(stage.root)}, ".tar")).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "holds 3 TFRecords" in ended.message


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, ("touch stolen",)


def test_D20_pickles_in_an_export_are_never_loaded(stage: ConvertStage) -> None:
    hostile = {"game/blob/files_offsets.pkl": pickle.dumps(_Bomb()), "game/model.keras": pickle.dumps(_Bomb())}
    ended = stage.put("x.tar", packed({**GOOD, **hostile}, ".tar")).run_process()
    assert ended.code == ExitCode.OK
