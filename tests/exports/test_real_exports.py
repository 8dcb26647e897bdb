"""Data sets that other people's libraries wrote: read with the boxes, classes and split that went into them.

The libraries live in environments of their own, which `make test-exports` makes. They serve every format but the CSV
of TensorFlow's tools, which no kept library writes.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from atoll_contract.archive.members import UPLOAD_PREFIX
from support.archives import picture
from support.export_environment import python_with
from support.read_back import PixelBox, ReadBack, read_back

pytestmark = [pytest.mark.exports, pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
SIZE = (96, 64)
CLASSES = {"cone", "cube"}
T, V = "train", "validation"
NEGATIVE = "würfel 3.png"
# Folder of each export → the format that Atoll finds, and the largest difference of an edge in pixels.
EXACT = {
    "datumaro-coco": "coco",
    "datumaro-cvat": "cvat",
    "datumaro-labelme-xml": "voc",
    "datumaro-voc": "voc",
    "datumaro-yolo": "yolo",
    "datumaro-yolo-ultralytics": "yolo",
    "labelformat-coco": "coco",
    "labelformat-cvat": "cvat",
    "labelformat-voc": "voc",
    "labelformat-yolo": "yolo",
    "supervision-coco": "coco",
    "supervision-createml": "createml",
    "supervision-labelme": "labelme",
    "supervision-yolo": "yolo",
    "label-studio-coco": "coco",
    "label-studio-voc": "voc",
    "label-studio-yolo": "yolo",
    "label-studio-yolo-obb": "yolo",
    "supervisely": "supervisely",
}
# supervision counts VOC's pixels from 1, as the devkit did; labelImg, CVAT and the others count edges from 0.
ROUNDED = {"supervision-voc": "voc"}
# These write no XML for a picture without objects.
WITHOUT_NEGATIVES = {"datumaro-voc", "label-studio-voc"}


def names() -> list[str]:
    return [f"würfel {number}.png" if number % 2 else f"frame_{number:03d}.png" for number in range(8)]


def boxes_of(number: int) -> list[PixelBox]:
    name = names()[number]
    if name == NEGATIVE:
        return []
    first: PixelBox = ("cone" if number % 2 else "cube", 10 + number, 8, 40 + number, 32)
    return [first, ("cone", 50, 30, 71, 41)] if number % 3 == 0 else [first]


def expected_boxes() -> dict[str, list[PixelBox]]:
    return {name: sorted(boxes_of(number)) for number, name in enumerate(names())}


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a data set by each writer."""
    source, out = tmp_path_factory.mktemp("set"), tmp_path_factory.mktemp("exports")
    images = []
    for number, name in enumerate(names()):
        picture(number, size=SIZE).save(source / name)
        split = "train" if number < 5 else "val"
        images.append({"name": name, "split": split, "size": SIZE, "boxes": boxes_of(number)})
    (source / "set.json").write_text(json.dumps({"classes": sorted(CLASSES), "images": images}))
    for lock, script in (("exports", "write_formats.py"), ("supervisely", "write_supervisely.py")):
        command = [str(python_with(lock)), "-W", "ignore", str(HERE / script), str(source), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return out


def read(folder: Path, work: Path) -> ReadBack:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return read_back(files, work)


def plain_name(name: str) -> str:
    return UPLOAD_PREFIX.sub("", PurePosixPath(name).name)


def assert_near(found: Mapping[str, list[PixelBox]], expected: Mapping[str, list[PixelBox]], pixels: float) -> None:
    assert found.keys() == expected.keys()
    for name, boxes in expected.items():
        assert [box[0] for box in found[name]] == [box[0] for box in boxes], name
        for box, other in zip(found[name], boxes, strict=True):
            assert box[1:] == pytest.approx(other[1:], abs=pixels), name


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_boxes_classes_and_split_are_those_that_went_in(name: str, exports: Path, tmp_path: Path) -> None:
    result = read(exports / name, tmp_path)
    assert result.formats == ({**EXACT, **ROUNDED}[name],)
    assert set(result.classes) == CLASSES
    expected = expected_boxes()
    counts: dict[str, int] = {}
    if name in WITHOUT_NEGATIVES:
        del expected[NEGATIVE]
        counts["AnnotationMissing"] = 1
    if name == "label-studio-yolo-obb":
        counts["BoxAround"] = sum(map(len, expected.values()))
    found = {plain_name(image): sorted(boxes) for image, boxes in result.boxes.items()}
    # Half of the last digit that the formats write, and of the two that `ReadBack` keeps.
    assert_near(found, expected, 1 if name in ROUNDED else 0.011)
    assert result.counts == counts
    if not name.startswith("label-studio"):
        split = {image: T if number < 5 else V for number, image in enumerate(names()) if image in expected}
        assert {plain_name(image): part for image, part in result.split.items()} == split


def test_every_export_is_read(exports: Path) -> None:
    written = {path.name for path in exports.iterdir() if not path.name.startswith(".")}
    assert written == EXACT.keys() | ROUNDED.keys()
