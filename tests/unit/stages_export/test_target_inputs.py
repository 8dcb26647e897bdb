"""What export leaves for compilers that quantise the float model themselves."""

import hashlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll_contract import images as preprocess
from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import from_json, replace
from atoll_contract.errors import IntegrityError
from atoll_contract.stage import QualityGates
from atoll_contract.stage_result import Artifact
from atoll_contract.train_spec import Architecture
from atoll_stages.export.head_files import files_of
from atoll_stages.export.onnx_model import INPUT, ConverterMissing, float_onnx
from atoll_stages.export.stage import export
from atoll_stages.export.target_inputs import read_calibration, write_calibration
from atoll_stages.runtime.context import StageContext, StageOutcome
from atoll_stages.train.anchors import BOX_SCALES, generate_anchors
from atoll_stages.train.detector import build_detector
from support.detection_data import CLASSES, labelled_images
from support.exporting import export_context
from support.field_readers import by_stride

pytestmark = pytest.mark.timeout(300)
MAX_DIFFERENCE = 1e-4
EXTRA = {"onnx", "detector", "calibration"}


def kernel(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights with which outputs depend on all that is before them, and stay small."""
    inputs = np.prod(shape[:2]) * (shape[2] if shape[3] > 1 else 1)
    weights: np.ndarray = random.standard_normal(shape) * np.sqrt(1.5 / inputs)
    return weights


@pytest.mark.parametrize("architecture", [Architecture.FPNLITE_192, Architecture.SSD_300, Architecture.DFL_192])
def test_the_float_onnx_computes_what_tensorflow_does(architecture: Architecture) -> None:
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    side = architecture.side
    model = build_detector(architecture=architecture, width=0.35, classes=3, side=side)
    random = np.random.default_rng(0)
    # The outputs of an untrained head are all but constant, and equal whatever is wrong before it.
    model.set_weights([weight if weight.ndim < 4 else kernel(random, weight.shape) for weight in model.get_weights()])
    files = files_of(architecture)
    graph = onnx.load_from_string(files.onnx(model))
    assert [item.name for item in graph.graph.input] == [INPUT]
    assert tuple(item.name for item in graph.graph.output) == files.document(()).outputs
    image = random.uniform(-1.0, 1.0, (1, side, side, 3)).astype(np.float32)
    found = reference.ReferenceEvaluator(graph).run(None, {INPUT: image.transpose(0, 3, 1, 2)})
    for expected, given in zip(expected_outputs(architecture, model(image, training=False)), found, strict=True):
        assert np.ptp(np.asarray(expected)) > 100 * MAX_DIFFERENCE
        np.testing.assert_allclose(given, np.asarray(expected), rtol=0, atol=MAX_DIFFERENCE)


def expected_outputs(architecture: Architecture, outputs: list[Any]) -> list[np.ndarray]:
    """What the ONNX model computes where TensorFlow's has these outputs."""
    logits, codes = (np.asarray(output) for output in outputs)
    if not architecture.has_distributions:
        return [logits, codes]
    return [level[None] for level in by_stride(codes[0], logits[0], architecture.side)]


def test_pictures_of_a_calibration_list_are_checked_by_their_names(tmp_path: Path) -> None:
    pictures = [example.encoded for example in labelled_images(3)]
    path, again = tmp_path / "a.zip", tmp_path / "b.zip"
    write_calibration(path, pictures)
    write_calibration(again, pictures)
    assert path.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[1] == f"00001-{hashlib.sha256(pictures[1]).hexdigest()}"
    for read, picture in zip(read_calibration(path, 64), pictures, strict=True):
        np.testing.assert_array_equal(read, preprocess.decode(picture, 64))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("00003-00ff", pictures[0])
    with pytest.raises(IntegrityError, match="00003-00ff holds another image"):
        list(read_calibration(path, 64))
    path.write_bytes(b"no zip")
    with pytest.raises(IntegrityError, match="no list of calibration images"):
        list(read_calibration(path, 64))


def exported(folder: Path, *, for_targets: bool | None) -> tuple[StageContext, StageOutcome]:
    given = export_context(folder, QualityGates())
    spec = given.input.export
    assert spec is not None
    given = replace(given, input=replace(given.input, export=replace(spec, for_targets=for_targets)))
    return given, export(given)


def test_other_targets_get_the_network_its_head_and_the_calibration_pictures(tmp_path: Path) -> None:
    given, outcome = exported(tmp_path, for_targets=True)
    stored = {item.name: given.store.get(item.key) for item in outcome.outputs}
    assert set(stored) >= EXTRA
    head = from_json(DetectorHead, stored["detector"])
    anchors = generate_anchors(Architecture.FPNLITE_192)
    np.testing.assert_array_equal(np.array(head.anchors, np.float32), anchors.boxes)
    assert (head.side, head.classes, head.box_scales) == (192, CLASSES, BOX_SCALES)
    assert head.max_detections == 25
    path = tmp_path / "calibration.zip"
    path.write_bytes(stored["calibration"])
    assert len(list(read_calibration(path, 192))) == 2
    assert stored["onnx"]


@pytest.mark.parametrize("lacks", ["a target", "the converter"])
def test_without_such_a_target_or_the_converter_export_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    called: list[Any] = []
    if lacks == "a target":
        monkeypatch.setattr("atoll_stages.export.head_files.float_onnx", lambda *_, **__: called.append(1))
    else:
        monkeypatch.setitem(sys.modules, "tf2onnx", None)
    _, outcome = exported(tmp_path, for_targets=None if lacks == "a target" else True)
    assert not called
    assert not EXTRA & {item.name for item in outcome.outputs if isinstance(item, Artifact)}


def test_a_missing_converter_is_told_apart_from_a_model_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ConverterMissing):
        float_onnx(None, side=32, outputs=())
