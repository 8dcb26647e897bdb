"""The export stage's assessment of the model in the status and in the last message; older results have none."""

from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, StageResult
from atoll_operator.api.status import Phase
from atoll_operator.api.summaries import MAX_ASSESSMENT
from support.run_simulation import SUMMARIES, UID, RunSimulation, artifact, outputs_of, success

USELESS = "finds almost nothing (AP50 0.03): do not use it"
ASSESSMENT = "finds 9 of 10 objects, 9 of 10 detections are right: may be used"


def finished(assessment: Any = None, *, trained: dict[str, Any] | None = None, **entries: Any) -> RunSimulation:
    """A run whose export stage adds `entries` to its summary, and whose train stage adds `trained`."""
    summary = {**SUMMARIES[Stage.EXPORT], "assessment": assessment, **entries}
    exported = StageResult(Stage.EXPORT, 1, Reason.COMPLETED, "done", outputs_of(Stage.EXPORT), summary)
    sim = RunSimulation()
    for stage in (Stage.CONVERT, Stage.TRAIN):
        sim.settle()
        if stage is Stage.TRAIN and trained is not None:
            done = StageResult(stage, 1, Reason.COMPLETED, "done", outputs_of(stage), trained)
            sim.succeed(done.termination_message().decode())
        else:
            sim.succeed(success(stage, 1))
    sim.settle()
    sim.succeed(exported.termination_message().decode())
    sim.finish()
    return sim


def below_the_gate(*outputs: Artifact) -> RunSimulation:
    """A run whose model is measured and not good enough."""
    summary = {**SUMMARIES[Stage.EXPORT], "assessment": USELESS}
    text = f"{USELESS}; nothing is published, as minAP50: measured 0.03, must be at least 0.2"
    result = StageResult(Stage.EXPORT, 1, Reason.QUALITY_GATE_FAILED, text, outputs, summary)
    sim = RunSimulation()
    for stage in (Stage.CONVERT, Stage.TRAIN):
        sim.settle()
        sim.succeed(success(stage, 1))
    sim.settle()
    sim.fail(Reason.QUALITY_GATE_FAILED, message=result.termination_message().decode())
    sim.settle()
    return sim


def test_a_model_below_its_gate_has_figures_and_a_report_but_no_release() -> None:
    report = artifact("report", f"runs/team/{UID}/export/a1-pod/report.html")
    status = below_the_gate(report).read()
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.QUALITY_GATE_FAILED)
    assert status.message.startswith(f"{USELESS}; nothing is published")
    assert status.stage(Stage.EXPORT).outputs == (report,)
    assert (status.summary.ap50, status.summary.assessment) == ("0.88", USELESS)
    assert status.summary.release == ""


def test_a_failed_result_cannot_name_files_of_others() -> None:
    status = below_the_gate(artifact("report", "runs/other/x/export/a1-pod/report.html")).read()
    assert status.reason is Reason.QUALITY_GATE_FAILED
    assert status.stage(Stage.EXPORT).outputs == ()


def test_a_retry_measures_anew() -> None:
    sim = below_the_gate(artifact("report", f"runs/team/{UID}/export/a1-pod/report.html"))
    sim.run = replace(sim.run, retry="again:train")
    sim.settle()
    status = sim.read()
    assert status.phase is Phase.TRAINING
    assert (status.metrics, status.per_class, status.summary.ap50, status.summary.assessment) == (None, (), "", None)
    assert status.stage(Stage.EXPORT).outputs == ()


def test_a_run_ends_with_the_assessment_on_its_model() -> None:
    status = finished(ASSESSMENT).read()
    assert status.phase is Phase.SUCCEEDED
    assert status.summary.assessment == ASSESSMENT
    assert status.message == f"published as note-v1: {ASSESSMENT}"


def test_an_old_result_without_a_assessment_is_read_as_before() -> None:
    sim = RunSimulation()
    sim.finish()
    status = sim.read()
    assert (status.summary.assessment, status.message) == (None, "published as note-v1")
    assert sim.status is not None
    assert "assessment" not in sim.status["summary"]


@pytest.mark.parametrize("assessment", [7, ["finds all"], {"a": 1}, "", True, None])
def test_what_is_no_text_is_no_assessment(assessment: Any) -> None:
    assert finished(assessment).read().message == "published as note-v1"


def test_a_assessment_is_one_line_of_bounded_length() -> None:
    assessment = finished("finds\n\x1b[31m" + "x" * 900).read().summary.assessment
    assert assessment is not None
    assert len(assessment) == MAX_ASSESSMENT
    assert assessment.isprintable()


def measured(**int8: Any) -> dict[str, Any]:
    return {"float": {"ap50": 0.77}, "int8": {"ap50": 0.768, **int8}, "pictures": 32}


def test_the_interval_of_a_figure_and_its_pictures_are_in_the_status() -> None:
    metrics = finished(metrics=measured(ap50Interval=[0.592, 0.921]), split="validation").read().metrics
    assert metrics is not None
    assert (metrics.int8.ap50, metrics.int8.ap50_low, metrics.int8.ap50_high) == ("0.768", "0.592", "0.921")
    assert (metrics.pictures, metrics.split) == (32, "validation")


@pytest.mark.parametrize("found", [None, 7, "0.5", [], [0.5], [0.5, "x"], [None, 0.9], [0.1, 0.5, 0.9], {"low": 0.5}])
def test_what_is_no_interval_is_left_out(found: Any) -> None:
    metrics = finished(metrics=measured(ap50Interval=found), split="train/../x").read().metrics
    assert metrics is not None
    assert (metrics.int8.ap50, metrics.int8.ap50_low, metrics.int8.ap50_high) == ("0.768", None, None)
    assert metrics.split is None


@pytest.mark.parametrize(("told", "kept"), [(412, 412), (None, None), (-1, None), ("412", None), (1.5, None)])
def test_the_time_on_a_machine_without_other_work_is_in_the_status(told: Any, kept: int) -> None:
    assert finished(trained={"unloadedSeconds": told}).read().stage(Stage.TRAIN).unloaded_seconds == kept
