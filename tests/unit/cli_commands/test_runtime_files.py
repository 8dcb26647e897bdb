"""`atoll pull --for`: the files of a release as other people's runtimes ask for them, by their own rules."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from atoll_cli.main import main
from atoll_contract.document import to_json
from atoll_contract.images import Resize, stated_preprocessing
from atoll_contract.keys import RunRef
from atoll_contract.release import EdgeTpu, Manifest, ManifestFile, ModelInput, Role
from atoll_contract.store import directory_store, open_store
from atoll_contract.store.base import Store
from support.edge_model import LABELS, SIDE, colour_detector
from support.minimal_tflite import minimal_tflite

# The keys of Frigate's model settings, which refuse any other, and of its detectors.
FRIGATE_MODEL = {"path", "labelmap_path", "width", "height", "input_tensor", "input_pixel_format", "model_type"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(directory_store(tmp_path / "store"))


def publish(
    store: Store, files: dict[tuple[Role, str], bytes], *, side: int = SIDE, resize: Resize = Resize.SQUASH
) -> Manifest:
    """note-v3 with files by role and name."""
    held = []
    for (role, name), data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        info = store.put(f"blobs/sha256/{digest}", data)
        target = "rknn" if role is Role.MODEL_COMPILED else None
        held.append(ManifestFile(role, name, info.key, digest, info.size, target=target))
    manifest = Manifest(
        namespace="local",
        model="note",
        version=3,
        sequence=3,
        created_at="2027-01-09T19:12:00Z",
        run=RunRef("local", "note", "uid"),
        input=ModelInput(side, side),
        labels=LABELS,
        thresholds=(0.5, 0.3),
        files=tuple(held),
        edgetpu=EdgeTpu(compiled=False),
        preprocessing=stated_preprocessing(resize),
    )
    store.put("models/local/note/v3/manifest.json", to_json(manifest))
    return manifest


INT8 = (Role.MODEL_INT8, "unoptimized.tflite")
CORAL = (Role.MODEL_EDGETPU, "model.tflite")
RK3588 = (Role.MODEL_COMPILED, "model-rk3588.rknn")


def pull(tmp_path: Path, runtime: str) -> int:
    return main(
        ["pull", "note-v3", "--for", runtime, "--store", str(tmp_path / "store"), "--to", str(tmp_path / "got")]
    )


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "got").iterdir())


def frigate_labels(path: Path) -> dict[int, str]:
    """Frigate's reading of a label map: numbered lines, or one name a line; numbers without a line are unknown."""
    labels = dict.fromkeys(range(91), "unknown")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines[0].split(" ", maxsplit=1)[0].isdigit():
        return labels | {int(number): name.strip() for number, name in (line.split(" ", maxsplit=1) for line in lines)}
    return labels | {number: line.strip() for number, line in enumerate(lines)}


@pytest.mark.parametrize("coral", [False, True])
def test_frigate_gets_a_model_numbered_labels_and_settings_that_it_knows(
    store: Store, tmp_path: Path, coral: bool
) -> None:
    publish(store, {INT8: colour_detector(), **({CORAL: b"compiled"} if coral else {})})
    assert pull(tmp_path, "frigate") == 0
    assert names(tmp_path) == ["frigate.yaml", "labelmap.txt", "model.tflite"]
    assert (tmp_path / "got/model.tflite").read_bytes() == (b"compiled" if coral else colour_detector())
    assert [frigate_labels(tmp_path / "got/labelmap.txt")[number] for number in range(3)] == [*LABELS, "unknown"]
    settings = yaml.safe_load((tmp_path / "got/frigate.yaml").read_text())
    (detector,) = settings["detectors"].values()
    assert detector == ({"type": "edgetpu", "device": "usb"} if coral else {"type": "cpu", "num_threads": 3})
    model = settings["model"]
    assert set(model) == FRIGATE_MODEL
    assert (model["width"], model["height"]) == (SIDE, SIDE)
    assert (model["input_tensor"], model["input_pixel_format"], model["model_type"]) == ("nhwc", "rgb", "ssd")
    assert {Path(model[key]).parent.as_posix() for key in ("path", "labelmap_path")} == {"/config/note-v3"}
    assert settings["objects"]["track"] == list(LABELS)
    filters = settings["objects"]["filters"]
    assert filters["red"] == {"min_score": 0.5, "threshold": 0.5}
    # Its reader never passes on what scores less.
    assert filters["blue"] == {"min_score": 0.4, "threshold": 0.4}


def test_limelight_gets_the_names_of_its_own_notebook(store: Store, tmp_path: Path) -> None:
    publish(store, {INT8: colour_detector(), CORAL: b"compiled"})
    assert pull(tmp_path, "limelight") == 0
    stem = "limelight_neural_detector"
    assert names(tmp_path) == [f"{stem}_8bit.tflite", f"{stem}_coral.tflite", f"{stem}_labels.txt"]
    assert (tmp_path / f"got/{stem}_labels.txt").read_text() == "red\nblue\n"
    assert (tmp_path / f"got/{stem}_coral.tflite").read_bytes() == b"compiled"


def test_mediapipe_gets_one_file_that_carries_its_labels(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, {INT8: colour_detector()})
    assert pull(tmp_path, "mediapipe") == 20
    assert "carries no TFLite metadata" in capsys.readouterr().err
    from atoll_stages.export.metadata import add_metadata

    described = add_metadata(colour_detector(), name="note", labels=LABELS)
    publish(store, {INT8: described})
    assert pull(tmp_path, "mediapipe") == 0
    assert names(tmp_path) == ["note-v3.tflite"]
    assert (tmp_path / "got/note-v3.tflite").read_bytes() == described


def test_photonvision_gets_the_names_that_its_import_takes_apart(store: Store, tmp_path: Path) -> None:
    publish(store, {INT8: distributions(), RK3588: b"rknn"}, side=640)
    assert pull(tmp_path, "photonvision") == 0
    labels, model = names(tmp_path)
    pattern = r"([a-zA-Z0-9._]+)-(\d+)-(\d+)-(yolov(?:5|8|11)[nsmlx]*)"
    found, other = re.fullmatch(rf"{pattern}\.rknn", model), re.fullmatch(rf"{pattern}-labels\.txt", labels)
    assert found is not None
    assert other is not None
    assert found.groups() == other.groups() == ("note_v3", "640", "640", "yolov8")
    assert (tmp_path / "got" / labels).read_text().splitlines() == list(LABELS)
    assert (tmp_path / "got" / model).read_bytes() == b"rknn"


def distributions() -> bytes:
    """A file with two outputs."""
    return minimal_tflite(shape=(1, 640, 640, 3), outputs=2)


@pytest.mark.parametrize(
    ("runtime", "files", "side", "expected"),
    [
        ("photonvision", {INT8: colour_detector}, 640, "train one with model.architecture dfl-"),
        ("photonvision", {INT8: distributions}, 320, "(320 pixels)"),
        ("photonvision", {INT8: distributions}, 640, "has no file for the RK3588"),
        ("frigate", {INT8: distributions}, 640, "on a Coral only"),
        ("limelight", {INT8: distributions}, 640, "reads detectors of an ssd architecture"),
        ("mediapipe", {INT8: distributions}, 640, "reads detectors of an ssd architecture"),
    ],
)
def test_what_a_runtime_cannot_run_is_refused_with_what_it_can(
    runtime: str,
    files: dict[tuple[Role, str], Callable[[], bytes]],
    side: int,
    expected: str,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(store, {key: make() for key, make in files.items()}, side=side)
    assert pull(tmp_path, runtime) == 20
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "got").exists()


def test_frigate_reads_a_compiled_detector_with_distributions(store: Store, tmp_path: Path) -> None:
    publish(store, {INT8: distributions(), CORAL: b"compiled"}, side=320)
    assert pull(tmp_path, "frigate") == 0
    assert yaml.safe_load((tmp_path / "got/frigate.yaml").read_text())["model"]["model_type"] == "yolo-generic"


@pytest.mark.parametrize("data", [b"no model", b"TFL3TFL3TFL3"])
def test_a_damaged_file_is_named(data: bytes, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(store, {INT8: data})
    assert pull(tmp_path, "frigate") == 50
    assert "unoptimized.tflite of note-v3" in capsys.readouterr().err


def test_all_and_for_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pull", "note-v3", "--for", "frigate", "--all", "--store", str(tmp_path)]
    assert main(command) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runtime", "trained", "told"),
    [
        ("photonvision", Resize.SQUASH, "PhotonVision keeps the picture's aspect ratio"),
        ("photonvision", Resize.LETTERBOX, None),
        ("frigate", Resize.SQUASH, "Frigate cuts squares out of the picture"),
        ("frigate", Resize.LETTERBOX, None),
        ("mediapipe", Resize.LETTERBOX, "MediaPipe stretches the picture to a square"),
        ("mediapipe", Resize.SQUASH, None),
    ],
)
def test_who_hands_a_model_to_a_program_that_resizes_otherwise_is_told(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runtime: str,
    trained: Resize,
    told: str | None,
) -> None:
    from atoll_stages.export.metadata import add_metadata

    int8 = distributions() if runtime == "photonvision" else add_metadata(colour_detector(), name="n", labels=LABELS)
    publish(store, {INT8: int8, RK3588: b"rknn"}, side=640 if runtime == "photonvision" else SIDE, resize=trained)
    assert pull(tmp_path, runtime) == 0
    said = capsys.readouterr().err
    assert ("warning:" in said) == (told is not None)
    if told is not None:
        assert told in said
        other = Resize.LETTERBOX if trained is Resize.SQUASH else Resize.SQUASH
        assert f"model.preprocessing.resize: {other}" in said
