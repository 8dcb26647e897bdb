"""`atoll new` on real archives; the timing of this machine has a test of its own."""

import json
from pathlib import Path

import pytest

from atoll_cli.draft.settings import Settings
from atoll_cli.main import main
from atoll_contract.keys import imagenet_names
from atoll_contract.tool_reports import Timing
from support import archives

NO_TIMING = ("--no-timing",)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATOLL_STORE", raising=False)
    weights = tmp_path / "weights" / imagenet_names(0.5)[0]
    weights.parent.mkdir()
    weights.write_bytes(b"never read here")
    monkeypatch.setenv("ATOLL_WEIGHTS_DIR", str(weights.parent))
    (tmp_path / "Reef 2025.tar").write_bytes(archives.tar_bytes(archives.supervisely(12, labels=("coral", "algae"))))


def test_an_archive_becomes_a_file_that_validates_and_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "Reef 2025.tar", *NO_TIMING]) == 0
    printed = capsys.readouterr().out
    assert "12 pictures, 24 boxes, 2 classes" in printed
    assert "next: atoll run -f run.yaml --data 'Reef 2025.tar'" in printed
    assert main(["validate", "-f", "run.yaml"]) == 0
    assert "TrainingRun/reef-2025: valid" in capsys.readouterr().out


def test_what_is_left_out_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    files = archives.supervisely(12)
    files["game/ds0/img/frame_00004.jpg"] = files["game/ds0/img/frame_00001.jpg"]
    Path("copies.tar").write_bytes(archives.tar_bytes(files))
    assert main(["new", "copies.tar", *NO_TIMING]) == 0
    counts = "11 of 12 pictures (left out: 1 exact duplicate), 11 boxes, 1 class"
    assert f"copies.tar: {counts}" in capsys.readouterr().out
    assert f"# copies.tar: {counts}" in Path("run.yaml").read_text()


def test_small_objects_get_a_larger_input_and_its_price(capsys: pytest.CaptureFixture[str]) -> None:
    files = archives.supervisely(20)
    for name in [name for name in files if "/ann/" in name]:
        files[name] = archives.annotation([archives.rectangle("note", 20, 20, 23, 22)])
    Path("small.tar").write_bytes(archives.tar_bytes(files))
    assert main(["new", "small.tar", *NO_TIMING]) == 0
    printed = capsys.readouterr().out
    # 3 of 64 and 2 of 48 pixels: 14.1 in an input of 320, 18.4 in one of 416, 22.6 in one of 512.
    assert "input: 512 pixels, as 100% of the boxes are below 20 pixels in an input of 320, 0% in this one" in printed
    assert "architecture: ssd-mobilenet-v2-fpnlite-512 #" in Path("run.yaml").read_text()
    assert main(["validate", "-f", "run.yaml"]) == 0


def test_bad_labels_beyond_the_limit_are_taken_when_the_user_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    files = archives.voc(20) | {
        f"Annotations/broken{number}.xml": archives.voc_xml(f"p{number}.jpg", [("note", 9, 9, 9, 20)])
        for number in range(8)
    }
    files |= {f"JPEGImages/broken{number}.jpg": archives.jpeg(100 + number) for number in range(8)}
    Path("bad.tar").write_bytes(archives.tar_bytes(files))
    assert main(["new", "bad.tar", *NO_TIMING]) == 14
    assert main(["push", "bad.tar", "--store", "store"]) == 14
    assert "limit 1 %" in capsys.readouterr().err
    assert main(["new", "bad.tar", "--max-invalid-percent", "40", *NO_TIMING]) == 0
    assert 'maxInvalidPercent: "40"' in Path("run.yaml").read_text()
    assert main(["validate", "-f", "run.yaml"]) == 0
    assert main(["push", "bad.tar", "--store", "store", "--max-invalid-percent", "40"]) == 0


def test_a_file_is_never_overwritten_without_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("mine\n")
    assert main(["new", "Reef 2025.tar", *NO_TIMING]) == 20
    assert "run.yaml exists and is not overwritten; --force" in capsys.readouterr().err
    assert Path("run.yaml").read_text() == "mine\n"
    assert main(["new", "Reef 2025.tar", "--force", *NO_TIMING]) == 0
    assert "kind: TrainingRun" in Path("run.yaml").read_text()


def test_a_pushed_archive_is_found_by_key_by_name_or_as_the_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "Reef 2025.tar", "--store", "atoll-store"]) == 0
    for number, named in enumerate((["datasets/local/Reef 2025.tar"], ["Reef 2025.tar"], [])):
        capsys.readouterr()
        assert main(["new", *named, "--to", f"{number}.yaml", "-o", "json", *NO_TIMING]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["next"] == [f"atoll run -f {number}.yaml"]
        assert 'key: "datasets/local/Reef 2025.tar"' in Path(f"{number}.yaml").read_text()


def test_one_of_several_stored_archives_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.tar").write_bytes(archives.tar_bytes(archives.supervisely(5, first=50, labels=("coral",))))
    assert main(["push", "Reef 2025.tar", "b.tar", "--store", "store"]) == 0
    assert main(["new", "--store", "store", *NO_TIMING]) == 20
    assert "name an archive" in capsys.readouterr().err
    assert main(["new", "b.tar", "Reef 2025.tar", "--store", "store", *NO_TIMING]) == 0
    assert "17 pictures" in capsys.readouterr().out
    text = Path("run.yaml").read_text()
    assert text.index("key: datasets/local/b.tar") < text.index('key: "datasets/local/Reef 2025.tar"')


def test_the_timing_of_this_machine_says_that_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def benchmark(on_cpu: Settings, on_gpu: Settings) -> Timing:
        said.append(capsys.readouterr().err)
        return Timing("cpu", 2, on_cpu.width, on_cpu.batch, seconds_per_step=0.5, other_seconds=60.0)

    monkeypatch.setattr("atoll_cli.commands.new.benchmark_for", lambda _: benchmark)
    assert main(["new", "Reef 2025.tar"]) == 0
    assert len(said) == 1
    assert "timing a few training steps on this machine (--no-timing leaves it out)\n" in said[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.tar"], 10, "there is no file none.tar here, nor in"),
        (["nothing", "--store", "s"], 13, "nothing: it is empty; it holds no file"),
        (["broken.tar"], 13, "error: broken.tar: unexpected end of archive"),
        (["broken.tar"], 13, "no file was written"),
        (["Reef 2025.tar", "--from", "reef"], 20, "write <model>-v<number>"),
        (["Reef 2025.tar", "--from", "reef-v1"], 20, "there is no release reef-v1"),
        (["Reef 2025.tar", "--within", "soon"], 2, "write 90s, 10m, 1h30m"),
        (["Reef 2025.tar", "--name", "Big_Name"], 20, "for example big-name"),
    ],
)
def test_a_mistake_is_a_sentence(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.tar").write_bytes(Path("Reef 2025.tar").read_bytes()[:5000])
    Path("nothing").mkdir()
    store = [] if "--store" in arguments else ["--store", "store"]
    assert main(["new", *arguments, *store, *NO_TIMING]) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert not Path("run.yaml").exists()
