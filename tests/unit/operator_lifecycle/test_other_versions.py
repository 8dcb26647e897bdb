"""Documents of a newer or an older version of Atoll: a run goes on with them, and a finished one stays finished."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_INPUT, Stage, StageInput
from atoll_contract.stage_result import last_progress, parse_result
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_contract.train_spec import TrainSpec
from atoll_operator.api.crds import definitions
from atoll_operator.api.decode import training_profile
from atoll_operator.api.defaults import defaulted
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.api.status_codec import merge_patch, patched, read_status, status_patch
from atoll_operator.lifecycle.decide import decide
from cluster.objects import profile_manifest
from support.run_simulation import RunSimulation, failure, success

PROFILE = defaulted(profile_manifest("p"), definitions()["TrainingProfile"].schema)["spec"]


def finished() -> dict[str, Any]:
    sim = RunSimulation()
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    return copy.deepcopy(sim.status or {})


def newer(status: dict[str, Any]) -> dict[str, Any]:
    """The status with fields and words that only a newer version knows, at every depth."""
    train = next(item for item in status["stages"] if item["name"] == "train")
    train["lastFailure"] = {"reason": "SpotReclaimed", "message": "x", "time": "2027-01-09T18:00:00Z", "zone": "b"}
    train["workers"] = 4
    status["stages"].append({"name": "verify", "phase": "Waiting", "reason": "Verifying"})
    status["conditions"][0]["reason"] = "Audited"
    status["audit"] = {"by": "somebody"}
    return status


def test_O32_a_finished_run_of_a_newer_version_is_not_worked_on_again() -> None:
    sim = RunSimulation()
    sim.finish()
    sim.status = newer(finished())
    sim.jobs.clear()
    plan = sim.decide()
    assert plan.status.phase is Phase.SUCCEEDED
    assert (plan.create, plan.reserve, plan.delete) == ((), None, ())
    assert sim.read().stage(Stage.TRAIN).last_failure.reason is Reason.INTERNAL_ERROR  # type: ignore[union-attr]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Cancelled"])
@pytest.mark.parametrize("damage", [{"stages": 7}, {"stages": [7]}, {"summary": "a"}, {"conditions": [{"type": "X"}]}])
def test_O32_a_terminal_phase_is_believed_whatever_else_cannot_be_read(phase: str, damage: dict[str, Any]) -> None:
    status = {**finished(), "phase": phase, **damage}
    read = read_status(status)
    assert read is not None
    assert (read.phase, read.completion_time) == (phase, status["completionTime"])
    sim = RunSimulation(status=status)
    plan = decide(sim.view(), (), (), sim.now)
    assert (plan.status.phase, plan.create) == (phase, ())


def test_O32_an_end_that_only_a_newer_version_knows_is_an_end() -> None:
    read = read_status({**finished(), "phase": "Expired"})
    assert read is not None
    assert (read.phase, read.reason) == (Phase.FAILED, Reason.INTERNAL_ERROR)


@pytest.mark.parametrize("word", ["phase", "reason"])
def test_O32_an_active_run_goes_on_over_words_of_a_newer_version(word: str) -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.settle()
    assert sim.status is not None
    sim.status = newer({**sim.status, word: "Verifying"})
    sim.finish()
    assert sim.read().phase is Phase.SUCCEEDED
    assert set(sim.created.values()) == {1}


def test_O32_a_stage_in_a_phase_of_a_newer_version_keeps_its_job() -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    sim.start()
    sim.settle()
    assert sim.status is not None
    sim.status["stages"][1]["phase"] = "Paused"
    sim.settle()
    assert sim.stage(Stage.TRAIN).phase is StagePhase.RUNNING
    assert sim.stage(Stage.TRAIN).attempts == 1
    sim.finish()
    assert set(sim.created.values()) == {1}


def test_O32_what_a_newer_version_wrote_stays_in_the_status() -> None:
    stored = newer(finished())
    before = read_status(stored)
    assert before is not None
    assert status_patch(stored, before, before) == {}
    patch = status_patch(stored, before, replace(before, observed_generation=7))
    assert patch == {"observedGeneration": 7}
    assert status_patch({}, None, before)["phase"] == "Succeeded"


def test_O32_a_status_without_later_fields_is_read() -> None:
    old = {"phase": "Training", "stages": [{"name": "convert", "phase": "Succeeded"}, {"name": "train"}]}
    sim = RunSimulation(status=old)
    sim.settle()
    assert [item["name"] for item in (sim.status or {})["stages"]] == list(Stage)
    assert [job.stage for job in sim.jobs.values()] == [Stage.TRAIN]


@pytest.mark.parametrize("stage", list(Stage))
def test_O32_a_result_with_fields_and_a_reason_of_a_newer_version_is_a_success(stage: Stage) -> None:
    sim = RunSimulation()
    sim.to_stage(stage)
    result = json.loads(success(stage, 1))
    result |= {"gpuSeconds": 3, "reason": "CacheHitRemote"}
    result["outputs"][0]["mediaType"] = "text/plain"
    sim.succeed(json.dumps(result))
    sim.settle()
    assert sim.stage(stage).phase is StagePhase.SUCCEEDED
    assert sim.stage(stage).reason is Reason.COMPLETED


@pytest.mark.parametrize(
    ("code", "reason", "retried"),
    [
        (17, Reason.INTERNAL_ERROR, False),
        (34, Reason.INTERNAL_ERROR, True),
        (13, Reason.DATASET_MALFORMED, False),
        (30, Reason.STORAGE_UNAVAILABLE, True),
    ],
)
def test_O32_the_exit_code_says_what_an_unknown_reason_stands_for(code: int, reason: Reason, retried: bool) -> None:
    sim = RunSimulation()
    sim.to_stage(Stage.TRAIN)
    result = json.loads(failure(Stage.TRAIN, 1, Reason.INTERNAL_ERROR)) | {"reason": "Slow", "message": "a worker"}
    sim.fail(Reason.INTERNAL_ERROR, code=code, message=json.dumps(result))
    sim.settle()
    last = sim.stage(Stage.TRAIN).last_failure
    assert (last.reason, last.message) == (reason, "a worker")
    assert (sim.stage(Stage.TRAIN).phase is StagePhase.PENDING) is retried


def test_O32_a_result_without_later_fields_is_read() -> None:
    read = parse_result('{"stage": "train", "attempt": 1, "reason": "Completed", "message": "done"}')
    assert (read.outputs, read.summary, read.result) == ((), {}, None)


def test_O32_a_progress_line_of_a_newer_version_is_shown() -> None:
    progress = last_progress('ATOLL_PROGRESS {"percent": 40, "peers": 2}')
    assert progress is not None
    assert progress.percent == 40


def train_input() -> dict[str, Any]:
    store = StoreSpec(StoreType.S3, bucket="b")
    given = StageInput(Stage.TRAIN, 1, RunRef("team", "note", "u"), store, train=TrainSpec())
    document: dict[str, Any] = json.loads(given.to_env()[ENV_INPUT])
    return document


def test_O32_a_stage_passes_over_fields_of_a_newer_operator() -> None:
    document = train_input()
    document["train"]["workers"] = 1
    document["store"]["accelerate"] = True
    document["notBefore"] = {"peers": []}
    given = StageInput.from_env({ENV_INPUT: json.dumps(document)})
    assert given == StageInput.from_env({ENV_INPUT: json.dumps(train_input())})


def test_O32_a_stage_fills_in_what_an_older_operator_does_not_send() -> None:
    document = train_input()
    document["train"], document["store"] = {}, {"type": "s3", "bucket": "b"}
    given = StageInput.from_env({ENV_INPUT: json.dumps(document)})
    assert given == StageInput.from_env({ENV_INPUT: json.dumps(train_input())})


def paths(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


def test_O32_a_kept_snapshot_without_later_fields_is_defaulted() -> None:
    """Every field of which the CRD has a default may be missing from a snapshot that an older version kept."""
    whole = training_profile({"spec": PROFILE})
    defaulted_fields = []
    for *parents, name in paths(PROFILE):
        spec = copy.deepcopy(PROFILE)
        node = spec
        for parent in parents:
            node = node[parent]
        del node[name]
        filled = defaulted({"spec": spec}, definitions()["TrainingProfile"].schema)["spec"]
        if filled != PROFILE:
            continue
        defaulted_fields.append(name)
        assert training_profile({"spec": spec}) == whole
    assert {"pendingDeadlineSeconds", "headerBytes", "serviceAccounts"} <= set(defaulted_fields)


def test_O32_a_kept_snapshot_of_a_newer_version_is_read() -> None:
    spec = copy.deepcopy(PROFILE)
    spec["resources"]["verify"] = {"limits": {"cpu": "1"}}
    spec["limits"]["maxNodes"] = 4
    assert training_profile({"spec": spec}) == training_profile({"spec": PROFILE})


def test_a_merge_patch_leaves_out_what_is_equal() -> None:
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}) == {"a": None, "b": {"d": 3}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"a": {"b": [1]}}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 3}, "e": []}),
        ({"a": {"b": {"c": 1}}}, {"a": 2}),
        ({"a": 2}, {"a": {"b": {"c": 1}}}),
    ],
)
def test_a_patch_makes_the_old_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    assert patched(old, merge_patch(old, new)) == new
    assert old == before


def test_a_patch_drops_what_it_names_as_null_and_keeps_the_rest() -> None:
    assert patched({"new": {"of": "another version"}, "a": {"x": 1, "y": 2}}, {"a": {"x": None, "z": {"q": None}}}) == {
        "new": {"of": "another version"},
        "a": {"y": 2, "z": {}},
    }
