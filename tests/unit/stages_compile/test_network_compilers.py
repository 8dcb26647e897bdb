"""The compile stage for targets that quantise the float network, around a stand-in for the vendors' programs. The real
ones run in tests/targets."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll_contract.box_distributions import CODES, cell_grid
from atoll_contract.detector_head import DetectorHead
from atoll_contract.document import replace, to_json
from atoll_contract.errors import ExitCode, IntegrityError, Reason, SpecError, exit_code
from atoll_contract.images import Resize, boxes_in_input, stated_preprocessing
from atoll_contract.keys import RunRef
from atoll_contract.stage import CompilePolicy as Policy
from atoll_contract.stage import CompileSpec, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import Architecture
from atoll_stages.compile import network_compiler
from atoll_stages.compile.rknn import RKNN
from atoll_stages.compile.stage import compile_model
from atoll_stages.export.head_files import files_of
from atoll_stages.export.target_inputs import write_calibration
from atoll_stages.runtime.context import Interrupted, StageContext, StageOutcome
from support.detection_data import CLASSES, labelled_images, store_dataset
from support.field_readers import by_stride
from support.minimal_tflite import minimal_tflite
from support.polling import wait_until

SIDE = 64
VALIDATION = 3
FLOAT_AP50 = 0.9
RKNN_LOG = Path(__file__).parent / "logs/rknn-2.5.0.txt"
# The validation part of `store_dataset`.
EXAMPLES = labelled_images(VALIDATION, first=1000)
VARIABLES = {"rknn": "ATOLL_RKNN_PYTHON", "qnn": "ATOLL_QNN_PYTHON", "hailo": "ATOLL_HAILO_COMPILER"}


def head(how: Resize = Resize.SQUASH) -> DetectorHead:
    """One anchor for each object, so that code 0 is the object's box in the input."""
    anchors = []
    for example in EXAMPLES:
        boxes = boxes_in_input(example.boxes, example.region(SIDE, how))
        low, high = boxes[:, :2], boxes[:, 2:]
        anchors += np.concatenate([(low + high) / 2, high - low], axis=1).tolist()
    return DetectorHead(
        side=SIDE,
        classes=CLASSES,
        anchors=tuple(tuple(anchor) for anchor in anchors),
        box_scales=(10.0, 10.0, 5.0, 5.0),
        max_log_size=20.0,
        max_detections=25,
        score_threshold=0.01,
        iou_threshold=0.5,
        preprocessing=stated_preprocessing(how),
    )


def network_outputs(*, missed: int = 0) -> dict[str, np.ndarray]:
    """What a network computes that finds all objects but the first `missed` ones."""
    count = len(EXAMPLES) * len(CLASSES)
    logits = np.full((len(EXAMPLES), count, len(CLASSES)), -9.0, np.float32)
    for anchor in range(missed, count):
        logits[anchor // len(CLASSES), anchor, anchor % len(CLASSES)] = 4.0
    return {"logits": logits, "codes": np.zeros((len(EXAMPLES), count, 4), np.float32)}


class Bench:
    """What export leaves, in a store, and a program that does as it is told instead of compiling."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirStore(folder / "store")
        self.stop = threading.Event()
        (folder / "work").mkdir()
        self.dataset = store_dataset(self.store, folder / "work", train=2, validation=VALIDATION)
        self.program = folder / "program"
        self.head = head()
        self.compiled = {"rknn": "compiled.rknn", "qnn": "compiled.onnx", "hailo": "compiled.hef"}

    def plan(
        self, target: str, *, script: str = "", outputs: dict[str, np.ndarray] | None = None, log: str = ""
    ) -> None:
        """The program writes the file, these outputs and this log; then it runs `script`."""
        if outputs is not None:
            np.savez(self.folder / "outputs.npz", allow_pickle=False, **outputs)
        (self.folder / "log.txt").write_text(log)
        (self.folder / "script.py").write_text(
            f"""
import json, pathlib, shutil, sys, numpy as np
folder = pathlib.Path(sys.argv[-1])
bench = pathlib.Path({str(self.folder)!r})
images, calibration = np.load(folder / "images.npy"), np.load(folder / "calibration.npy")
seen = {{"arguments": sys.argv[1:], "job": json.loads((folder / "job.json").read_text()),
  "pictures": [images.shape, str(images.dtype)], "calibration": calibration.shape,
  "onnx": (folder / "float.onnx").read_bytes().decode()}}
(bench / "seen.json").write_text(json.dumps(seen))
(folder / {self.compiled[target]!r}).write_bytes(b"code of the chip")
if (bench / "outputs.npz").exists():
    shutil.copy(bench / "outputs.npz", folder / "outputs.npz")
print((bench / "log.txt").read_text())
{script}
"""
        )
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self.folder / "script.py"}" "$@"\n')
        self.program.chmod(0o755)

    @property
    def seen(self) -> Any:
        return json.loads((self.folder / "seen.json").read_text())

    def stored(self, name: str, data: bytes) -> Artifact:
        info = self.store.put(f"runs/local/u/export/a1-p/{name}", data)
        return Artifact(name, info.key, info.sha256 or "", info.size)

    def run(self, *, exported: bool = True, **spec: Any) -> StageOutcome:
        calibration = self.folder / "calibration.zip"
        write_calibration(calibration, [example.encoded for example in labelled_images(2)])
        metrics = {"metrics": {"float": {"ap50": FLOAT_AP50, "ap": 0.5}, "int8": {"ap50": 0.8, "ap": 0.4}}}
        outputs = [self.stored("model", minimal_tflite()), self.stored("metrics", json.dumps(metrics).encode())]
        if exported:
            outputs += [
                self.stored("onnx", b"the network"),
                self.stored("detector", to_json(self.head)),
                self.stored("calibration", calibration.read_bytes()),
            ]
        given = StageInput(
            Stage.COMPILE,
            1,
            RunRef("local", "run", "u"),
            StoreSpec(StoreType.DIRECTORY, path=self.store.url),
            {"convert": (self.dataset,), "export": tuple(outputs)},
            compile=CompileSpec(**spec),
        )
        return compile_model(StageContext(given, self.store, self.folder / "work", stop=self.stop))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, str(made.program))
    return made


def files(bench: Bench, outcome: StageOutcome) -> dict[str, str]:
    return {item.name: item.key.rpartition("/")[2] for item in outcome.outputs}


@pytest.mark.parametrize(
    ("target", "chip", "name", "job"),
    [
        ("rknn", None, "model-rk3588.rknn", {"chip": "rk3588"}),
        ("rknn", "rk3566", "model-rk3566.rknn", {"chip": "rk3566"}),
        ("qnn", None, "model-qcs6490.onnx", {"chip": None, "htpArch": 68, "socModel": 35}),
        ("hailo", "hailo8", "model-hailo8.hef", {"chip": "hailo8"}),
    ],
)
def test_a_compiled_file_has_the_figures_of_its_simulator(
    bench: Bench, target: str, chip: str | None, name: str, job: dict[str, Any]
) -> None:
    bench.plan(target, outputs=network_outputs())
    outcome = bench.run(target=target, chip=chip, policy=Policy.REQUIRED, max_ap50_drop=0.0)
    assert outcome.reason is Reason.COMPLETED, outcome.message
    assert outcome.summary["figures"] == {"ap50": 1.0, "ap": 1.0, "source": "simulator"}
    assert outcome.summary["target"] == target
    assert files(bench, outcome) == {
        f"{target}.compiled": name,
        f"{target}.log": f"{target}_compiler.log",
        f"{target}.compilation": "compilation.json",
    }
    seen = bench.seen
    assert seen["job"] == {**job, "outputs": ["logits", "codes"]}
    assert seen["pictures"] == [[VALIDATION, SIDE, SIDE, 3], "uint8"]
    assert (seen["calibration"], seen["onnx"]) == ([2, SIDE, SIDE, 3], "the network")


def test_a_simulator_sees_letterboxed_images_and_its_boxes_come_back(bench: Bench) -> None:
    bench.head = head(Resize.LETTERBOX)
    padded = "assert all((given[:, 0] == 127).all() and (given[:, 32] != 127).any() for given in (images, calibration))"
    bench.plan("rknn", outputs=network_outputs(), script=padded)
    outcome = bench.run(target="rknn", policy=Policy.REQUIRED)
    assert outcome.reason is Reason.COMPLETED, outcome.message
    assert outcome.summary["figures"] == {"ap50": 1.0, "ap": 1.0, "source": "simulator"}
    # A head that says nothing is of a model that squashes: the same boxes are then elsewhere.
    bench.head = replace(bench.head, preprocessing=None)
    bench.plan("rknn", outputs=network_outputs())
    assert bench.run(target="rknn").summary["figures"]["ap"] < 0.9


def test_a_chip_whose_boxes_are_distributions_is_read_by_its_six_outputs(bench: Bench) -> None:
    bench.head = files_of(Architecture.DFL_192).document(CLASSES)
    bench.plan("rknn", outputs=distribution_outputs())
    figures = bench.run(target="rknn").summary["figures"]
    assert (figures["ap50"], figures["source"]) == (1.0, "simulator")
    assert bench.seen["job"]["outputs"] == [
        f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("boxes", "scores")
    ]
    bench.plan("rknn", outputs={name: array[:, :1] for name, array in distribution_outputs().items()})
    assert "(3, 1, 24, 24)" in bench.run(target="rknn").message


def distribution_outputs() -> dict[str, np.ndarray]:
    """What a network computes where of each object the cell of stride 32 nearest to its middle has its box."""
    side = Architecture.DFL_192.side
    grid, outputs = cell_grid(side), []
    for example in EXAMPLES:
        logits = np.full((len(grid), len(CLASSES)), -9.0)
        codes = np.zeros((len(grid), CODES))
        for box, label in zip(example.boxes, example.labels, strict=True):
            distance = ((grid[:, :2] - (box[:2] + box[2:]) / 2) ** 2).sum(axis=1)
            cell = int(np.where(grid[:, 2] * side > 31, distance, np.inf).argmin())
            y, x, size, _ = grid[cell]
            sides = np.array([x - box[1], y - box[0], box[3] - x, box[2] - y]) / size
            logits[cell, label] = 4.0
            codes[cell] = np.log(np.maximum(1 - np.abs(sides[:, None] - np.arange(16)), 0) + 1e-9).ravel()
        outputs.append(by_stride(codes, logits, side))
    names = [f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("boxes", "scores")]
    arrays = (np.stack(levels).astype(np.float32) for levels in zip(*outputs, strict=True))
    return dict(zip(names, arrays, strict=True))


def test_figures_follow_what_the_simulator_finds(bench: Bench) -> None:
    bench.plan("qnn", outputs=network_outputs(missed=3))
    figures = bench.run(target="qnn").summary["figures"]
    assert 0.3 < figures["ap50"] < 0.7


@pytest.mark.parametrize(("drop", "reason"), [(0.5, Reason.COMPLETED), (0.1, Reason.QUALITY_GATE_FAILED)])
def test_the_gate_of_a_target_is_on_its_own_figures(bench: Bench, drop: float, reason: Reason) -> None:
    bench.plan("qnn", outputs=network_outputs(missed=3))
    outcome = bench.run(target="qnn", max_ap50_drop=drop)
    assert outcome.reason is reason
    if reason is not Reason.COMPLETED:
        assert outcome.message.startswith("maxAP50Drop of qnn: measured 0.")
        assert "0.900 float" in outcome.message


def test_without_a_simulator_the_figures_are_predicted(bench: Bench) -> None:
    bench.plan("hailo")
    outcome = bench.run(target="hailo")
    assert outcome.summary["figures"] == {"ap50": 0.8, "ap": 0.4, "source": "predicted"}
    assert outcome.message == "compiled: for the Hailo accelerator; AP50 0.800 (predicted)"


def test_the_operations_on_the_npu_are_those_of_rockchips_table(bench: Bench) -> None:
    bench.plan("rknn", outputs=network_outputs(), log=RKNN_LOG.read_text())
    outcome = bench.run(target="rknn")
    assert outcome.summary["compilerVersion"] == "2.5.0"
    assert outcome.summary["mappedPercent"] == 98.2
    assert outcome.message == "compiled: 112 of 114 operations on the Rockchip NPU; AP50 1.000 (simulator)"


def test_too_few_mapped_operations_fail_under_any_policy(bench: Bench) -> None:
    bench.plan(
        "qnn", outputs=network_outputs(), script="(folder / 'mapping.json').write_text('{\"mapped\":5,\"total\":9}')"
    )
    outcome = bench.run(target="qnn", min_mapped_percent=60.0)
    assert outcome.reason is Reason.OPS_NOT_MAPPED
    assert outcome.message == "5/9 operations on the Qualcomm NPU (55.6 %), required 60 %"


@pytest.mark.parametrize("target", ["rknn", "qnn"])
def test_the_compiler_of_an_image_needs_no_variable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str
) -> None:
    bench.plan(target, outputs=network_outputs())
    monkeypatch.delenv(VARIABLES[target])
    monkeypatch.setattr(network_compiler, "IMAGE_COMPILERS", tmp_path / "compilers")
    (tmp_path / "compilers").mkdir()
    bench.program.rename(tmp_path / "compilers" / target)
    outcome = bench.run(target=target, policy=Policy.REQUIRED)
    assert outcome.reason is Reason.COMPLETED, outcome.message
    assert bench.seen["arguments"][0] == "-P"


@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.BEST_EFFORT])
@pytest.mark.parametrize("target", list(VARIABLES))
@pytest.mark.parametrize("lacks", ["the variable", "the program", "the network"])
def test_what_is_missing_is_said_with_what_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, policy: Policy, target: str, lacks: str
) -> None:
    bench.plan(target)
    if lacks == "the variable":
        monkeypatch.delenv(VARIABLES[target])
    if lacks == "the program":
        monkeypatch.setenv(VARIABLES[target], "/nowhere/python")
    outcome = bench.run(target=target, policy=policy, exported=lacks != "the network")
    required = policy is Policy.REQUIRED
    assert exit_code(outcome.reason) == (ExitCode.COMPILER_UNAVAILABLE if required else ExitCode.OK)
    assert outcome.summary == {"target": target, "compiled": False, "reason": "CompilerUnavailable"}
    said = {
        "the variable": "is not set",
        "the program": "'/nowhere/python', which is no program",
        "the network": "tf2onnx",
    }
    assert said[lacks] in outcome.message
    assert lacks == "the network" or VARIABLES[target] in outcome.message
    assert set(files(bench, outcome)) == {f"{target}.compilation"}


def short_outputs() -> dict[str, np.ndarray]:
    found = network_outputs()
    return {"logits": found["logits"][1:], "codes": found["codes"]}


@pytest.mark.parametrize(
    ("plan", "reason", "text"),
    [
        (
            {"script": "print('E out of luck'); sys.exit(3)"},
            Reason.COMPILE_FAILED,
            "exit code 3, last line 'E out of luck'",
        ),
        ({"script": "import os; os.kill(os.getpid(), 11)"}, Reason.COMPILE_FAILED, "ended by signal 11"),
        ({"script": "(folder / 'compiled.rknn').unlink()"}, Reason.COMPILE_FAILED, "left no file compiled.rknn"),
        ({"script": "(folder / 'compiled.rknn').write_bytes(b'')"}, Reason.COMPILE_FAILED, "left no file"),
        ({"outputs": short_outputs()}, Reason.COMPILE_FAILED, "it has arrays (2, 6, 2) and (3, 6, 4)"),
        ({"outputs": {"logits": np.zeros(3)}}, Reason.COMPILE_FAILED, "cannot be read"),
        ({"script": "(folder / 'outputs.npz').write_bytes(b'x')"}, Reason.COMPILE_FAILED, "cannot be read"),
        (
            {"script": "(folder / 'mapping.json').write_text('{\"mapped\":0,\"total\":9}')"},
            Reason.OPS_NOT_MAPPED,
            "0 of 9 operations on the Rockchip NPU",
        ),
    ],
)
def test_nothing_is_called_compiled_that_was_not(bench: Bench, plan: dict[str, Any], reason: Reason, text: str) -> None:
    bench.plan("rknn", **plan)
    outcome = bench.run(target="rknn", policy=Policy.REQUIRED)
    assert (outcome.reason, outcome.summary["compiled"]) == (reason, False)
    assert text in outcome.message
    assert set(files(bench, outcome)) == {"rknn.log", "rknn.compilation"}


def test_a_program_that_does_not_end_is_killed_at_the_deadline(bench: Bench) -> None:
    bench.plan("rknn", script="import time; time.sleep(600)")
    outcome = bench.run(target="rknn", timeout_seconds=2)
    assert "did not end in time" in outcome.message


def test_a_stage_that_is_to_end_ends_the_program(bench: Bench) -> None:
    bench.plan("rknn", script="import time; time.sleep(600)")

    def stop() -> None:
        wait_until(lambda: (bench.folder / "seen.json").exists(), what="the program at work")
        bench.stop.set()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted):
        bench.run(target="rknn")
    thread.join()


@pytest.mark.parametrize(("target", "chip", "known"), [("rknn", "rk9", "rk3588"), ("edgetpu", "v1", "one chip only")])
def test_a_chip_that_is_not_known_is_refused(bench: Bench, target: str, chip: str, known: str) -> None:
    with pytest.raises(SpecError, match=known):
        bench.run(target=target, chip=chip)


def test_a_damaged_head_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: Callable[[str, bytes], Artifact] = bench.stored
    monkeypatch.setattr(bench, "stored", lambda name, data: stored(name, b"{}" if name == "detector" else data))
    with pytest.raises(IntegrityError, match="export/a1-p/detector cannot be read"):
        bench.run(target="rknn")


def test_the_first_chip_is_the_default() -> None:
    assert (RKNN.chips[0], RKNN.file_name(None)) == ("rk3588", "model-rk3588.rknn")


def test_the_stage_starts_without_what_only_training_and_simulators_need() -> None:
    check = "import sys, atoll_stages.compile.stage; print(len({'tensorflow', 'pycocotools'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
