"""`atoll prune` on a folder store, as a user calls it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from atoll_cli.local.state import RunFolder, RunRecord, write_record
from atoll_cli.main import main
from atoll_cli.param_types import format_size
from atoll_contract.store.directory import DirStore

DAY = 86400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a run that is gone, one that is at work, and one of yesterday; all files are 40 days old."""
    folder = tmp_path / "store"
    store = DirStore(folder)
    old = ("runs/local/gone/a/b", "runs/local/active/a/b", "runs/team/gone/a/b", "cache/local/datasets/cc/dataset.json")
    for key in (*old, "blobs/sha256/aa"):
        store.put(key, b"x" * 1500)
        os.utime(folder / key, (time.time() - 40 * DAY,) * 2)
    store.put("runs/local/young/a/b", b"x")
    document = {"metadata": {"name": "note", "namespace": "local"}, "spec": {}}
    run = RunFolder(folder.resolve(), "local", "note")
    run.path.mkdir(parents=True)
    write_record(run, RunRecord("active", "2026-01-09T19:00:00Z", document, {}, status={"phase": "Training"}))
    return folder


def listed(folder: Path) -> set[str]:
    return {info.key for info in DirStore(folder).list("")}


def test_without_yes_nothing_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    before = listed(folder)
    assert main(["prune", "--store", str(folder)]) == 0
    printed = capsys.readouterr()
    assert listed(folder) == before
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "run runs/local/gone/ 1 1.5 kB its run is gone, the last file 40 days old" in lines
    assert "blob blobs/sha256/aa 1 1.5 kB no manifest names it, 40 days old" in lines
    assert printed.out.splitlines()[-1] == f"in {folder}: 2 files, 3.0 kB; nothing is removed without --yes"
    assert "conversions stay" in printed.err


def test_with_yes_files_are_removed_and_a_second_call_finds_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "--store", str(folder), "--yes"]) == 0
    cached = "cache/local/datasets/cc/dataset.json"
    assert listed(folder) == {"runs/local/active/a/b", "runs/local/young/a/b", "runs/team/gone/a/b", cached}
    assert capsys.readouterr().out.splitlines()[-1] == f"removed from {folder}: 2 files, 3.0 kB"
    assert main(["prune", "--store", str(folder)]) == 0
    assert capsys.readouterr().out == f"nothing to remove in {folder}\n"


def test_json_lists_the_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--store", str(folder), "-n", "team", "--older-than", "35d", "-o", "json", "--yes"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(item["kind"], item["name"], item["removed"]) for item in document["groups"]] == [
        ("run", "runs/team/gone/", True),
        ("blob", "blobs/sha256/aa", True),
    ]
    assert (document["namespace"], document["bytes"], document["removedBytes"]) == ("team", 3000, 3000)
    assert "runs/local/gone/a/b" in listed(folder)


def test_runs_of_a_cluster_are_none_of_the_local_engines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listed(folder)
    assert main(["prune", "--store", str(folder), "--runs", "--yes"]) == 2
    assert "--runs is for the runs of a cluster" in capsys.readouterr().err
    assert listed(folder) == before


@pytest.mark.parametrize(
    ("count", "message"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes_are_printed_with_units(count: int, message: str) -> None:
    assert format_size(count) == message
