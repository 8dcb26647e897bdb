"""The frames on the card: bounded in bytes and by the free space, oldest removed first, damaged ones dropped."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_edge.harvest.spool import Spool

NOTE = b"{}"
PLENTY = 2**40


def spool(root: Path, *, max_bytes: int = 1000, min_free_bytes: int = 100, free: int = PLENTY) -> Spool:
    return Spool(root, max_bytes=max_bytes, min_free_bytes=min_free_bytes, free=lambda _: free)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_is_put_comes_back_in_order_also_after_a_restart(tmp_path: Path) -> None:
    first = spool(tmp_path / "harvest")
    for number in range(12):
        first.add(b"picture %d" % number, NOTE)
    again = spool(tmp_path / "harvest")
    for number in range(12):
        item = again.oldest()
        assert item is not None
        assert again.read(item) == (b"picture %d" % number, NOTE)
        again.remove(item)
    assert again.oldest() is None
    assert names(tmp_path / "harvest") == []


@given(sizes=st.lists(st.integers(1, 400), max_size=30))
def test_never_more_than_its_bytes_and_the_oldest_goes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    root = tmp_path_factory.mktemp("harvest")
    full = spool(root)
    for number, size in enumerate(sizes):
        full.add(bytes([number]) * size, NOTE)
        assert sum(path.stat().st_size for path in root.iterdir()) == full.size <= 1000
    left = full.frames
    assert full.evicted == len(sizes) - left
    for number in range(len(sizes) - left, len(sizes)):
        item = full.oldest()
        assert item is not None
        assert full.read(item) == (bytes([number]) * sizes[number], NOTE)
        full.remove(item)


def test_a_card_that_fills_up_gets_its_room_back(tmp_path: Path) -> None:
    free = [PLENTY]
    held = Spool(tmp_path, max_bytes=10_000, min_free_bytes=100, free=lambda _: free[0])
    for number in range(5):
        held.add(b"picture %d" % number, NOTE)
    held.free_space()
    assert held.frames == 5
    free[0] = 50
    with pytest.raises(OSError, match="too little room") as caught:
        held.add(b"one more", NOTE)
    assert caught.value.errno == errno.ENOSPC
    assert (held.frames, held.evicted, names(tmp_path)) == (0, 5, [])


def test_room_is_given_back_without_a_new_frame(tmp_path: Path) -> None:
    """The download of a release needs the room more."""
    root = tmp_path / "harvest"
    # What is free grows by each frame that goes.
    held = Spool(root, max_bytes=10_000, min_free_bytes=0, free=lambda _: PLENTY)
    for number in range(5):
        held.add(b"picture %d" % number, NOTE)
    again = Spool(root, max_bytes=10_000, min_free_bytes=100, free=lambda _: 110 - 10 * len(list(root.glob("*.jpg"))))
    again.free_space()
    assert (again.frames, again.evicted) == (1, 4)
    item = again.oldest()
    assert item is not None
    assert again.read(item) == (b"picture 4", NOTE)


@pytest.mark.parametrize("fails_at", ["jpg", "json"])
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    held = spool(tmp_path / "harvest")
    held.add(b"before", NOTE)
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.suffix == f".{fails_at}":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        held.add(b"picture", NOTE)
    assert held.frames == 1
    assert [name for name in names(tmp_path / "harvest") if name.startswith("0000000002")] == []
    assert [path.name for path in (tmp_path / "harvest").glob("*.part")] == []
    monkeypatch.undo()
    held.add(b"picture", NOTE)
    assert spool(tmp_path / "harvest").frames == 2


def test_what_a_power_cut_tore_is_not_handed_on(tmp_path: Path) -> None:
    held = spool(tmp_path)
    for number in range(3):
        held.add(b"picture %d" % number, NOTE)
    images = sorted(tmp_path.glob("*.jpg"))
    images[0].write_bytes(b"\0" * 9)  # allocated, never written
    images[1].with_suffix(".json").unlink()  # the note was still to come
    (tmp_path / "new.part").write_bytes(b"half a")
    again = spool(tmp_path)
    assert again.frames == 2
    assert not (tmp_path / "new.part").exists()
    assert not images[1].exists()
    torn = again.oldest()
    assert torn is not None
    assert again.read(torn) is None
    again.remove(torn)
    whole = again.oldest()
    assert whole is not None
    assert again.read(whole) == (b"picture 2", NOTE)


def test_a_frame_that_is_larger_than_all_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too little room"):
        spool(tmp_path).add(b"x" * 1000, NOTE)
