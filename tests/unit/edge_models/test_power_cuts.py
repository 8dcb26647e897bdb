"""Killed at every step of the store's protocol, and the plug pulled: the device comes up with a proven model.

A forked child stages and commits version 2 over version 1, and is killed by SIGKILL before its n-th file operation that
matters (write, sync, rename, removal). For the plug, what the child had not synced is then taken away again: contents
of files that were never synced, and renames whose folder was not.
"""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.store.directory import DirStore
from atoll_edge.config import Verify
from atoll_edge.models import release_state
from atoll_edge.models.download import ReleaseDownloader
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from support.edge_release import CHANNEL, MODEL, NAMESPACE, Published, publish

pytestmark = pytest.mark.timeout(600)

MODEL_KEY = f"{NAMESPACE}/{MODEL}"
MAX_STEPS = 400


def update(device: ReleaseStore, bucket: DirStore) -> None:
    """Downloads and commits a release, as downloader and activation do."""
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
    ReleaseDownloader(bucket, device, expected, CHANNEL, canary=lambda *_, **__: None).poll(None, lambda _: None)
    release = device.read().candidate
    assert release is not None
    device.check(release)
    device.change(release_state.begin_activation)
    device.change(lambda state: release_state.commit(state, release, model=MODEL_KEY, sequence=2))
    device.collect_garbage()


class Saboteur:
    """Counts the file operations below `root`, kills this process before the n-th, and keeps a log for the plug."""

    def __init__(self, root: Path, log: Path, kill_at: int) -> None:
        self._root = str(root)
        self._log = log
        self._left = kill_at
        self._names: dict[int, str] = {}

    def install(self) -> None:
        os.fsync = self._wrapped(os.fsync, self._synced)
        os.replace = self._wrapped(os.replace, self._renamed)
        os.rename = self._wrapped(os.rename, self._renamed)
        os.unlink = self._wrapped(os.unlink, lambda *_, **__: None)
        os.rmdir = self._wrapped(os.rmdir, lambda *_, **__: None)
        os.mkdir = self._wrapped(os.mkdir, lambda *_, **__: None)

    def _wrapped(self, real: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            held = isinstance(arguments[0], int)
            name = str(Path(f"/proc/self/fd/{arguments[0]}").readlink() if held else arguments[0])
            if not name.startswith(self._root):
                return real(*arguments, **options)
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            note(name, *arguments[1:])
            return real(*arguments, **options)

        return wrapper

    def _synced(self, name: str) -> None:
        self._write({"sync": name})

    def _renamed(self, source: str, target: Any) -> None:
        """Keep what the target held, for a rename that the plug undoes."""
        kept = None
        if Path(str(target)).exists():
            kept = f"{self._log}.{abs(self._left)}"
            shutil.copyfile(str(target), kept)
        self._write({"rename": [source, str(target)], "kept": kept})

    def _write(self, entry: dict[str, Any]) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps(entry) + "\n")


def killed_at(step: int, root: Path, bucket: Path, log: Path) -> bool:
    """Run the update in a fork and kill it before its n-th operation; whether it was killed."""

    def child() -> None:
        Saboteur(root, log, step).install()
        update(ReleaseStore(root), DirStore(bucket))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def pull_the_plug(log: Path, *, renames: bool) -> None:
    """Take away what was not synced; `renames`: also those whose folder was not synced since."""
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    synced = {entry["sync"] for entry in entries if "sync" in entry}
    for number in reversed(range(len(entries))):
        if "rename" not in entries[number]:
            continue
        source, target = entries[number]["rename"]
        later = {entry.get("sync") for entry in entries[number:]}
        if source not in synced and Path(target).exists():
            Path(target).chmod(0o644)
            Path(target).write_bytes(b"")
        if renames and str(Path(target).parent) not in later:
            Path(target).unlink(missing_ok=True)
            if entries[number]["kept"]:
                shutil.copyfile(entries[number]["kept"], target)


def assert_boots(root: Path, versions: dict[str, int]) -> int:
    """The device comes up with a release that is whole, and can take the update again. Its version."""
    device = ReleaseStore(root)
    device.lock()
    try:
        state = device.change(release_state.recover_at_boot)
        assert state.current in versions, state
        device.check(state.current)
        if state.candidate is not None:
            device.check(state.candidate)
        return versions[state.current]
    finally:
        device.unlock()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, int]]:
    """A device that serves version 1, and a bucket that has version 2."""
    folder = tmp_path_factory.mktemp("power")
    bucket, device = DirStore(folder / "bucket"), ReleaseStore(folder / "device")
    releases: list[Published] = [publish(bucket, 1)]
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
    ReleaseDownloader(bucket, device, expected, CHANNEL, canary=lambda *_, **__: None).poll(None, lambda _: None)
    device.change(lambda state: release_state.commit(state, releases[0].sha256, model=MODEL_KEY, sequence=1))
    releases.append(publish(bucket, 2))
    return folder / "device", folder / "bucket", {release.sha256: number for number, release in enumerate(releases, 1)}


@pytest.mark.parametrize("plug", ["kill", "contents", "renames"])
def test_every_step_can_be_the_last(ready: tuple[Path, Path, dict[str, int]], tmp_path: Path, plug: str) -> None:
    template, bucket, versions = ready
    came_up: list[int] = []
    for step in range(1, MAX_STEPS):
        root, log = tmp_path / f"device-{step}", tmp_path / f"log-{step}"
        shutil.copytree(template, root)
        killed = killed_at(step, root, bucket, log)
        if plug != "kill":
            pull_the_plug(log, renames=plug == "renames")
        came_up.append(assert_boots(root, versions))
        shutil.rmtree(root)
        if not killed:
            break
    else:
        pytest.fail(f"the update did not end within {MAX_STEPS} steps")
    # It comes up with version 1 until the commit, and with version 2 from then on.
    assert came_up == sorted(came_up)
    assert set(came_up) == {1, 2}
    assert len(came_up) > 15
