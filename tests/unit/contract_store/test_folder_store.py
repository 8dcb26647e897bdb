"""What only a folder store can get wrong: paths, links, leftovers, locks."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, StoreForbidden
from atoll_contract.store.directory import INTERNAL, DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from support.store_writers import increment


@pytest.fixture
def store(tmp_path: Path) -> DirStore:
    return DirStore(tmp_path / "store")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a/./b", "a\0b", f"{INTERNAL}/locks/00"]
)
def test_a_key_that_is_no_path_below_the_folder_is_refused(store: DirStore, key: str) -> None:
    with pytest.raises(SpecError, match="is no key of a folder store"):
        store.put(key, b"x")
    with pytest.raises(SpecError):
        store.get(key)
    with pytest.raises(SpecError):
        store.delete(key)


def test_a_symbolic_link_out_of_the_folder_is_not_followed(store: DirStore, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"private")
    store.put("a", b"x")
    (tmp_path / "store" / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(SpecError, match="symbolic link"):
        store.get("out/file")
    with pytest.raises(SpecError, match="symbolic link"):
        store.put("out/new", b"x")
    assert [item.key for item in store.list("")] == ["a"]


def test_a_key_below_an_object_is_refused_with_a_sentence(store: DirStore) -> None:
    store.put("a", b"x")
    with pytest.raises(SpecError, match="cannot hold this key"):
        store.put("a/b", b"y")
    with pytest.raises(ObjectNotFound):
        store.get("a/b")
    assert store.head("a/b") is None


def test_unfinished_writes_are_never_listed_and_are_removed_when_old(tmp_path: Path) -> None:
    spec = StoreSpec(StoreType.DIRECTORY, path=str(tmp_path))
    leftover = tmp_path / INTERNAL / "tmp" / "killed"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    assert list(open_store(spec).list("")) == []
    assert leftover.exists()
    old = time.time() - 2 * 24 * 3600
    os.utime(leftover, (old, old))
    open_store(spec)
    assert not leftover.exists()


def test_a_full_or_read_only_disk_has_its_own_reason(store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        def fail(*args: object, **keywords: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("atoll_contract.store.directory.sync", fail)

    refuse(errno.ENOSPC)
    with pytest.raises(Exception, match="No space left") as caught:
        store.put("a", b"x")
    assert getattr(caught.value, "reason", None) == "EphemeralStorageExceeded"
    refuse(errno.EROFS)
    with pytest.raises(StoreForbidden, match="Read-only"):
        store.put("a", b"x")
    assert store.head("a") is None


def test_without_hard_links_the_lock_makes_if_absent_atomic(store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    store.put("a", b"first", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"second", if_absent=True)
    assert store.get("a") == b"first"


def test_an_empty_folder_goes_with_its_last_object(store: DirStore, tmp_path: Path) -> None:
    store.put("a/b/c", b"x")
    store.put("a/d", b"x")
    store.delete("a/b/c")
    assert not (tmp_path / "store" / "a" / "b").exists()
    assert store.get("a/d") == b"x"


def test_a_corrupted_file_is_refused_by_its_digest(store: DirStore, tmp_path: Path) -> None:
    digest = store.put("a", b"good").sha256
    (tmp_path / "store" / "a").write_bytes(b"evil")
    with pytest.raises(IntegrityError, match="expected"):
        store.download("a", tmp_path / "copy", sha256=digest)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_no_increment_is_lost_between_processes(tmp_path: Path) -> None:
    DirStore(tmp_path).put("counter", b"0")
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=increment, args=(StoreSpec(StoreType.DIRECTORY, path=str(tmp_path)), 25))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert DirStore(tmp_path).get("counter") == b"100"
