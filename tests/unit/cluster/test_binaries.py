"""Finding and building the bench's programs; the builds here are of a module of a few lines."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster import binaries
from cluster.binaries import BinaryError, ensure
from support.polling import wait_until


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATOLL_TEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for `tests/cluster/go`, with one program that prints a word."""
    folder = tmp_path / "go"
    (folder / "etcd").mkdir(parents=True)
    (folder / "etcd" / "go.mod").write_text("module go.etcd.io/etcd/server/v3\n\ngo 1.24\n")
    (folder / "etcd" / "go.sum").touch()
    (folder / "etcd" / "main.go").write_text('package main\n\nfunc main() { println("reef") }\n')
    monkeypatch.setattr(binaries, "GO_MODULES", folder)
    return folder


def test_every_program_is_pinned_by_a_module_with_sums() -> None:
    for program in binaries.PROGRAMS.values():
        folder = binaries.GO_MODULES / program.module
        assert program.package in (folder / "go.mod").read_text(encoding="utf-8")
        assert (folder / "go.sum").stat().st_size > 0


def test_assets_of_the_user_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "etcd"
    own.touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert ensure("etcd") == own


def test_an_unknown_program_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BinaryError, match=r"'k3s' is no program of the test bench; there are minio, etcd"):
        ensure("k3s")


def test_without_go_the_message_says_what_to_install(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BinaryError, match="install Go"):
        ensure("etcd")


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_a_program_is_built_once_and_again_when_its_pins_change(modules: Path) -> None:
    first = ensure("etcd")
    assert subprocess.run([first], capture_output=True, check=True, timeout=10).stderr == b"reef\n"
    built = first.stat().st_mtime_ns
    assert ensure("etcd") == first
    assert first.stat().st_mtime_ns == built
    (modules / "etcd" / "go.sum").write_text("\n")
    assert ensure("etcd") != first


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_a_failed_build_says_why_and_leaves_no_program(modules: Path, cache: Path) -> None:
    (modules / "etcd" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(BinaryError, match="undefined: undefined"):
        ensure("etcd")
    assert not list(cache.rglob("etcd"))


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_two_builders_do_not_collide(modules: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cluster.binaries")
    path = binaries._cached_path(binaries.PROGRAMS["etcd"])
    path.parent.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD_LOCK, str(path.parent / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    waiter = threading.Thread(target=ensure, args=("etcd",))
    waiter.start()
    wait_until(lambda: "another process is building" in caplog.text, what="the second builder to wait")
    assert not path.exists()
    holder.communicate(b"\n", timeout=10)
    waiter.join(60)
    assert os.access(path, os.X_OK)


_HOLD_LOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as handle:
    fcntl.flock(handle, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
"""
