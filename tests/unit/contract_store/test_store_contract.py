"""What every store promises (`atoll_contract.store.Store`): the same tests over a folder and over a bucket."""

import hashlib
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll_contract.errors import IntegrityError
from atoll_contract.store.base import WRITERS, ObjectNotFound, PreconditionFailed, Store, require_conditional_put
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from support.store_writers import increment


def test_a_put_object_can_be_read(store: Store) -> None:
    info = store.put("a/b.json", b"{}")
    assert store.get("a/b.json") == b"{}"
    assert (info.key, info.size, info.sha256) == ("a/b.json", 2, hashlib.sha256(b"{}").hexdigest())
    head = store.head("a/b.json")
    assert head is not None
    assert (head.key, head.size, head.etag) == (info.key, info.size, info.etag)
    assert head.sha256 in (None, info.sha256)


def test_an_empty_object_is_an_object(store: Store, tmp_path: Path) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    store.download("empty", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""
    store.upload("again", tmp_path / "empty")
    assert store.get("again") == b""


def test_a_missing_object_is_an_error_with_its_key(store: Store, tmp_path: Path) -> None:
    assert store.head("nothing") is None
    for read in (
        lambda: store.get("nothing"),
        lambda: store.get_if_changed("nothing", None),
        lambda: store.download("nothing", tmp_path / "x"),
    ):
        with pytest.raises(ObjectNotFound, match="nothing"):
            read()
    assert list(store.list("nothing/")) == []
    assert not (tmp_path / "x").exists()


def test_deleting_twice_is_fine(store: Store) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert store.head("a") is None


def test_too_large_an_object_is_not_read_at_once(store: Store) -> None:
    store.put("a", b"12345")
    assert store.get("a", limit=5) == b"12345"
    with pytest.raises(IntegrityError, match="larger than 4"):
        store.get("a", limit=4)


def test_a_put_replaces_and_changes_the_etag(store: Store) -> None:
    first = store.put("a", b"1")
    second = store.put("a", b"2")
    assert first.etag != second.etag
    assert store.get("a") == b"2"


def test_an_unchanged_object_is_not_sent_again(store: Store) -> None:
    store.put("a", b"1")
    found = store.get_if_changed("a", None)
    assert found is not None
    assert found[0] == b"1"
    assert store.get_if_changed("a", found[1]) is None
    store.put("a", b"2")
    changed = store.get_if_changed("a", found[1])
    assert changed is not None
    assert changed[0] == b"2"


def test_if_absent_never_replaces_not_even_the_same_bytes(store: Store) -> None:
    store.put("a", b"first", if_absent=True)
    for data in (b"second", b"first"):
        with pytest.raises(PreconditionFailed, match="taken"):
            store.put("a", data, if_absent=True)
    assert store.get("a") == b"first"
    store.delete("a")
    store.put("a", b"third", if_absent=True)
    assert store.get("a") == b"third"


def test_if_match_replaces_only_the_object_with_that_etag(store: Store) -> None:
    first = store.put("a", b"1")
    second = store.put("a", b"2", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"3", if_match=first.etag)
    assert store.get("a") == b"2"
    store.delete("a")
    with pytest.raises(PreconditionFailed):
        store.put("a", b"3", if_match=second.etag)
    assert store.head("a") is None


def test_of_many_writers_one_wins(store: Store) -> None:
    def write(number: int) -> bool:
        try:
            store.put("a", str(number).encode(), if_absent=True)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(write, range(WRITERS)))
    assert sum(won) == 1
    assert store.get("a") == str(won.index(True)).encode()


def test_the_check_of_conditional_puts_passes_and_leaves_no_object(store: Store) -> None:
    require_conditional_put(store, namespace="local", model="note")
    assert list(store.list("")) == []


def test_no_increment_is_lost_between_processes(store: Store, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if isinstance(store, DirStore):
        spec = StoreSpec(StoreType.DIRECTORY, path=store.url)
    else:
        spec = request.getfixturevalue("s3_spec")
    store.put("counter", b"0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=increment, args=(spec, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert store.get("counter") == b"30"


@pytest.mark.parametrize("size", [1, 5 * 2**20, 11 * 2**20 + 3])
def test_a_file_of_any_size_comes_back(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    sent: list[int] = []
    received: list[int] = []
    info = store.upload("big", source, transferred=sent.append)
    assert (info.size, info.sha256, sum(sent)) == (size, digest, size)
    head = store.head("big")
    assert head is not None
    assert (head.size, head.etag) == (size, info.etag)
    info = store.download("big", tmp_path / "copy", sha256=digest, etag=head.etag, transferred=received.append)
    assert (info.size, info.sha256, sum(received)) == (size, digest, size)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_download_of_other_bytes_than_expected_leaves_no_file(store: Store, tmp_path: Path) -> None:
    store.put("a", b"good")
    (tmp_path / "copy").write_bytes(b"before")
    with pytest.raises(IntegrityError, match="expected"):
        store.download("a", tmp_path / "copy", sha256="0" * 64)
    assert (tmp_path / "copy").read_bytes() == b"before"
    assert not list(tmp_path.glob(".copy*"))


def test_a_download_with_another_etag_is_refused(store: Store, tmp_path: Path) -> None:
    first = store.put("a", b"1")
    store.put("a", b"2")
    with pytest.raises(PreconditionFailed):
        store.download("a", tmp_path / "copy", etag=first.etag)
    assert not (tmp_path / "copy").exists()


def test_a_listing_is_in_key_order_and_sees_prefixes_as_text(store: Store) -> None:
    keys = ["a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "b"]
    for key in reversed(keys):
        store.put(key, b"x")
    assert [item.key for item in store.list("")] == sorted(keys, key=str.encode)
    assert [item.key for item in store.list("a/")] == ["a/b", "a/b-c", "a/c/d"]
    assert [item.key for item in store.list("a/b")] == ["a/b", "a/b-c"]
    assert [item.key for item in store.list("a/c")] == ["a/c/d"]


def test_a_listing_has_size_and_etag(store: Store) -> None:
    info = store.put("a", b"12345")
    assert [(item.size, item.etag) for item in store.list("a")] == [(5, info.etag)]


def test_S13_a_listing_of_more_than_a_page_is_whole(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"many/{n:05d}", b""), range(1203)))
    assert [item.key for item in store.list("many/")] == [f"many/{n:05d}" for n in range(1203)]
    assert [item.key for item in islice(store.list("many/"), 2)] == ["many/00000", "many/00001"]


def test_S13_odd_keys_are_kept_as_they_are(store: Store) -> None:
    keys = [
        "a+b",
        "a b",
        "a%2Fb",
        "100%",
        "ünï/コード",
        "emoji 🤖",
        "q?x=1&y=2",
        "hash#1",
        "~tilde",
        "(paren)'\"",
        "a=b;c,d",
    ]
    for key in keys:
        store.put(f"odd/{key}", key.encode())
    assert {item.key for item in store.list("odd/")} == {f"odd/{key}" for key in keys}
    for key in keys:
        assert store.get(f"odd/{key}") == key.encode()
    store.delete("odd/a+b")
    assert store.head("odd/a+b") is None
    assert store.head("odd/a b") is not None


_PARTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters='/\\<>:"|?*'),
    min_size=1,
    max_size=20,
).filter(lambda part: part.strip(". ") != "" and not part.startswith(".atoll"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(_PARTS, min_size=1, max_size=3), data=st.binary(max_size=64))
def test_any_key_comes_back_from_the_folder(tmp_path: Path, parts: list[str], data: bytes) -> None:
    store = DirStore(tmp_path / "property" / hashlib.sha256("/".join(parts).encode()).hexdigest())
    key = "/".join(parts)
    store.put(key, data)
    assert [(item.key, item.size) for item in store.list("")] == [(key, len(data))]
    assert store.get(key) == data
