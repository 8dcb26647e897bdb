"""A termination message holds 3 KB of a result; outputs and AP50 are always in it, and so reach the status."""

import json

import pytest

from atoll_contract.document import DecodeError, to_json
from atoll_contract.errors import Reason
from atoll_contract.keys import RunRef, attempt_prefix, cached_dataset
from atoll_contract.stage import Stage
from atoll_contract.stage_result import MAX_TERMINATION_MESSAGE, Artifact, StageResult, parse_result
from atoll_operator.api.status import Phase, StagePhase
from support.run_simulation import SHA, UID, RunSimulation, run_view

POD = "9f2e4682-4c73-49eb-908e-8c50c43cf9c1"
NAMES = ["model", "metrics", "mapping", "golden", "report", *(f"golden-{number}.png" for number in range(3))]


def exported(namespace: str, *, classes: int, message: str = "int8 AP50 0.872 (float 0.881) on test") -> StageResult:
    prefix = attempt_prefix(RunRef(namespace, "note", UID), Stage.EXPORT, attempt=1, pod_uid=POD)
    outputs = (labels(namespace), *(Artifact(name, f"{prefix}{name}.json", SHA, 1_234_567) for name in NAMES))
    per_class = {f"class_{number:02d}_of_the_game": 0.1234 for number in range(classes)}
    metrics = {"float": {"ap50": 0.8812, "ap": 0.5}, "int8": {"ap50": 0.8722, "ap": 0.4875, "perClass": per_class}}
    summary = {"metrics": metrics, "predictedMappedPercent": 98.1, "split": "test"}
    result = Artifact("result.json", f"{prefix}result.json", SHA, 2500)
    return StageResult(Stage.EXPORT, 1, Reason.COMPLETED, message, outputs, summary, result)


def labels(namespace: str) -> Artifact:
    """Convert's label map, which export hands on."""
    return Artifact("labels", f"{cached_dataset(namespace, SHA)}label_map.pbtxt", SHA, 400)


def plain(stage: Stage, *outputs: Artifact) -> str:
    return StageResult(stage, 1, Reason.COMPLETED, "done", outputs).termination_message().decode()


@pytest.mark.parametrize("namespace", ["team", "frc-team-190-training", "n" * 63])
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("message", ["short", "m" * 1000, "世" * 1000])
def test_O34_ap50_and_outputs_reach_the_status(namespace: str, classes: int, message: str) -> None:
    sim = RunSimulation(run=run_view(namespace=namespace))
    sim.settle()
    sim.succeed(plain(Stage.CONVERT, labels(namespace)))
    sim.settle()
    sim.succeed(plain(Stage.TRAIN))
    sim.settle()
    result = exported(namespace, classes=classes, message=message)
    data = result.termination_message()
    assert len(data) <= MAX_TERMINATION_MESSAGE
    sim.succeed(data.decode())
    sim.settle()
    status = sim.read()
    assert status.phase is not Phase.FAILED, status.message
    assert status.stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED
    assert status.stage(Stage.EXPORT).outputs == result.outputs
    assert (status.summary.ap50, status.metrics and status.metrics.int8.ap50) == ("0.87", "0.8722")


def test_O34_a_message_with_room_says_everything_in_full() -> None:
    result = exported("team", classes=3)
    assert json.loads(result.termination_message()) == json.loads(to_json(result))


def test_O34_keys_outside_the_attempts_folder_stay_whole() -> None:
    written = json.loads(exported("n" * 63, classes=40).termination_message())
    assert [item["key"][:2] for item in written["outputs"]] == ["ca", *["./"] * len(NAMES)]
    assert written["result"]["key"].startswith("runs/")


def test_O34_the_figures_of_classes_give_way_before_everything_else() -> None:
    written = json.loads(exported("n" * 63, classes=40).termination_message())
    assert written["summary"]["metrics"]["int8"] == {"ap50": 0.8722, "ap": 0.4875}
    assert written["summary"]["predictedMappedPercent"] == 98.1


def test_O34_relative_keys_without_a_folder_are_no_result() -> None:
    document = json.loads(exported("n" * 63, classes=40).termination_message())
    del document["result"]
    with pytest.raises(DecodeError, match="no result that says where"):
        parse_result(json.dumps(document))


@pytest.mark.parametrize("key", ["./../../other/model", "./x/../../../models/team/note/v9"])
def test_O34_a_relative_key_leads_out_of_no_folder(key: str) -> None:
    sim = RunSimulation()
    sim.settle()
    result = Artifact("result.json", f"runs/team/{UID}/convert/a1-pod/result.json", SHA, 1)
    outputs = (Artifact("dataset", key, SHA, 1),)
    sim.succeed(to_json(StageResult(Stage.CONVERT, 1, Reason.COMPLETED, "done", outputs, {}, result)).decode())
    sim.settle()
    assert sim.read().reason is Reason.INTEGRITY_MISMATCH
