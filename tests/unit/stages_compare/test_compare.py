"""Two models whose detections are known, on images whose labels are known: metrics, differences, images left out."""

import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atoll_contract.document import replace, to_json
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.images import Resize
from atoll_contract.labelmap import format_label_map
from atoll_contract.tool_reports import ComparisonJob, Contender, ImageSource
from atoll_stages.compare.__main__ import run
from atoll_stages.compare.comparison import compare
from atoll_stages.compare.inputs import ImageSet, load_model
from atoll_stages.export.metadata import add_metadata
from atoll_stages.train.dataset import Example
from support.coloured_squares import Square, coloured_archive, squares, write_archive
from support.convert_stage import ConvertStage
from support.edge_model import LABELS, colour_detector

pytestmark = pytest.mark.timeout(300)

SWAPPED = (LABELS[1], LABELS[0])
Compared = Callable[..., dict[str, Any]]


def model(folder: Path, labels: tuple[str, ...] = LABELS) -> str:
    """The colour detector, whose classes are called as `labels` says."""
    folder.mkdir()
    (folder / "unoptimized.tflite").write_bytes(colour_detector())
    (folder / "map.pbtxt").write_text(format_label_map(labels))
    return str(folder)


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """Compares two models by their labels, on an archive of pictures."""

    def compare(
        old: tuple[str, ...],
        new: tuple[str, ...] = LABELS,
        *,
        pictures: list[list[Square]] | None = None,
        trained: tuple[str, ...] | None = None,
    ) -> dict[str, Any]:
        archive = write_archive(tmp_path / "a.tar", {"train": pictures or squares(0, 6)})
        job = ComparisonJob(
            Contender("old", model(tmp_path / "m-old", old), trained),
            Contender("new", model(tmp_path / "m-new", new), ()),
            (ImageSource("the archive", archive=str(archive)),),
            str(tmp_path / "page.html"),
        )
        (tmp_path / "work").mkdir()
        return run(job, tmp_path / "work")

    return compare


def test_the_better_model_has_the_better_figures(compared: Compared) -> None:
    [found] = compared(SWAPPED)["sets"]
    assert (found["pictures"], found["boxes"], found["leftOut"]) == (6, 12, 0)
    assert found["old"]["ap50"] == 0.0
    assert found["new"]["ap50"] == pytest.approx(1.0)
    assert found["difference"]["ap50"] == pytest.approx(1.0)
    assert found["difference"]["perClass"] == pytest.approx({"red": 1.0, "blue": 1.0})
    assert (found["picturesBetter"], found["picturesWorse"]) == (6, 0)


def test_classes_of_two_models_are_compared_by_name(compared: Compared) -> None:
    [found] = compared(("red", "robot"))["sets"]
    assert found["old"]["unknownClasses"] == ["blue"]
    assert found["old"]["perClass"] == pytest.approx({"red": 1.0, "blue": 0.0})
    assert found["old"]["ap50"] == pytest.approx(0.5)
    assert found["new"]["unknownClasses"] == []


def test_the_contract_page_shows_the_documents_fields(compared: Compared) -> None:
    page = (Path(__file__).parents[3] / "docs/contract.md").read_text(encoding="utf-8")
    block = re.findall(r"```json\n(.*?)```", page.split("## 7. ")[1], re.DOTALL)[0]
    shown, document = json.loads(block.split("\n\n")[0]), compared(SWAPPED)
    assert set(shown) == set(document)
    assert set(shown["sets"][0]) == set(document["sets"][0])
    for name in ("old", "new", "difference"):
        assert set(shown["sets"][0][name]) == set(document["sets"][0][name]) - {"apSmall"}


def test_equal_models_differ_in_nothing(compared: Compared) -> None:
    [found] = compared(LABELS)["sets"]
    assert found["difference"] == {
        "ap50": 0.0,
        "ap": 0.0,
        "ap50Interval": [0.0, 0.0],
        "perClass": {"red": 0.0, "blue": 0.0},
    }
    low, high = found["old"]["ap50Interval"]
    assert low <= found["old"]["ap50"] <= high
    assert (found["picturesBetter"], found["picturesWorse"]) == (0, 0)


def test_the_page_shows_both_models_on_the_images_where_they_differ(compared: Compared, tmp_path: Path) -> None:
    compared(SWAPPED, trained=())
    page = (tmp_path / "page.html").read_text()
    assert "old against new" in page
    assert page.count("data:image/jpeg;base64,") == 12
    assert "+1.000" in page
    assert "is not known" not in page
    assert "://" not in page


def test_a_note_says_that_a_models_training_images_are_not_known(compared: Compared) -> None:
    assert compared(SWAPPED)["notes"] == [
        "What old was trained on is not known; if it was these pictures, its figures are too good."
    ]


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """Records of a conversion: pictures 0–3 to train, 4–5 to validate, 6–8 to test."""
    root = tmp_path / "stage"
    parts = {"train": squares(0, 4), "val": squares(4, 2), "test": squares(6, 3)}
    ended = ConvertStage(root).put("a.tar", coloured_archive(parts)).run()
    dataset = ended.dataset()
    found = {
        name: tuple(str(ended.store / shard.key) for shard in part.shards) for name, part in dataset.splits.items()
    }
    return {**found, "labels": (str(ended.store / dataset.label_map.key),)}


def job_on(shards: dict[str, tuple[str, ...]], part: str, tmp_path: Path, *, trained: tuple[str, ...]) -> ComparisonJob:
    source = ImageSource(part, shards=shards[part], labels=shards["labels"][0])
    old = Contender("old", model(tmp_path / "m-old"), ())
    new = Contender("new", model(tmp_path / "m-new"), trained)
    return ComparisonJob(old, new, (source,), str(tmp_path / "page.html"))


def test_images_of_a_training_split_are_left_out(shards: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    """The new model was trained on an archive that shares two pictures with the old one's test part."""
    root = tmp_path / "later"
    parts = {"train": [*squares(7, 2), *squares(20, 3)], "val": squares(30, 1)}
    ended = ConvertStage(root).put("b.tar", coloured_archive(parts)).run()
    trained = tuple(str(ended.store / shard.key) for shard in ended.dataset().splits["train"].shards)
    (tmp_path / "work").mkdir()
    [found] = run(job_on(shards, "test", tmp_path, trained=trained), tmp_path / "work")["sets"]
    assert (found["pictures"], found["leftOut"]) == (1, 2)
    assert found["new"]["ap50"] == pytest.approx(1.0)


def test_a_set_that_a_model_was_trained_on_entirely_is_refused(
    shards: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(DatasetError, match="all 3 pictures were in the training part") as raised:
        run(job_on(shards, "test", tmp_path, trained=shards["test"]), tmp_path / "work")
    assert raised.value.reason is Reason.NO_USABLE_EXAMPLES


def test_a_set_that_a_model_was_trained_on_is_a_note_beside_another(
    shards: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    """A split by hash changes when images are added: the old evaluation pictures may be the new training's."""
    (tmp_path / "work").mkdir()
    job = job_on(shards, "test", tmp_path, trained=shards["test"])
    other = replace(job.sources[0], name="others", shards=shards["train"])
    document = run(replace(job, sources=(*job.sources, other)), tmp_path / "work")
    assert [item["name"] for item in document["sets"]] == ["others"]
    assert any("all 3 pictures were in the training part" in note for note in document["notes"])


def test_it_works_without_tensorflow(shards: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    """A laptop that only looks has LiteRT; TensorFlow is hundreds of megabytes."""
    job = tmp_path / "job.json"
    job.write_bytes(to_json(job_on(shards, "test", tmp_path, trained=())))
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; "
        f"sys.argv = ['compare', {str(job)!r}]; runpy.run_module('atoll_stages.compare', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sets"][0]["new"]["ap50"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no model"),
        ({"unoptimized.tflite": b"nothing", "map.pbtxt": b'item { id: 1 name: "a" }'}, "cannot be run"),
        ({"unoptimized.tflite": b"nothing", "map.pbtxt": b"item {"}, "map.pbtxt"),
        ({"model.tar.gz": b"nothing"}, "model.tar.gz"),
    ],
)
def test_files_that_are_no_model_are_refused_with_a_sentence(
    tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    contender = Contender("old", str(folder), ())
    job = ComparisonJob(contender, contender, (), str(tmp_path / "page.html"))
    with pytest.raises((SpecError, DatasetError), match=sentence):
        run(job, tmp_path / "work")


@pytest.mark.parametrize("packed", ["folder", "file", "bundle"])
def test_v1_corals_list_of_names_stands_for_a_missing_label_map(tmp_path: Path, packed: str) -> None:
    folder = Path(model(tmp_path / "coral"))
    (folder / "map.pbtxt").unlink()
    (folder / "labels.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(LABELS)))
    path = {"folder": folder, "file": folder / "unoptimized.tflite", "bundle": tmp_path / "model.tar.gz"}[packed]
    if packed == "bundle":
        with tarfile.open(path, "w:gz") as archive:
            for file in folder.iterdir():
                archive.add(file, file.name)
    found = load_model(Contender("coral", str(path), ()), tmp_path / "work")
    assert found.labels == LABELS


def test_each_model_sees_images_as_it_was_trained(tmp_path: Path) -> None:
    """A wide image of one red square that fills a cell of the input, if its aspect ratio is kept."""
    pixels = np.full((64, 256, 3), 110, np.uint8)
    pixels[:32, 64:96] = (255, 0, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    box = np.array([[0.0, 0.25, 0.5, 0.375]], np.float32)
    example = Example("wide.png", stream.getvalue(), 256, 64, box, np.zeros(1, np.int32))
    squashing, letterboxing = Path(model(tmp_path / "old")), Path(model(tmp_path / "new"))
    marked = add_metadata(colour_detector(), name="new", labels=LABELS, resize=Resize.LETTERBOX)
    (letterboxing / "unoptimized.tflite").write_bytes(marked)
    old, new = (
        load_model(Contender(path.name, str(path), ()), tmp_path / "work") for path in (squashing, letterboxing)
    )
    assert (old.resize, new.resize) == (Resize.SQUASH, Resize.LETTERBOX)
    found = compare(ImageSet("wide", LABELS, [example]), old, new, on_progress=lambda _: None)
    assert found.old.metrics.ap50 == 0.0
    assert found.new.metrics.ap50 == pytest.approx(1.0)
    (assessed,) = found.new.assessments
    np.testing.assert_allclose(assessed.detections.boxes, box, atol=0.02)
