"""Archives as browsers, operating systems and labelling tools pack them: read whole, or told what to do."""

import io
from pathlib import Path

import pytest

from atoll_contract.archive.limits import Meter
from atoll_contract.archive.zip import ZipReader
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import ExitCode, Reason
from support.archives import (
    TAR_END,
    annotation,
    gzip_bytes,
    jpeg,
    meta,
    packed,
    rectangle,
    supervisely,
    tar_bytes,
    tar_header,
    zip_bytes,
)
from support.convert_stage import ConvertStage
from support.converted_pictures import PixelBox, pictures_of, warnings_of
from support.raw_zip import raw_zip, unicode_path, with_zip64

UTF8 = 0x800
STREAMED = 0x8
NAMES = ("würfel_1.jpg", "würfel_2.jpg", "ball_3.jpg", "größe_4.jpg")
BOX: PixelBox = ("note", 10, 12, 40, 44)
EXPECTED = {name: [BOX] for name in NAMES}


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    return ConvertStage(tmp_path)


def export(names: tuple[str, ...] = NAMES) -> dict[str, bytes]:
    """A Supervisely project with one box in each picture."""
    files = {"robots/meta.json": meta("note")}
    for number, name in enumerate(names):
        files[f"robots/ds0/img/{name}"] = jpeg(number)
        files[f"robots/ds0/ann/{name}.json"] = annotation([rectangle(*BOX)])
    return files


def in_code_page(files: dict[str, bytes], code: str = "cp437", separator: str = "/") -> dict[bytes, bytes]:
    return {name.replace("/", separator).encode(code): data for name, data in files.items()}


def test_d1_a_zip_is_read_whole_although_its_end_record_counts_fewer(stage: ConvertStage) -> None:
    names = tuple(f"f{number:02d}.jpg" for number in range(12))
    files = {name.encode(): data for name, data in export(names).items()}
    ended = stage.put("x.zip", raw_zip(files, count=9)).run()
    assert pictures_of(ended) == {name: [BOX] for name in names}
    assert warnings_of(ended) == {}


def test_d1_a_count_past_65535_wraps() -> None:
    data = raw_zip({b"%05d.txt" % number: b"" for number in range(2**16 + 3)}, method=0)
    assert data[-14:-12] == b"\3\0"
    reader = ZipReader(io.BytesIO(data), length=len(data), meter=Meter(DatasetLimits(), len(data)))
    assert sum(1 for _ in reader.entries()) == 2**16 + 3


def test_d1_a_directory_with_fewer_members_than_counted_is_refused(stage: ConvertStage) -> None:
    files = {name.encode(): data for name, data in export().items()}
    ended = stage.put("x.zip", raw_zip(files, count=12)).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "its directory has 9 of 12 members" in ended.message


def test_d1_two_joined_zips_are_refused(stage: ConvertStage) -> None:
    one, other = (
        zip_bytes({name.replace("robots", project): data for name, data in export().items()}) for project in "ab"
    )
    ended = stage.put("x.zip", one + other).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "two zips were joined: give each alone" in ended.message


def test_d2_zip64_and_data_descriptors(stage: ConvertStage) -> None:
    files = in_code_page(export(), "utf-8")
    ended = stage.put("x.zip", with_zip64(raw_zip(files, flags=UTF8 | STREAMED))).run()
    assert pictures_of(ended) == EXPECTED


def test_d2_joined_tars_are_read_to_the_last(stage: ConvertStage) -> None:
    one = tar_bytes(export(NAMES[:2]))
    other = {name: data for name, data in export(NAMES).items() if name not in export(NAMES[:2])}
    ended = stage.put("x.tar", one + tar_bytes(other)).run()
    assert pictures_of(ended) == EXPECTED
    assert warnings_of(ended) == {}


def test_d2_bytes_behind_a_tar_are_named(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", tar_bytes(export()) + b"no tar at all").run()
    assert pictures_of(ended) == EXPECTED
    assert warnings_of(ended) == {"BytesUnread": 1}
    assert "behind the end of the tar are no tar" in ended.dataset().problems[0].detail


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
@pytest.mark.parametrize("gzipped", [True, False])
def test_e1_a_browser_packs_or_unpacks_and_keeps_the_name(stage: ConvertStage, name: str, gzipped: bool) -> None:
    data = tar_bytes(export())
    ended = stage.put(name, gzip_bytes(data) if gzipped else data).run()
    assert pictures_of(ended) == EXPECTED


def test_e2_names_in_the_code_page_of_dos(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", raw_zip(in_code_page(export()))).run()
    assert pictures_of(ended) == EXPECTED
    assert warnings_of(ended) == {}


def test_e2_names_in_a_unicode_path_field(stage: ConvertStage) -> None:
    raw = {name.encode("ascii", "replace"): name for name in export()}
    files = {short: export()[name] for short, name in raw.items()}
    # Names that differ in ü and ö alone would be the same file.
    assert len(files) == len(export())
    extras = {short: unicode_path(short, name) for short, name in raw.items()}
    ended = stage.put("x.zip", raw_zip(files, extras=extras)).run()
    assert pictures_of(ended) == EXPECTED


def test_e2_a_unicode_path_that_is_out_of_date_is_not_taken(stage: ConvertStage) -> None:
    files = in_code_page(export(), "utf-8")
    extras = {name: unicode_path(b"before it was renamed", "other.jpg") for name in files}
    assert pictures_of(stage.put("x.zip", raw_zip(files, extras=extras)).run()) == EXPECTED


@pytest.mark.parametrize("system", [0, 3, 10], ids=["dos", "unix", "ntfs"])
@pytest.mark.parametrize(("flags", "code"), [(UTF8, "utf-8"), (0, "cp437")])
def test_e4_backslashes_separate_folders(stage: ConvertStage, system: int, flags: int, code: str) -> None:
    data = raw_zip(in_code_page(export(), code, "\\"), flags=flags, system=system)
    assert pictures_of(stage.put("x.zip", data).run()) == EXPECTED


@pytest.mark.parametrize("name", [b"..\\x.jpg", b"a\\..\\..\\x.jpg", b"C:\\x.jpg", b"\\x.jpg", b"\\\\server\\x.jpg"])
@pytest.mark.parametrize("flags", [0, UTF8])
def test_e4_no_backslash_leads_outside(stage: ConvertStage, name: bytes, flags: int) -> None:
    ended = stage.put("x.zip", raw_zip({name: b"evil"}, flags=flags)).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)


def test_e4_a_unicode_path_leads_nowhere_else(stage: ConvertStage) -> None:
    data = raw_zip({b"x.jpg": b"evil"}, extras={b"x.jpg": unicode_path(b"x.jpg", "../../x.jpg")})
    ended = stage.put("x.zip", data).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert "path leaves the archive" in ended.message


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (9, "Deflate64, which the Windows Explorer takes"),
        (12, "bzip2"),
        (14, "LZMA"),
        (93, "Zstandard"),
        (55, "unknown"),
    ],
)
def test_e5_other_methods_are_named_with_what_to_do(stage: ConvertStage, method: int, words: str) -> None:
    data = bytearray(zip_bytes({"a.jpg": b"1"}))
    at = data.index(b"PK\x01\x02")
    data[at + 10] = method
    ended = stage.put("x.zip", bytes(data)).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert f"method {method} ({words}" in ended.message
    assert "pack it with 7-Zip as zip with the method Deflate, or as .tar" in ended.message


@pytest.mark.parametrize("inner", ["export.zip", "deep/export.tar", "export.tar.gz"])
@pytest.mark.parametrize("outer", [".zip", ".tar"])
def test_e6_an_archive_alone_in_an_archive_is_read(stage: ConvertStage, inner: str, outer: str) -> None:
    suffix = inner[inner.index(".") :]
    files = {"__MACOSX/._export": b"fork", inner: packed(export(), suffix)}
    assert pictures_of(stage.put(f"x{outer}", packed(files, outer)).run()) == EXPECTED


def test_e6_the_inner_archive_is_as_unsafe_as_any(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", zip_bytes({"in.zip": raw_zip({b"..\\..\\x": b"evil"})})).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_UNSAFE, Reason.DATASET_UNSAFE)
    assert 'x.zip: "in.zip" in it: member 2 "../../x": path leaves the archive' in ended.message


def test_e6_the_limit_of_the_ratio_counts_both_together(stage: ConvertStage) -> None:
    inner = zip_bytes({f"{number}.bin": bytes(900_000) for number in range(60)})
    ended = stage.put("x.zip", zip_bytes({"in.zip": inner})).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_TOO_LARGE, Reason.DATASET_TOO_LARGE)


def test_e6_an_archive_in_an_archive_in_an_archive_stays_shut(stage: ConvertStage) -> None:
    ended = stage.put("x.zip", zip_bytes({"in.zip": zip_bytes({"in.zip": zip_bytes(export())})})).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"Rar!\x1a\x07\x01\0", "content is RAR"),
        (b"7z\xbc\xaf\x27\x1c", "content is 7z"),
        (b"\xfd7zXZ\0", "content is xz"),
        (b"BZh91AY&SY", "content is bzip2"),
        (b"\n<!DOCTYPE html><html>", "content is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xff\xd8\xff\xe0", "content is one JPEG picture"),
        (b"just some text ", "but text"),
        (zip_bytes({"a": b"b"}), "rename it so that its name ends in .zip"),
    ],
)
def test_e3_what_is_no_tar_is_named(stage: ConvertStage, head: bytes, words: str) -> None:
    ended = stage.put("x.tar", head.ljust(700, b" ")).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert words in ended.message
    assert "allowed are .tar, .tar.gz, .tgz, .zip" in ended.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip_bytes(tar_bytes({"a.jpg": jpeg()})).ljust(512, b"\0"), "content is gzip"),
        (zip_bytes({"a.jpg": jpeg()}), "content is zip"),
        (b'{"images": [], "annotations": []}' * 20, "but text"),
        (jpeg(size=(640, 480)), "content is one JPEG picture"),
    ],
)
def test_e3_gzip_around_something_else_than_a_tar(stage: ConvertStage, content: bytes, words: str) -> None:
    ended = stage.put("x.tar.gz", gzip_bytes(content)).run()
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert words in ended.message
    assert "unpacked by gzip" in ended.message


def test_d2_joined_exports_with_one_name_twice_are_told_apart(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", tar_bytes(export()) + tar_bytes(export())).run()
    assert ended.reason is Reason.DATASET_MALFORMED
    assert 'duplicate member "robots/meta.json"' in ended.message
    assert "give archives that were joined each alone" in ended.message


def test_e3_a_part_of_a_zip_in_several_files_is_named(stage: ConvertStage) -> None:
    data = bytearray(zip_bytes(export()))
    data[data.rindex(b"PK\x05\x06") + 4] = 2
    ended = stage.put("x.zip", bytes(data)).run()
    assert "part 3 of a zip in several files" in ended.message


def test_k3_litter_of_operating_systems_is_no_part_of_the_data(stage: ConvertStage) -> None:
    files = supervisely(5)
    litter = {name.replace("frame_", "._frame_"): b"\0\5\x16\7" for name in files if "frame_" in name}
    litter |= {"game/.DS_Store": b"\0\0\0\1Bud1", "game/ds0/img/Thumbs.db": b"\xd0\xcf", "game/desktop.ini": b"[.S]"}
    ended = stage.put("x.tar", packed({**litter, **files}, ".tar")).run()
    assert pictures_of(ended) == {f"frame_{number:05d}.jpg": [("note", 4, 5, 34, 40)] for number in range(5)}
    assert warnings_of(ended) == {}


def test_an_empty_tar_behind_an_end_mark_of_any_length(stage: ConvertStage) -> None:
    padded = tar_bytes(export()) + TAR_END * 20 + tar_header(b"empty/", kind=b"5") + TAR_END
    ended = stage.put("x.tar", padded).run()
    assert pictures_of(ended) == EXPECTED
    assert warnings_of(ended) == {}
