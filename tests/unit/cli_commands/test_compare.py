"""`atoll compare` on releases of a local store: which pictures it takes, what it prints, what it misses."""

import json
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.main import main
from atoll_contract.document import replace
from atoll_contract.keys import RunRef
from atoll_contract.release import Manifest
from atoll_contract.store import directory_store, open_store
from support.coloured_squares import coloured_archive, squares, write_archive
from support.convert_stage import ConvertStage, Ended
from support.edge_model import LABELS, write_model
from support.edge_release import publish

pytestmark = pytest.mark.timeout(300)


def converted(root: Path, first: int) -> Ended:
    """A dataset with pictures from number `first` on: four to train, two to validate, three to test."""
    parts = {"train": squares(first, 4), "val": squares(first + 4, 2), "test": squares(first + 6, 3)}
    stage = ConvertStage(root)
    return stage.put(f"{first}.tar", coloured_archive(parts)).run()


def release(root: Path, version: int, dataset: Ended, labels: tuple[str, ...] = LABELS) -> None:
    """Publish a version that names the dataset as its run's."""

    def alter(manifest: Manifest) -> Manifest:
        provenance = {"datasetDigest": dataset.dataset().digest}
        return replace(manifest, labels=labels, provenance=provenance, run=RunRef("team", "run", "uid"))

    publish(open_store(directory_store(root / "store")), version, alter=alter)


def compared(root: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    store = ["--store", str(root / "store"), "-o", "json", "--to", str(root / "page.html")]
    assert main(["compare", "colours-v1", "colours-v2", *store, *options]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_both_models_run_on_the_evaluation_images_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release(tmp_path, 1, converted(tmp_path, 0), labels=("blue", "red"))
    release(tmp_path, 2, converted(tmp_path, 16))
    document = compared(tmp_path, capsys=capsys)
    assert [item["name"] for item in document["sets"]] == [
        "evaluation pictures of colours-v1 (test)",
        "evaluation pictures of colours-v2 (test)",
    ]
    assert [item["pictures"] for item in document["sets"]] == [3, 3]
    assert [(item["old"]["ap50"], item["new"]["ap50"]) for item in document["sets"]] == [(0.0, 1.0), (0.0, 1.0)]
    assert document["notes"] == []
    assert "colours-v1 against colours-v2" in (tmp_path / "page.html").read_text()


def test_a_dataset_that_both_share_gives_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = converted(tmp_path, 0)
    release(tmp_path, 1, dataset, labels=("red", "robot"))
    release(tmp_path, 2, dataset)
    store = ["--store", str(tmp_path / "store"), "--to", str(tmp_path / "page.html")]
    assert main(["compare", "colours-v1", "colours-v2", *store]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "evaluation pictures of colours-v1 and colours-v2 (test): 3 pictures, 6 boxes"
    cells = [line.split() for line in lines]
    assert ["AP50", "0.500", "1.000", "+0.500"] in cells
    assert ["AP50", "blue", "not", "known", "1.000", "+1.000"] in cells


def test_a_labelled_archive_replaces_the_evaluation_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of its pictures are in the new release's training part, and do not count."""
    release(tmp_path, 1, converted(tmp_path, 0))
    release(tmp_path, 2, converted(tmp_path, 16))
    archive = write_archive(tmp_path / "own.tar", {"any": [*squares(16, 2), *squares(28, 3)]})
    [found] = compared(tmp_path, "--data", str(archive), capsys=capsys)["sets"]
    assert (found["name"], found["pictures"], found["leftOut"]) == ("own.tar", 3, 2)


def test_missing_images_are_reported_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = converted(tmp_path, 0)
    release(tmp_path, 1, dataset)
    release(tmp_path, 2, converted(tmp_path, 16))
    [shard] = dataset.dataset().splits["test"].shards
    store = open_store(directory_store(tmp_path / "store"))
    store.delete(shard.key)
    command = ["compare", "colours-v1", "colours-v2", "--store", str(tmp_path / "store")]
    assert main(command) == 20
    printed = capsys.readouterr().err
    assert "the pictures of colours-v1 are gone" in printed
    assert shard.key in printed
    assert "--data ARCHIVE" in printed


def test_models_in_files_need_labelled_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, _ = write_model(tmp_path)
    assert main(["compare", str(model), str(model)]) == 20
    assert "give labelled pictures with --data" in capsys.readouterr().err
    archive = write_archive(tmp_path / "own.tar", {"any": squares(0, 3)})
    assert main(["compare", str(model), str(model), "--data", str(archive)]) == 0
    captured = capsys.readouterr()
    assert ["AP50", "1.000", "1.000", "+0.000"] in [line.split() for line in captured.out.splitlines()]
    assert captured.err.count("is not known") == 1
    assert (tmp_path / "compare-unoptimized-unoptimized.html").is_file()
    assert main(["compare", "colours", str(model), "--data", str(archive)]) == 20
    assert "no such file or folder, and no release" in capsys.readouterr().err
