"""The files of the sample: archives that convert reads, frames of films, and a harvest as labelling gives it back."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from atoll_contract.document import from_json
from atoll_contract.stage_result import parse_line
from atoll_contract.tool_reports import LintReport, SampleFiles
from atoll_stages.convert.lint import run_lint
from atoll_stages.sample.__main__ import main
from atoll_stages.sample.field import MIN_IMAGES, SampleSpec, write_archive
from atoll_stages.sample.scene import CLASSES

ARGUMENTS = ["--pictures=12", "--size", "96", "72", "--video-frames=24"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> SampleFiles:
    with pytest.MonkeyPatch.context() as patch:
        out, error = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", error)
        assert main(["field", f"--to={folder}", *ARGUMENTS]) == 0
    assert any(parse_line(line) for line in error.getvalue().splitlines())
    return from_json(SampleFiles, out.getvalue())


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {item.name: tar.extractfile(item).read() for item in tar}  # type: ignore[union-attr]


def test_what_is_reported_lies_there(drawn: SampleFiles, folder: Path) -> None:
    assert [item.file for item in drawn.archives] == ["field.tar", "harvest.tar"]
    for archive in drawn.archives:
        files = members(folder / archive.file)
        labels = [json.loads(data) for name, data in files.items() if "/ann/" in name]
        titles = [item["classTitle"] for document in labels for item in document["objects"]]
        assert len(labels) == archive.pictures
        assert {title: titles.count(title) for title in set(titles)} == archive.boxes
    assert len(list((folder / "camera").iterdir())) == len(list((folder / "match").iterdir())) == 24


def test_convert_reads_the_archive_without_a_problem(
    drawn: SampleFiles, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drawn
    capsys.readouterr()
    assert run_lint(["--lint", str(folder / "field.tar"), "--json"]) == 0
    report = from_json(LintReport, capsys.readouterr().out)
    assert (report.ok, report.pictures, report.problem_counts) == (True, 12, {})
    assert report.split == {"train": 9, "validation": 3}
    assert {item.name for item in report.classes} == set(CLASSES)
    assert sum(sum(item.boxes.values()) for item in report.classes) == sum(drawn.archives[0].boxes.values())


def test_the_harvest_is_of_the_match_and_named_as_a_batch(drawn: SampleFiles, folder: Path) -> None:
    assert drawn
    images = {name: data for name, data in members(folder / "harvest.tar").items() if "/img/" in name}
    assert len(images) == 3
    for name, data in images.items():
        found = re.fullmatch(r"harvest/robot/img/robot-front-[a-z]+_(\d{5})\.jpg", name)
        assert found
        assert data == (folder / "match" / f"{int(found[1]) - 1:05d}.jpg").read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (96, 72)


def test_the_bytes_depend_on_the_seed_and_not_on_the_processes(tmp_path: Path) -> None:
    written = []
    for name, processes, seed in (("one", 1, 0), ("two", 2, 0), ("other", 1, 1)):
        (tmp_path / name).mkdir()
        spec = SampleSpec(seed, images=2 * MIN_IMAGES, size=(64, 64), video_frames=0)
        described = write_archive(spec, tmp_path / name, processes, lambda: None)
        written.append((described, (tmp_path / name / "field.tar").read_bytes()))
    one, two, other = written
    assert one == two
    assert one[0] != other[0]
    assert one[1] != other[1]
