"""Faults D1–D6: archives that are hostile or broken, through the stage's own main.

The first of each id runs the stage's own process; `ConvertStage` asserts for each of them: a result, no traceback,
nothing written outside the scratch folder.
"""

import os

import pytest

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import ExitCode, Reason
from support.archives import (
    TAR_END,
    gzip_bytes,
    packed,
    pax_member,
    supervisely,
    tar_bytes,
    tar_header,
    tar_member,
    zip_bytes,
)
from support.convert_stage import ConvertStage

GOOD = supervisely(4)


def test_D1_parent_path_member(stage: ConvertStage) -> None:
    members = b"".join(tar_member(f"game/{number}.txt".encode(), b"x") for number in range(16))
    ended = stage.put("x.tar", members + tar_member(b"../../etc/passwd", b"evil") + TAR_END).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert ended.message == 'x.tar: member 17 "../../etc/passwd": path leaves the archive'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"/abs/x.txt", 'member 1 "/abs/x.txt": absolute path'),
        (b"C:\\x.txt", 'member 1 "C:\\\\x.txt": path with a drive letter'),
        (b"a\\..\\..\\x.txt", "backslash in the path"),
        (b"a/../../x.txt", "path leaves the archive"),
    ],
)
def test_D1_other_paths_that_lead_outside(stage: ConvertStage, name: bytes, expected: str) -> None:
    ended = stage.put("x.tar", tar_member(name, b"evil") + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert expected in ended.message


def test_D1_nul_in_name(stage: ConvertStage) -> None:
    member = pax_member({"path": b"a.txt\0.jpg"}) + tar_member(b"a", b"evil")
    ended = stage.put("x.tar", member + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert ended.message == 'x.tar: member 1 "a.txt\\x00.jpg": NUL in the name'


def test_D1_parent_path_in_zip(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", zip_bytes({"ok.txt": b"1", "../../x.txt": b"evil"})).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'member 2 "../../x.txt": path leaves the archive' in ended.message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"2", "symbolic link"),
        (b"1", "hard link"),
        (b"3", "character device"),
        (b"4", "block device"),
        (b"6", "FIFO"),
        (b"S", "sparse file"),
    ],
)
def test_D2_member_that_is_no_regular_file(stage: ConvertStage, kind: bytes, expected: str) -> None:
    ended = stage.put("x.tar", tar_header(b"img/link", kind=kind, link=b"/etc/passwd") + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert f'member 1 "img/link": {expected}' in ended.message


def test_D2_symbolic_link_in_zip(stage: ConvertStage) -> None:
    data = bytearray(zip_bytes({"img/link": b"/etc/passwd"}))
    at = data.index(b"PK\x01\x02")
    data[at + 5] = 3
    data[at + 38 : at + 42] = (0o120777 << 16).to_bytes(4, "little")
    ended = stage.put("x.zip", bytes(data)).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'member 1 "img/link": symbolic link' in ended.message


def test_D2_sparse_file_by_pax_header(stage: ConvertStage) -> None:
    member = pax_member({"GNU.sparse.major": b"1"}) + tar_member(b"a.jpg", b"x")
    ended = stage.put("x.tar", member + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert "member 1: sparse file" in ended.message


def test_D3_link_chain_that_outgrows_the_path_limit(stage: ConvertStage) -> None:
    """CVE-2025-4517: a chain of links so long that realpath() gives up and a later member is written through it."""
    long_part = b"d" * 90
    chain, folder = b"", b""
    for letter in b"abcdefghijklmnop":
        folder += long_part + b"/"
        chain += pax_member({"path": folder}) + tar_header(b"d", kind=b"5")
        link = bytes([letter])
        chain += pax_member({"path": link, "linkpath": long_part}) + tar_header(link, kind=b"2", link=long_part)
    target = str(stage.root / "stolen").encode()
    chain += pax_member({"path": b"escape", "linkpath": b"../" * 16 + target}) + tar_header(b"escape", kind=b"2")
    chain += tar_header(b"flaglink", kind=b"1", link=b"escape/flag") + tar_member(b"flaglink", b"evil")
    ended = stage.put("x.tar", chain + TAR_END).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'member 2 "a": symbolic link' in ended.message
    assert not (stage.root / "stolen").exists()


def test_D3_negative_size(stage: ConvertStage) -> None:
    """CVE-2025-8194: a negative size sends the reader back to the same header for ever."""
    header = tar_header(b"a.jpg", size_field=b"\xff" * 11 + b"\x00")
    ended = stage.put("x.tar", header + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert "member 1: negative or absurd size" in ended.message


def test_D4_gzip_bomb(stage: ConvertStage) -> None:
    zeros = bytes(64 * 2**20)
    bomb = gzip_bytes(tar_member(b"game/a.jpg", zeros) + TAR_END)
    ended = stage.put("x.tar.gz", bomb).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert 'at member 1 "game/a.jpg", limit 100:1' in ended.message


def test_D4_zip_bomb(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", zip_bytes({"game/a.jpg": bytes(8 * 2**20)})).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert 'at member 1 "game/a.jpg", limit 100:1' in ended.message


def test_D4_expanded_past_the_limit(stage: ConvertStage) -> None:
    data = gzip_bytes(tar_bytes({f"{number}.bin": os.urandom(2**20) for number in range(4)}))
    ended = stage.put("x.tar.gz", data).run(limits=DatasetLimits(expanded_bytes=3 * 2**20))
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert 'expanded past 3 MiB (ratio 0:1) at member 3 "2.bin"' in ended.message or "at member 4" in ended.message


def test_D4_member_past_the_limit(stage: ConvertStage) -> None:
    header = tar_header(b"film.mp4", size=300 * 2**20)
    ended = stage.put("x.tar", header + TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert 'member 1 "film.mp4" has 300 MiB, limit 256 MiB' in ended.message


def test_D4_archive_past_the_limit_is_not_even_fetched(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(GOOD, ".tar")).run(limits=DatasetLimits(archive_bytes=4096))
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert "datasets/team/x.tar has" in ended.message


def test_D4_pax_header_bomb(stage: ConvertStage) -> None:
    bomb = gzip_bytes(pax_member({"comment": bytes(32 * 2**20)}) + tar_member(b"a", b"x") + TAR_END)
    ended = stage.put("x.tar.gz", bomb).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert "header of 3355" in ended.message
    assert "at member 1, limit 65536" in ended.message


def test_D4_nested_archives_are_left_shut(stage: ConvertStage) -> None:
    inner = {"game/blob/inner.zip": zip_bytes({"../x": b"evil"}), "game/blob/inner.tar.gz": b"\x1f\x8bnot really"}
    ended = stage.put("x.tar", packed({**GOOD, **inner}, ".tar")).run()
    assert ended.code == ExitCode.OK


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_D5_truncated_archive(stage: ConvertStage, suffix: str) -> None:
    whole = packed(GOOD, suffix)
    ended = stage.put(f"x{suffix}", whole[: len(whole) * 2 // 3]).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "unexpected end of archive" in ended.message
    assert " members" in ended.message


def test_D5_wrong_magic(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", zip_bytes(GOOD)).run_process()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "x.tar: its content is zip" in ended.message


def test_D5_wrong_crc(stage: ConvertStage) -> None:
    data = bytearray(zip_bytes({"game/a.txt": os.urandom(500)}))
    data[200] ^= 0xFF
    ended = stage.put("x.zip", bytes(data)).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "wrong CRC" in ended.message or "damaged data" in ended.message


def test_D5_empty_archive(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", TAR_END).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "x.tar: it is empty" in ended.message


MANY = {f"{number}.txt": b"" for number in range(300)}


def test_D6_more_members_than_allowed(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(MANY, ".tar")).run_process(limits=DatasetLimits(members=200))
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert "more than 200 members" in ended.message


def test_D6_zip_directory_with_more_members_than_allowed(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", packed(MANY, ".zip")).run(limits=DatasetLimits(members=200))
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)
    assert "more than 200 members (the archive has 300)" in ended.message
