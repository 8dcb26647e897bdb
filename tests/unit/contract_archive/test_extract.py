"""Good archives of every kind come out whole, under numbers."""

import contextlib
import gzip
import os
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_contract.archive.extract import Members, extract
from atoll_contract.archive.members import stem_and_suffix
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError, Reason
from support.archives import TAR_END, packed, pax_member, tar_member, write_files, zip_bytes
from support.raw_zip import raw_zip

LIMITS = DatasetLimits()
FILES = {"a/one.txt": b"1" * 3000, "a/b/two.bin": bytes(range(256)) * 5, "trois é.txt": b"", "a b,c'd.txt": b"x"}


def read_all(source: Path, folder: Path) -> dict[str, bytes]:
    with extract(source, folder, LIMITS) as members:
        suffixes = {Path(name).suffix for name in FILES}
        return {member.name: member.read() for member in members.with_suffix(*suffixes)}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_every_kind_gives_back_its_files(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"data{suffix}"
    source.write_bytes(packed(FILES, suffix))
    assert read_all(source, tmp_path / "out") == FILES


def test_a_folder_is_indexed_without_a_copy(tmp_path: Path) -> None:
    source = write_files(FILES, tmp_path / "data")
    assert read_all(source, tmp_path / "out") == FILES
    assert (tmp_path / "out" / "members.bin").stat().st_size == 0


def test_a_plain_tar_is_indexed_without_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "data.tar"
    source.write_bytes(packed(FILES, ".tar"))
    assert read_all(source, tmp_path / "out") == FILES
    assert (tmp_path / "out" / "members.bin").stat().st_size == 0
    with extract(source, tmp_path / "again", LIMITS) as members:
        assert not members.are_copied


def test_a_tar_whose_path_is_no_utf_8_is_copied(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9.tar"))
    source.write_bytes(packed(FILES, ".tar"))
    assert read_all(source, tmp_path / "out") == FILES
    assert (tmp_path / "out" / "members.bin").stat().st_size == sum(map(len, FILES.values()))


@pytest.mark.parametrize("cut", [1, 512, 700])
def test_a_tar_that_ends_within_a_member_is_refused_as_one_in_gzip_is(tmp_path: Path, cut: int) -> None:
    whole = tar_member(b"a.txt", b"first") + tar_member(b"b.txt", bytes(1000))
    texts = []
    for suffix, pack in ((".tar", bytes), (".tar.gz", gzip.compress)):
        source = tmp_path / f"data{suffix}"
        source.write_bytes(pack(whole[:-cut]))
        with pytest.raises(DatasetError, match="unexpected end of archive after 2 members") as caught:
            extract(source, tmp_path / f"out{suffix}", LIMITS)
        texts.append(caught.value.message.partition(": ")[2])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["a/b.jpg", "b.tar.gz", ".hidden", "a.b/c", "dot.", "..two", "a/.x.png", "é.JPG"])
def test_a_path_is_divided_as_pathlib_divides_it(name: str) -> None:
    assert stem_and_suffix(name) == (PurePosixPath(name).stem, PurePosixPath(name).suffix)


def test_members_are_stored_in_one_file(tmp_path: Path) -> None:
    source = tmp_path / "data.zip"
    source.write_bytes(packed(FILES, ".zip"))
    extract(source, tmp_path / "out", LIMITS).close()
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert written == ["index.sqlite", "members.bin"]


def test_a_member_is_read_as_a_file_of_its_own(tmp_path: Path) -> None:
    files = {"a.bin": bytes(range(256)) * 5000, "b.bin": b"second", "empty": b""}
    source = tmp_path / "data.tar"
    source.write_bytes(packed(files, ".tar"))
    with extract(source, tmp_path / "out", LIMITS) as members:
        for member in members:
            data = files[member.name]
            with member.open() as file:
                assert file.read() == data == member.read()
                assert file.read(5) == b""
                for position in (0, 3, len(data) // 2, len(data), len(data) + 9):
                    assert file.seek(position) == position
                    assert file.read(70_000) == data[position : position + 70_000]
                assert file.seek(-min(4, len(data)), 2) == max(0, len(data) - 4)
                assert file.read() == data[-4:]


def test_names_are_found_whatever_their_case_and_unicode_form(tmp_path: Path) -> None:
    source = tmp_path / "data.tar"
    source.write_bytes(packed(FILES, ".tar"))
    with extract(source, tmp_path / "out", LIMITS) as members:
        member = members.get("TROIS e\u0301.txt")
        assert member is not None
        assert member.name == "trois é.txt"
        assert [found.name for found in members.by_base("ONE.TXT")] == ["a/one.txt"]
        assert members.get("nothing") is None


def test_dots_and_folder_entries_are_skipped(tmp_path: Path) -> None:
    source = tmp_path / "data.tar"
    folders = tar_member(b"./", kind=b"5") + tar_member(b"./a/", kind=b"5")
    source.write_bytes(folders + tar_member(b"./a//x.txt", b"hello") + TAR_END)
    assert read_all(source, tmp_path / "out") == {"a/x.txt": b"hello"}


def test_gnu_and_pax_long_names(tmp_path: Path) -> None:
    source, long_name = tmp_path / "data.tar", "d/" + "n" * 200 + ".txt"
    gnu = tar_member(b"././@LongLink", long_name.encode() + b"\0", kind=b"L") + tar_member(b"cut", b"gnu")
    pax = pax_member({"comment": b"x", "path": "é".encode() + b".txt"}) + tar_member(b"cut", b"pax")
    source.write_bytes(gnu + pax_member({"comment": b"by git"}, kind=b"g") + pax + TAR_END)
    assert read_all(source, tmp_path / "out") == {long_name: b"gnu", "é.txt": b"pax"}


def test_backslashes_of_a_windows_zip_are_slashes(tmp_path: Path) -> None:
    source = tmp_path / "data.zip"
    data = zip_bytes({"a/one.txt": b"1"}).replace(b"a/one.txt", b"a\\one.txt")
    # "Made by" is 0, MS-DOS, in the directory's entry.
    at = data.index(b"PK\x01\x02") + 5
    source.write_bytes(data[:at] + b"\0" + data[at + 1 :])
    assert read_all(source, tmp_path / "out") == {"a/one.txt": b"1"}


def test_offsets_of_a_zip_past_4_gib_wrap(tmp_path: Path) -> None:
    source, gap = tmp_path / "data.zip", 2**32 + 2**20
    files = {b"a.txt": b"first", b"b.txt": b"second", b"c.txt": b"third"}
    data = raw_zip(files, gap=gap)
    second = data.index(b"PK\x03\x04", 4)
    with source.open("wb") as file:
        file.write(data[:second])
        file.seek(gap, 1)
        file.write(data[second:])
    found = read_all(source, tmp_path / "out")
    assert found == {name.decode(): content for name, content in files.items()}


def test_litter_of_a_folder_is_no_member(tmp_path: Path) -> None:
    files = {**FILES, ".git/config": b"x", "a/._one.txt": b"x", "a/Thumbs.db": b"x", ".DS_Store": b"x"}
    source = write_files(files, tmp_path / "data")
    (source / ".git" / "link").symlink_to("/etc")
    with extract(source, tmp_path / "out", LIMITS) as members:
        assert len(members) == len(FILES)


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    source = write_files(FILES, tmp_path / "data")
    (source / "more").symlink_to("/etc")
    with pytest.raises(DatasetError, match=r"\"more\": symbolic link.* no link is followed") as caught:
        extract(source, tmp_path / "out", LIMITS)
    assert caught.value.reason is Reason.DATASET_UNSAFE


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.tar", zip_bytes(FILES), "zip"),
        ("data.zip", packed(FILES, ".tar"), "tar"),
        ("data.tar", b"\xfd7zXZ\0" + bytes(600), "xz"),
        ("data.7z", b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z"),
        ("data.tar", b"", "empty"),
        ("data.tar", TAR_END, "holds no file"),
        ("data.tar", b"hello, I am text" * 64, "no tar header"),
        ("data.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03nonsense", "damaged gzip"),
    ],
)
def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        extract(source, tmp_path / "out", LIMITS)
    assert caught.value.reason is Reason.DATASET_MALFORMED
    assert caught.value.message.startswith(name)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(NAMES, st.binary(max_size=700), min_size=1, max_size=8))
def test_any_names_stay_inside_or_are_refused(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        fence = Path(name)
        source = fence / "data.tar"
        members = b"".join(tar_member(key.encode()[:100], data) for key, data in files.items())
        source.write_bytes(members + TAR_END)
        with contextlib.suppress(DatasetError), extract(source, fence / "in" / "out", LIMITS) as found:
            assert len(found) <= len(files)
        outside = [path for path in fence.rglob("*") if fence / "in" not in (path, *path.parents)]
        assert outside == [source]


def test_an_archive_that_is_refused_leaves_no_open_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Path] = []
    close = Members.close

    def note(members: Members) -> None:
        closed.append(members.folder)
        close(members)

    monkeypatch.setattr(Members, "close", note)
    source = tmp_path / "no.tar"
    source.write_bytes(b"no archive at all")
    with pytest.raises(DatasetError):
        extract(source, tmp_path / "out", DatasetLimits())
    assert closed == [tmp_path / "out"]
