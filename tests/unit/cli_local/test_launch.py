"""Errors before a run begins, damaged state, and the lock of a run."""

import fcntl
import hashlib
import sys
import threading
from pathlib import Path

import pytest

from atoll_cli.local.launch import start_release
from atoll_cli.local.state import RunFolder
from atoll_contract.errors import AtollError, IntegrityError, SpecError
from atoll_contract.store import directory_store, open_store
from support.noop_run import RUN, NoopRun

FROM_RELEASE = RUN.replace("spec:", "spec:\n  training: { initFrom: { type: release, releaseRef: { name: base-v2 } } }")


def test_a_release_to_start_from_is_found_in_the_store(tmp_path: Path) -> None:
    run = NoopRun(tmp_path, FROM_RELEASE)
    store = open_store(directory_store(run.store))
    store.put("models/local/base/v2/manifest.json", b"{}")
    found = start_release(run.request().file, store)
    assert found is not None
    assert (found.key, found.sha256) == ("models/local/base/v2/manifest.json", hashlib.sha256(b"{}").hexdigest())


def test_a_missing_release_is_reported_before_anything_is_done(tmp_path: Path) -> None:
    run = NoopRun(tmp_path, FROM_RELEASE)
    with pytest.raises(SpecError, match=r"no release base-v2 in .*store"):
        run.launch()
    assert not (run.store / ".atoll/engine").exists()


def test_a_key_of_a_bucket_is_refused_for_a_folder(tmp_path: Path) -> None:
    run = NoopRun(tmp_path, RUN.replace("datasets/local/pictures.tar", "s3://frc/pictures.tar"))
    with pytest.raises(SpecError, match=r"s3://frc/pictures\.tar"):
        run.launch()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"uid": 7}', "null"])
def test_a_damaged_state_is_reported_with_what_to_do(tmp_path: Path, damage: str) -> None:
    run = NoopRun(tmp_path)
    record = run.store / ".atoll/engine/local/noop/run.json"
    record.parent.mkdir(parents=True)
    record.write_text(damage)
    with pytest.raises(AtollError, match=r"run\.json is damaged.*remove") as caught:
        run.launch()
    assert isinstance(caught.value, IntegrityError)


def test_data_that_does_not_exist_leaves_no_run(tmp_path: Path) -> None:
    run = NoopRun(tmp_path)
    with pytest.raises(AtollError, match="does not exist"):
        run.launch(data=(tmp_path / "none.tar",))
    assert not (run.store / ".atoll/engine/local/noop/run.json").exists()


def test_an_engine_holds_the_lock_of_its_run_and_a_probe_creates_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "local", "noop")
    assert not folder.is_locked()
    assert not folder.path.exists()
    with folder.locked():
        assert folder.is_locked()
        with pytest.raises(SpecError, match="at work"), folder.locked():
            pytest.fail("two engines have one run")
    assert not folder.is_locked()


def test_an_engine_starts_although_its_lock_is_probed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "local", "noop")
    with folder.locked():
        pass
    with (folder.path / "lock").open("rb") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        unlock = threading.Timer(0.1, fcntl.flock, (probe, fcntl.LOCK_UN))
        unlock.start()
        with folder.locked():
            assert folder.is_locked()
        unlock.join()


def test_no_engine_works_on_a_system_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path, "local", "noop")
    with folder.locked():
        monkeypatch.setitem(sys.modules, "fcntl", None)
        assert not folder.is_locked()
