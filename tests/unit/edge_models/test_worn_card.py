"""A card that wears out, fills up or becomes read-only, and files that root wrote: the agent serves what it has."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.store.directory import DirStore
from atoll_edge.cli import main
from atoll_edge.models import release_state
from atoll_edge.models.card_reads import ReleaseDamaged
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.release_files import needed_files
from atoll_edge.models.release_store import ReleaseStore, StoreLocked
from support.edge_release import MODEL, NAMESPACE, publish

AGENT = 4711
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: needs root")


def serve(device: ReleaseStore, bucket: DirStore, fetcher: ReleaseDownloader, version: int, sign: object) -> str:
    release = publish(bucket, version, sign=sign).sha256  # type: ignore[arg-type]
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.STAGED
    model = f"{NAMESPACE}/{MODEL}"
    device.change(lambda state: release_state.commit(state, release, model=model, sequence=version))
    return release


@pytest.fixture
def releases(
    device: ReleaseStore, bucket: DirStore, fetcher: ReleaseDownloader, signed: object, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A device that serves version 2, after version 1."""
    monkeypatch.setattr("atoll_edge.models.download.run_canary", lambda *_, **__: None)
    untried = ReleaseDownloader(bucket, device, fetcher.expected, fetcher.channel, canary=lambda *_, **__: None)
    return [serve(device, bucket, untried, version, signed) for version in (1, 2)]


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"current": 7}', b'{"ofALaterAgent": 1}'])
def test_an_unreadable_state_is_made_anew_from_the_newest_release_on_disk(
    device: ReleaseStore, releases: list[str], content: bytes
) -> None:
    """Without it garbage collection would remove every model that the device has."""
    (device.root / "state.json").write_bytes(content)
    again = ReleaseStore(device.root)
    again.collect_garbage()
    state = again.change(release_state.recover_at_boot)
    assert state.current == releases[1]
    assert state.sequences == {f"{NAMESPACE}/{MODEL}": 2}
    assert "could not be read" in (state.last_refusal or "")
    again.check(releases[1])
    assert ReleaseStore(device.root).read() == state


def test_of_damaged_releases_none_is_taken(device: ReleaseStore, releases: list[str]) -> None:
    blob = device.blob_path(device.manifest(releases[1]).files[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"worn")
    (device.root / "state.json").write_bytes(b"worn too")
    assert ReleaseStore(device.root).read().current == releases[0]


class FailingReads:
    """Lets the first `times` readings of `path` fail with an error number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, number: int, times: int) -> None:
        self.left = times
        read, opened = Path.read_bytes, Path.open

        def fail(found: Path) -> None:
            if found == path and self.left:
                self.left -= 1
                raise OSError(number, os.strerror(number))

        def read_bytes(found: Path) -> bytes:
            fail(found)
            return read(found)

        def open_file(found: Path, *args: Any, **options: Any) -> Any:
            fail(found)
            return opened(found, *args, **options)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        monkeypatch.setattr(Path, "open", open_file)


def files_of(device: ReleaseStore, release: str) -> list[Path]:
    manifest = device.manifest(release)
    blobs = [device.blob_path(item.sha256) for item in needed_files(manifest)]
    return [device.root / "releases" / release / "manifest.json", *blobs]


def test_E15_an_error_of_the_card_that_passes_takes_no_release_away(
    device: ReleaseStore, releases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in files_of(device, releases[1]):
        failing = FailingReads(monkeypatch, path, errno.EIO, times=2)
        assert device.check(releases[1]).sequence == 2
        assert failing.left == 0


def test_E15_an_error_of_the_card_that_stays_is_damage(
    device: ReleaseStore, releases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in files_of(device, releases[1]):
        FailingReads(monkeypatch, path, errno.EIO, times=3)
        with pytest.raises(ReleaseDamaged, match=r"3 tries"):
            device.check(releases[1])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_E15_an_error_that_is_none_of_the_cards_is_not_believed(
    device: ReleaseStore, releases: list[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = device.read()
    for path in [*files_of(device, releases[1]), device.root / "state.json"]:
        failing = FailingReads(monkeypatch, path, number, times=1)
        if path.name == "state.json":
            with pytest.raises(OSError, match=os.strerror(number)):
                device.change(release_state.pin)
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                device.check(releases[1])
        assert failing.left == 0
    assert device.check(releases[1]).sequence == 2
    assert device.read() == before


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77
shift
exec "$@"
"""
BOOT = """
import sys
import time
from pathlib import Path
from atoll_edge.config import EdgeConfig
from atoll_edge.detector.model import DetectorHealth
from atoll_edge.models.manager import ReleaseManager
from atoll_edge.robot.topics import Match
from atoll_edge.prometheus import Metrics

class ScriptedDetector:
    active, health, pending = None, DetectorHealth(), []
    def request(self, model):
        from concurrent.futures import Future
        self.active = model
        done = Future(); done.set_result("cpu")
        return done

class NoMatch:
    def now(self):
        return Match(False, False)

detector = ScriptedDetector()
manager = ReleaseManager(EdgeConfig(state_dir=sys.argv[1]), detector, NoMatch(), Metrics())
manager.start()
print(detector.active.digest)
manager.stop()
"""


@ROOT_ONLY
@pytest.mark.skipif(shutil.which("unshare") is None, reason="NOT RUN: unshare is not installed here")
def test_E6_a_card_that_became_read_only_serves_its_model(device: ReleaseStore, releases: list[str]) -> None:
    """Really read-only, in a mount namespace of its own."""
    device.unlock()
    boot = [sys.executable, "-P", "-c", BOOT, str(device.root)]
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(device.root), *boot]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip(f"NOT RUN: nothing can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [releases[1]]


@ROOT_ONLY
def test_what_root_changes_belongs_to_the_agents_user(device: ReleaseStore, releases: list[str]) -> None:
    """`sudo atoll-edge pin` and the pod are root, the unit's agent is not: it could not write its own state again."""
    device.unlock()
    for path in [device.root, *device.root.rglob("*")]:
        os.chown(path, AGENT, AGENT)
    for command in ("pin", "unpin", "rollback"):
        assert main([command, "--state-dir", str(device.root)]) == 0
    again = ReleaseStore(device.root)
    again.lock()
    again.add_release("ab" * 32, b"{}")
    again.unlock()
    foreign = [path for path in device.root.rglob("*") if path.stat().st_uid != AGENT]
    assert foreign == []


def test_E9_a_clock_at_1970_refuses_nothing(
    device: ReleaseStore, bucket: DirStore, fetcher: ReleaseDownloader, signed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pi 4 has no clock of its own: a signed release of 2027 is proven by one that has just been switched on."""
    release = publish(bucket, 1, sign=signed)  # type: ignore[arg-type]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert fetcher.poll(None, lambda _: None)[0] is PollResult.STAGED
    assert device.check(release.sha256).sequence == 1
    assert device.change(release_state.recover_at_boot).candidate == release.sha256


def test_E19_a_lock_that_is_a_folder_is_taken_all_the_same(device: ReleaseStore, releases: list[str]) -> None:
    device.unlock()
    (device.root / "agent.lock").unlink()
    (device.root / "agent.lock").mkdir()
    again = ReleaseStore(device.root)
    again.lock()
    assert again.check(releases[1]).sequence == 2
    with pytest.raises(StoreLocked, match="stop it first"):
        ReleaseStore(device.root).lock()
    again.unlock()
    again.lock()


def test_E19_a_read_only_card_without_a_lock_file_serves_and_is_locked(
    device: ReleaseStore, releases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: the calls fail here as they do on a card that became read-only."""
    device.unlock()
    (device.root / "agent.lock").unlink()
    read_only(monkeypatch)
    again = ReleaseStore(device.root)
    again.lock()
    assert again.read().current == releases[1]
    with pytest.raises(StoreLocked, match="stop it first"):
        ReleaseStore(device.root).lock()
    again.unlock()


def test_E19_a_read_only_card_without_a_folder_starts_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only(monkeypatch)
    empty = ReleaseStore(tmp_path / "never-made")
    empty.lock()
    assert empty.read().current is None
    assert empty.free_bytes() == 0
    empty.unlock()


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open_file(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(Path, "mkdir", refuse)
