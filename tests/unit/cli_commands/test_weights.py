"""`atoll weights` and what `atoll new` says without any."""

import json
from pathlib import Path

import pytest

from atoll_cli.draft.targets import NO_WEIGHTS
from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.files import file_sha256
from atoll_contract.tool_reports import WeightsFile
from atoll_contract.train_spec import TrainedOn
from support import archives

OTHER, NAME = keys.imagenet_names(1.0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and a Keras whose file is `served`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    monkeypatch.delenv("ATOLL_WEIGHTS_DIR", raising=False)
    served = tmp_path / "served"
    served.write_bytes(b"first")

    def fetched(width: float, source: Path | None, folder: Path, *, trained_on: TrainedOn) -> WeightsFile:
        path = folder / (NAME if trained_on is TrainedOn.IMAGENET else OTHER)
        path.write_bytes((source or served).read_bytes())
        digest, size = file_sha256(path), path.stat().st_size
        return WeightsFile(str(source or trained_on), width, path=str(path), sha256=digest, size=size, layers=104)

    monkeypatch.setattr("atoll_cli.commands.weights.fetch_weights", fetched)


def test_weights_are_put_where_a_training_finds_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    stored = Path("atoll-store/weights") / NAME
    assert stored.read_bytes() == b"first"
    assert (document["key"], document["sha256"]) == (keys.weights(NAME), file_sha256(stored))
    assert main(["weights"]) == 0
    assert file_sha256(stored) in capsys.readouterr().out


def test_other_bytes_than_the_first_are_refused_unless_they_are_to_replace_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["weights"]) == 0
    Path("served").write_bytes(b"other")
    assert main(["weights"]) == 50
    assert "was first put there with" in capsys.readouterr().err
    assert (Path("atoll-store/weights") / NAME).read_bytes() == b"first"
    assert main(["weights", "--replace"]) == 0
    assert (Path("atoll-store/weights") / NAME).read_bytes() == b"other"


def test_a_store_has_one_file_of_each_width(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("atoll-store/weights")
    assert main(["weights"]) == 0
    assert main(["weights", "--trained-on", "open-images"]) == 50
    told = capsys.readouterr().err
    assert f"has weights/{NAME} already" in told
    assert "--replace takes the new one and removes that" in told
    assert [path.name for path in folder.glob("*.h5")] == [NAME]
    assert main(["weights", "--trained-on", "open-images", "--replace"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [OTHER, f"{OTHER}.json"]


def test_weights_that_another_machine_made_from_the_same_file_are_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"source_sha256": "a" * 64}

    def made(width: float, source: Path | None, folder: Path, *, trained_on: TrainedOn) -> WeightsFile:
        path = folder / OTHER
        path.write_bytes(Path("served").read_bytes())
        return WeightsFile("there", width, str(path), file_sha256(path), 1, 104, source_sha256=given["source_sha256"])

    monkeypatch.setattr("atoll_cli.commands.weights.fetch_weights", made)
    assert main(["weights"]) == 0
    Path("served").write_bytes(b"rounded otherwise")
    assert main(["weights"]) == 0
    given["source_sha256"] = "b" * 64
    assert main(["weights"]) == 50
    assert "was first put there with" in capsys.readouterr().err


def test_the_file_that_has_learned_to_detect_has_one_width(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "--trained-on", "open-images", "--width", "0.5"]) == 20
    assert "has the width 1.0 alone, not --width 0.5" in capsys.readouterr().err
    Path("mine.h5").write_bytes(b"mine")
    assert main(["weights", "--trained-on", "open-images", "--from", "mine.h5"]) == 20
    assert "takes a .tflite file, which --from mine.h5 is not" in capsys.readouterr().err
    assert not Path("atoll-store").exists()


def test_a_file_serves_where_there_is_no_internet() -> None:
    Path("mine.h5").write_bytes(b"mine")
    assert main(["weights", "--from", "mine.h5"]) == 0
    assert (Path("atoll-store/weights") / NAME).read_bytes() == b"mine"


def test_a_draft_never_starts_from_random_weights_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("reef.tar").write_bytes(archives.tar_bytes(archives.supervisely(12)))
    assert main(["new", "reef.tar", "--no-timing"]) != 0
    told = capsys.readouterr().err
    assert NO_WEIGHTS in told
    assert "`atoll weights` gets them" in NO_WEIGHTS
    assert "--random" in NO_WEIGHTS
    assert not Path("run.yaml").exists()
    assert main(["new", "reef.tar", "--no-timing", "--random"]) == 0
    assert "initFrom: { type: random }" in Path("run.yaml").read_text()
    assert main(["weights"]) == 0
    assert main(["new", "reef.tar", "--no-timing", "--force"]) == 0
    assert "initFrom: { type: imagenet }" in Path("run.yaml").read_text()
    assert main(["new", "reef.tar", "--no-timing", "--force", "--random", "--from", "reef-v1"]) == 20
