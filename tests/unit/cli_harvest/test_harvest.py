"""`atoll harvest`: a bucket of doubtful frames in, a batch that Supervisely and `atoll push` take out."""

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atoll_cli.main import main
from atoll_contract import keys
from atoll_contract.document import to_dict
from atoll_contract.release import Detection
from atoll_contract.store.directory import DirStore
from atoll_stages.convert.frames import frame_group
from support.archives import encoded, jpeg, jpeg_claiming, picture, png_header
from support.harvested_frames import note, put

Harvest = Callable[..., dict[str, Any]]


@pytest.fixture
def bucket(tmp_path: Path) -> DirStore:
    return DirStore(tmp_path / "store")


@pytest.fixture
def harvest(tmp_path: Path, bucket: DirStore, capsys: pytest.CaptureFixture[str]) -> Harvest:
    def call(*arguments: str, output: str = "batch") -> dict[str, Any]:
        where = ("--store", str(tmp_path / "store"), "--to", str(tmp_path / output))
        assert main(["harvest", *arguments, *where, "-o", "json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return call


def image_names(batch: Path) -> list[str]:
    return sorted(path.name for path in batch.glob("harvest-*/*/img/*"))


def table(batch: Path) -> list[dict[str, str]]:
    with (batch / "harvest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_devices_text_is_no_formula_in_the_table(tmp_path: Path, bucket: DirStore, harvest: Harvest) -> None:
    put(bucket, 7, camera="@SUM(A1)|cmd")
    harvest()
    assert [row["camera"] for row in table(tmp_path / "batch")] == ["'@SUM(A1)|cmd"]


def test_a_batch_is_a_supervisely_project_labelled_by_the_model(
    tmp_path: Path, bucket: DirStore, harvest: Harvest
) -> None:
    made = put(bucket, 7)
    document = harvest()
    project = tmp_path / "batch" / document["project"]
    meta = json.loads((project / "meta.json").read_text())
    assert [(item["title"], item["id"], item["shape"]) for item in meta["classes"]] == [
        ("note", 1, "rectangle"), ("robot", 2, "rectangle"),
    ]  # fmt: skip
    name = "pi-front-front-abcdefgh_00007.jpg"
    assert (project / "pi-front" / "img" / name).read_bytes() == jpeg(7)
    annotation = json.loads((project / "pi-front" / "ann" / f"{name}.json").read_text())
    assert annotation["size"] == {"width": made.width, "height": made.height}
    # The third is clipped to the picture; the second lies below its threshold.
    assert [(item["classTitle"], item["classId"], item["points"]["exterior"]) for item in annotation["objects"]] == [
        ("note", 1, [[16, 12], [48, 36]]), ("robot", 2, [[32, 0], [64, 48]]),
    ]  # fmt: skip
    with tarfile.open(tmp_path / "batch" / document["archive"]) as archive:
        members = {member.name: member for member in archive}
    assert sorted(members) == sorted(
        f"{project.name}/{path.relative_to(project).as_posix()}" for path in project.rglob("*") if path.is_file()
    )
    assert {(member.uid, member.mtime, member.uname) for member in members.values()} == {(0, 0, "")}
    assert (document["kept"], document["boxes"]) == (1, {"note": 1, "robot": 1})


def test_push_takes_a_batch_as_it_is(
    tmp_path: Path, bucket: DirStore, harvest: Harvest, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 7):
        put(bucket, number)
    archive = tmp_path / "batch" / harvest()["archive"]
    assert main(["push", str(archive), "--store", str(tmp_path / "store")]) == 0
    printed = capsys.readouterr()
    assert "6 pictures, 12 boxes, 2 classes" in printed.out
    assert "supervisely" in printed.out
    assert "problem" not in printed.out + printed.err
    assert bucket.head(keys.dataset("local", archive.name)) is not None


def test_frames_of_one_session_stay_together_in_a_split(tmp_path: Path, bucket: DirStore, harvest: Harvest) -> None:
    for number in range(1, 9):
        session = "qwertzui" if number > 4 else "abcdefgh"
        put(bucket, number, session=session, device="pi-3" if number == 1 else "pi-front", camera="Front 2!")
    harvest()
    names = image_names(tmp_path / "batch")
    assert "pi-front-Front-2-qwertzui_00005.jpg" in names
    groups = {frame_group(name) for name in names}
    assert len(groups) == 3


def test_a_limit_keeps_the_most_uncertain_frames(tmp_path: Path, bucket: DirStore, harvest: Harvest) -> None:
    for number in range(1, 9):
        put(bucket, number)
    document = harvest("--limit", "3")
    assert [name[-9:-4] for name in image_names(tmp_path / "batch")] == ["00006", "00007", "00008"]
    assert (document["found"], document["kept"], document["beyondLimit"]) == (8, 3, 5)
    assert [float(row["doubt"]) for row in table(tmp_path / "batch")] == [8.0, 7.0, 6.0]


def test_near_duplicates_are_dropped_and_every_frame_is_accounted_for(
    tmp_path: Path, bucket: DirStore, harvest: Harvest
) -> None:
    for number in (1, 2, 3):
        put(bucket, number)
    brighter = encoded(picture(2).point(lambda value: value + 4), "JPEG", quality=80)
    put(bucket, 9, picture=brighter)
    document = harvest()
    assert (document["found"], document["kept"], document["nearDuplicates"]) == (4, 3, 1)
    outcomes = {row["doubt"]: (row["fate"], bool(row["file"])) for row in table(tmp_path / "batch")}
    # Of two that are alike, the more doubtful one stays.
    assert outcomes["9.000"] == ("kept", True)
    assert outcomes["2.000"] == ("near-duplicate", False)
    assert harvest("--min-change", "0", output="all")["kept"] == 4


def test_a_device_or_a_model_can_be_named(bucket: DirStore, harvest: Harvest) -> None:
    put(bucket, 1)
    put(bucket, 2, device="pi-rear")
    put(bucket, 3, device="pi-rear", model="cubes")
    put(bucket, 4, namespace="team-9")
    assert harvest(output="all")["devices"] == {"pi-front": 1, "pi-rear": 2}
    assert harvest("pi-rear", output="device")["kept"] == 2
    by_model = harvest("colours", output="model")
    assert (by_model["kept"], by_model["others"]) == (2, 1)
    assert harvest("-n", "team-9", output="other")["kept"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pi-nowhere"], "devices there: pi-front; models: colours"),
        (["--since", "2999-01-01"], "nothing to label"),
        (["-n", "nobody"], "nothing to label"),
    ],
)
def test_nothing_to_label_is_a_sentence(
    tmp_path: Path, bucket: DirStore, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    put(bucket, 1)
    where = ["--store", str(tmp_path / "store"), "--to", str(tmp_path / "batch")]
    assert main(["harvest", *arguments, *where]) in (15, 20)
    assert message in capsys.readouterr().err


def test_since_compares_with_the_stores_clock(bucket: DirStore, harvest: Harvest) -> None:
    """A device without a clock says 1970 of everything."""
    put(bucket, 1, taken_at="1970-01-01T00:00:09Z")
    put(bucket, 2, taken_at="1970-01-01T00:00:19Z")
    assert harvest("--since", "1d")["kept"] == 2
    assert harvest("--since", "2020-01-31", output="again")["older"] == 0


def test_a_folder_that_is_not_empty_is_refused(
    tmp_path: Path, bucket: DirStore, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bucket, 1)
    (tmp_path / "labels.json").write_text("a day's work")
    assert main(["harvest", "--store", str(tmp_path / "store"), "--to", str(tmp_path)]) == 20
    assert "not empty" in capsys.readouterr().err


def test_delete_removes_what_is_in_the_batch_and_nothing_else(bucket: DirStore, harvest: Harvest) -> None:
    for number in range(1, 6):
        put(bucket, number)
    put(bucket, 6, device="pi-rear")
    broken = put(bucket, 7)
    bucket.put(keys.harvested_image("local", "pi-front", broken.sha256), b"no picture")
    before = {info.key for info in bucket.list("harvest/")}
    document = harvest("pi-front", "--limit", "3", "--delete")
    assert (document["kept"], document["damaged"]) == (3, 1)
    gone = before - {info.key for info in bucket.list("harvest/")}
    assert len(gone) == 6
    assert not [key for key in gone if "pi-rear" in key or broken.sha256 in key]
    assert harvest("pi-front", output="rest")["kept"] == 2


def test_a_later_batch_has_the_same_file_names(tmp_path: Path, bucket: DirStore, harvest: Harvest) -> None:
    for number in range(1, 4):
        put(bucket, number)
    harvest(output="first")
    put(bucket, 4)
    harvest(output="second")
    assert set(image_names(tmp_path / "first")) < set(image_names(tmp_path / "second"))


def hostile_notes() -> list[bytes]:
    """What somebody with a device's keys might leave there."""
    good = to_dict(note(1, jpeg(1)))
    boxes = [{"classId": 5, "score": 0.9, "box": [0, 0, 1, 1]}, {"classId": 0, "score": 0.9, "box": [0, 0, 1]}]
    changes: list[dict[str, Any]] = [
        {"session": "../../x"}, {"session": ""}, {"number": -1}, {"number": 10**12}, {"doubt": 1e999},
        {"device": "pi-rear"}, {"namespace": "other"}, {"sha256": "0" * 64}, {"labels": ["one"]},
        {"detections": [boxes[0]]}, {"detections": [boxes[1]]}, {"extra": 1}, {"width": "wide"},
    ]  # fmt: skip
    made = [json.dumps({**good, **change}).encode() for change in changes]
    return [*made, b"", b"[]", b"\xff\xfe", b"{" * 100_000, b" " * 100_000, json.dumps({}).encode()]


@pytest.mark.parametrize("data", hostile_notes())
def test_a_hostile_note_is_counted_and_passed_over(
    tmp_path: Path, bucket: DirStore, harvest: Harvest, data: bytes
) -> None:
    put(bucket, 2)
    put(bucket, 1)
    bucket.put(keys.harvested_note("local", "pi-front", note(1, jpeg(1)).sha256), data)
    document = harvest()
    assert (document["kept"], document["unreadable"], document["found"]) == (1, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch", "store"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        png_header(16, 16),
        encoded(picture(1), "PNG"),
        encoded(Image.new("L", (5000, 1)), "JPEG"),
        jpeg_claiming(10_000, 10_000),
        jpeg_claiming(60_000, 60_000),
    ],
    ids=["empty", "header", "png-header", "png", "too-wide", "large", "huge"],
)
def test_what_is_no_jpeg_of_a_camera_is_counted_and_passed_over(
    bucket: DirStore, harvest: Harvest, data: bytes
) -> None:
    put(bucket, 2)
    put(bucket, 9, picture=data)
    document = harvest()
    assert (document["kept"], document["damaged"]) == (1, 1)


@pytest.mark.parametrize("device", ["pi front", "-o", ".hidden", "pi\n"])
def test_a_device_that_makes_no_folder_is_counted_and_passed_over(
    bucket: DirStore, harvest: Harvest, device: str
) -> None:
    put(bucket, 1, device=device)
    put(bucket, 2, device="Pi_2.left")
    document = harvest()
    assert (document["devices"], document["unreadable"]) == ({"Pi_2.left": 1}, 1)


def test_hostile_names_stay_within_the_batch(tmp_path: Path, bucket: DirStore, harvest: Harvest) -> None:
    labels = ("../../etc", "<b>\n</b>")
    put(
        bucket,
        1,
        camera="../..\\\0/x",
        labels=labels,
        thresholds=(0.5, 0.5),
        detections=(Detection(0, 0.9, (0, 0, 1, 1)),),
    )
    harvest()
    [name] = image_names(tmp_path / "batch")
    assert name == "pi-front-x-abcdefgh_00001.jpg"
