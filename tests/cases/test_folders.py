"""A plain folder wherever an archive is taken: the same data set, in the store as a tar of its name."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from atoll_cli.main import main
from support.archives import annotation, jpeg, rectangle, supervisely, write_files

LITTER = {".DS_Store": b"x", "ds0/img/Thumbs.db": b"x", "ds0/img/._frame_00001.jpg": b"x", ".git/HEAD": b"x"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    write_files({**supervisely(12, project="Reef 2025"), **{f"Reef 2025/{k}": v for k, v in LITTER.items()}}, tmp_path)


def pushed() -> Path:
    return Path("store/datasets/local/Reef 2025.tar")


def test_push_packs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "Reef 2025", "--store", "store"]) == 0
    printed = capsys.readouterr().out
    assert "Reef 2025: 12 pictures, 12 boxes, 1 class (supervisely)" in printed
    with tarfile.open(pushed()) as archive:
        names = archive.getnames()
    assert sorted(names) == sorted(name.removeprefix("Reef 2025/") for name in supervisely(12, project="Reef 2025"))


def test_the_same_folder_gives_the_same_bytes() -> None:
    assert main(["push", "Reef 2025", "--store", "store"]) == 0
    first = pushed().read_bytes()
    for path in Path("Reef 2025").rglob("*.jpg"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    assert main(["push", "./Reef 2025/", "--store", "store"]) == 0
    assert pushed().read_bytes() == first


def test_new_takes_a_folder_and_names_it_to_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "Reef 2025", "--no-timing", "--random"]) == 0
    printed = capsys.readouterr().out
    assert "Reef 2025: 12 pictures, 12 boxes, 1 class" in printed
    assert "next: atoll run -f run.yaml --data 'Reef 2025'" in printed
    assert 'key: "datasets/local/Reef 2025.tar"' in Path("run.yaml").read_text()


def test_new_knows_that_the_folder_was_pushed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "Reef 2025", "--store", "store"]) == 0
    capsys.readouterr()
    assert main(["new", "Reef 2025", "--store", "store", "--no-timing", "--random", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["next"] == ["atoll run -f run.yaml --store store"]


def test_new_in_the_folder_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("Reef 2025")
    assert main(["new", ".", "--no-timing", "--random", "--store", "../store"]) == 0
    assert "12 pictures, 12 boxes, 1 class" in capsys.readouterr().out
    assert 'key: "datasets/local/Reef 2025.tar"' in Path("run.yaml").read_text()


def test_a_folder_that_holds_the_store_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("Reef 2025/atoll-store/.atoll").mkdir(parents=True)
    assert main(["push", "Reef 2025", "--store", "store"]) == 20
    assert "Reef 2025 holds the store Reef 2025/atoll-store" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["push", "--store", "store"], ["new", "--no-timing", "--random"]])
def test_a_link_is_named_and_not_followed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("elsewhere.jpg").write_bytes(jpeg(99))
    Path("Reef 2025/ds0/img/linked.jpg").symlink_to(Path("elsewhere.jpg").resolve())
    Path("Reef 2025/ds0/ann/linked.jpg.json").write_bytes(annotation([rectangle("note", 1, 1, 9, 9)]))
    assert main([*command, "Reef 2025"]) == 11
    assert '"ds0/img/linked.jpg": symbolic link' in capsys.readouterr().err
    assert not pushed().exists()


def test_weights_are_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "--weights", "Reef 2025", "--store", "store"]) == 20
    assert "--weights Reef 2025 is a folder" in capsys.readouterr().err
