"""The same picture gives the same boxes through the adapter of every backend, in its own worker process.

What stands in for the accelerators is in `support.standin_runtimes`. NOT RUN here: libedgetpu, Rockchip's and
Qualcomm's runtimes and drivers, and so their arithmetic, their speed, and how they fail.
"""

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from atoll_contract.box_distributions import CODES, has_distributions
from atoll_contract.document import replace, to_json
from atoll_edge.camera.source import BgrImage
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.hardware import found_accelerators
from atoll_edge.detector.backends.litert import InterpreterModel
from atoll_edge.detector.client import DetectorClient, DetectorLost
from atoll_edge.detector.heads import MAX_BYTES
from atoll_edge.detector.outputs import OutputsError, read_levels
from atoll_edge.detector.protocol import Loaded, Refused
from support.edge_model import SIDE, colour_detector
from support.edge_release import GOLDEN_BOXES, golden_image
from support.polling import wait_until
from support.standin_runtimes import RKNNLITE, StandinRuntimes, anchor_head

pytestmark = pytest.mark.timeout(300)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="NOT RUN: no C compiler here")
HERE = {item.backend for item in found_accelerators()}


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandinRuntimes:
    return StandinRuntimes(tmp_path, monkeypatch)


def load(
    backend: Backend, folder: Path, *, side: int | None = SIDE, head: bytes | None = None
) -> tuple[DetectorClient, Loaded | Refused]:
    path = folder / f"model.{'rknn' if backend is Backend.RKNN else 'tflite'}"
    if not path.exists():
        path.write_bytes(colour_detector())
    client = DetectorClient(backend)
    document = folder / "detector.json"
    if head is not None:
        document.write_bytes(head)
    client.begin_load(str(path), threads=1, side=side, head=None if head is None else str(document))
    [ended] = wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=120)
    return client, ended


def refusal(backend: Backend, folder: Path, *, side: int | None = SIDE, head: bytes | None = None) -> Refused:
    client, ended = load(backend, folder, side=side, head=head)
    client.close()
    assert isinstance(ended, Refused)
    return ended


def picture() -> BgrImage:
    image: BgrImage | None = cv2.imdecode(np.frombuffer(golden_image(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def assert_golden(client: DetectorClient) -> None:
    rows = sorted(client.detect(picture(), timeout_seconds=60).rows)
    assert [int(row[0]) for row in rows] == [class_id for class_id, _ in GOLDEN_BOXES]
    for row, (_, box) in zip(rows, GOLDEN_BOXES, strict=True):
        assert row[2:6] == pytest.approx(box, abs=0.01)
        assert row[1] > 0.5


@needs_compiler
@pytest.mark.parametrize("backend", list(Backend))
def test_each_backend_finds_the_same_boxes(runtimes: StandinRuntimes, tmp_path: Path, backend: Backend) -> None:
    """Bytes in, as one RGB picture [1, h, w, 3]; out come the tensors of the post-processing operation, or those of an
    NPU: real numbers for each stride."""
    if backend is Backend.QNN:
        runtimes.qnn()
    client, ended = load(backend, tmp_path)
    try:
        assert isinstance(ended, Loaded)
        assert (ended.width, ended.height) == (SIDE, SIDE)
        assert_golden(client)
    finally:
        client.close()


@pytest.mark.skipif(Backend.QNN not in HERE, reason="NOT RUN: no Qualcomm NPU here")
def test_a_real_qualcomm_npu_finds_them_too(tmp_path: Path) -> None:
    client, ended = load(Backend.QNN, tmp_path)
    try:
        assert isinstance(ended, Loaded)
        assert_golden(client)
    finally:
        client.close()


class Int8Interpreter:
    """An interpreter of a file with two int8 outputs, which stand for the real numbers of `levels`."""

    def __init__(self, levels: list[np.ndarray]) -> None:
        boxes, scores = (
            np.concatenate([level[0].reshape(level.shape[1], -1).T for level in levels[kind::2]]) for kind in range(2)
        )
        shares = np.clip(scores, 1e-4, 1 - 1e-4)
        logits = np.log(shares / (1 - shares))
        self._quantised = [(boxes, 0.2, -28), (logits, 0.1, 5)]

    def get_input_details(self) -> list[dict[str, object]]:
        return [{"shape": np.array([1, SIDE, SIDE, 3]), "dtype": np.uint8, "index": 0}]

    def set_tensor(self, index: int, image: np.ndarray) -> None:
        assert (index, image.shape, str(image.dtype)) == (0, (1, SIDE, SIDE, 3), "uint8")

    def invoke(self) -> None:
        pass

    def get_output_details(self) -> list[dict[str, object]]:
        return [
            {"index": number, "shape": np.array([1, *values.shape]), "quantization": (scale, zero)}
            for number, (values, scale, zero) in enumerate(self._quantised)
        ]

    def get_tensor(self, index: int) -> np.ndarray:
        values, scale, zero = self._quantised[index]
        quantised: np.ndarray = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)[None]
        return quantised


def standin_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the stand-in network computes of the golden picture."""
    monkeypatch.setenv("RKNN_SCRIPT", str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_text("{}")
    (tmp_path / "network.py").write_text(RKNNLITE)
    described = importlib.util.spec_from_file_location("network", tmp_path / "network.py")
    assert described is not None
    assert described.loader is not None
    network = importlib.util.module_from_spec(described)
    described.loader.exec_module(network)
    image = cv2.resize(cv2.cvtColor(picture(), cv2.COLOR_BGR2RGB), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    levels: list[np.ndarray] = network.levels(image.astype(np.float32))
    return levels


def test_quantised_outputs_are_read_as_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = standin_levels(tmp_path, monkeypatch)
    interpreter = Int8Interpreter(levels)
    assert has_distributions(interpreter.get_output_details())
    int8 = InterpreterModel(interpreter).detect(Image.new("RGB", (SIDE, SIDE)))
    real = read_levels(levels, SIDE)
    assert len(real.detections) == len(GOLDEN_BOXES)
    for one, other in zip(real.detections, int8.detections, strict=True):
        assert one.class_id == other.class_id
        assert one.box == pytest.approx(other.box, abs=0.01)
        assert one.score == pytest.approx(other.score, abs=0.02)
    assert int8.non_finite == real.non_finite == 0


@pytest.mark.parametrize("spoil", ["order", "side", "channels", "axes", "number"])
def test_outputs_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    levels, side = standin_levels(tmp_path, monkeypatch), SIDE
    if spoil == "order":
        levels = levels[1:] + levels[:1]
    elif spoil == "side":
        side = 2 * SIDE
    elif spoil == "channels":
        levels[0] = levels[0][:, : CODES - 4]
    elif spoil == "axes":
        levels = [level[0] for level in levels]
    else:
        levels = levels[:4]
    with pytest.raises(OutputsError, match="strides 8, 16 and 32"):
        read_levels(levels, side)


@needs_compiler
def test_the_delegate_is_asked_for_the_npu(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    seen = runtimes.qnn()
    client, ended = load(Backend.QNN, tmp_path)
    client.close()
    assert isinstance(ended, Loaded)
    assert seen.read_text() == "backend_type=htp\n"


@needs_compiler
def test_a_qualcomm_npu_that_does_not_answer_is_missing(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    runtimes.qnn(absent="no HTP device")
    ended = refusal(Backend.QNN, tmp_path)
    assert ended.missing
    assert "the Qualcomm NPU does not answer: " in ended.error
    assert "no HTP device" in ended.error


def test_without_the_delegate_it_says_what_to_install(tmp_path: Path) -> None:
    ended = refusal(Backend.QNN, tmp_path)
    assert ended.missing
    assert "libQnnTFLiteDelegate.so does not load" in ended.error
    assert "QAIRT" in ended.error


def test_without_rknnlite_it_says_what_to_install(tmp_path: Path) -> None:
    ended = refusal(Backend.RKNN, tmp_path)
    assert ended.missing
    assert "the backend rknn is not installed here" in ended.error
    assert "install.sh --rknn FOLDER" in ended.error


@pytest.mark.parametrize(
    ("script", "said"),
    [({"init": -1}, "(-1)"), ({"raises": "RKNN init failed: RKNN_ERR_FAIL"}, "ERR_FAIL")],
)
def test_an_npu_that_does_not_take_the_file_is_missing(
    runtimes: StandinRuntimes, tmp_path: Path, script: dict[str, object], said: str
) -> None:
    runtimes.rknn(**script)
    ended = refusal(Backend.RKNN, tmp_path)
    assert ended.missing
    assert "the Rockchip NPU does not take model.rknn" in ended.error
    assert said in ended.error
    assert "\n" not in ended.error


def test_an_ssd_on_the_rockchip_npu_finds_the_same_boxes_by_its_anchors(
    runtimes: StandinRuntimes, tmp_path: Path
) -> None:
    runtimes.rknn(anchors=True)
    client, ended = load(Backend.RKNN, tmp_path, head=to_json(anchor_head(SIDE)))
    try:
        assert isinstance(ended, Loaded)
        assert_golden(client)
    finally:
        client.close()


def test_a_network_with_distributions_is_read_as_it_is_beside_its_document(
    runtimes: StandinRuntimes, tmp_path: Path
) -> None:
    head = replace(anchor_head(SIDE), anchors=(), bins=16)
    client, ended = load(Backend.RKNN, tmp_path, head=to_json(head))
    try:
        assert isinstance(ended, Loaded)
        assert_golden(client)
    finally:
        client.close()


def test_logits_that_are_no_numbers_are_counted(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    runtimes.rknn(anchors=True, nan=True)
    client, ended = load(Backend.RKNN, tmp_path, head=to_json(anchor_head(SIDE)))
    try:
        assert isinstance(ended, Loaded)
        answer = client.detect(picture(), timeout_seconds=60)
    finally:
        client.close()
    assert answer.non_finite == 1
    assert len(answer.rows) == len(GOLDEN_BOXES)


def test_an_ssd_without_its_document_is_refused_with_what_to_train(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    """Its anchors are not in the compiled file."""
    runtimes.rknn(anchors=True)
    ended = refusal(Backend.RKNN, tmp_path)
    assert not ended.missing
    assert "model.architecture dfl-…" in ended.error
    assert "detector.json, which older releases lack: train it again" in ended.error


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"{", "detector.json cannot be read"),
        (b" " * (MAX_BYTES + 1), "at most 16777216 are read"),
        (to_json(anchor_head(2 * SIDE)), f"of a detector with {2 * SIDE} pixels, the manifest says {SIDE}"),
        (to_json(replace(anchor_head(SIDE), box_scales=(10.0, 0.0, 5.0, 5.0))), "boxScales [10.0, 0.0, 5.0, 5.0]"),
        (to_json(replace(anchor_head(SIDE), anchors=((0.5, 0.5, 0.1),))), "anchor 0 of detector.json has 3 numbers"),
        (to_json(replace(anchor_head(SIDE), classes=("red",))), "are not class logits [1,84,1]"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(
    runtimes: StandinRuntimes, tmp_path: Path, head: bytes, said: str
) -> None:
    runtimes.rknn(anchors=True)
    ended = refusal(Backend.RKNN, tmp_path, head=head)
    assert not ended.missing
    assert said in ended.error


def test_a_file_without_a_manifest_is_refused(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    ended = refusal(Backend.RKNN, tmp_path, side=None)
    assert not ended.missing
    assert "comes without a manifest" in ended.error


def test_an_npu_that_stops_answering_ends_its_process(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    runtimes.rknn(silent=True)
    ended = refusal(Backend.RKNN, tmp_path)
    assert "gave no answer" in ended.error


def test_scores_that_are_no_numbers_are_counted(runtimes: StandinRuntimes, tmp_path: Path) -> None:
    runtimes.rknn(nan=True)
    client, ended = load(Backend.RKNN, tmp_path)
    try:
        assert isinstance(ended, Loaded)
        answer = client.detect(picture(), timeout_seconds=60)
    except DetectorLost as loss:
        pytest.fail(loss.reason)
    finally:
        client.close()
    assert answer.non_finite == 1
    assert len(answer.rows) == len(GOLDEN_BOXES)
