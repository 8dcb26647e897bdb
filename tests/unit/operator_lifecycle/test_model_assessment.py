"""The export stage's assessment of the model in the status and in the last message; older results have none."""

from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import Artifact, StageResult
from atoll_operator.api.status import Phase
from atoll_operator.lifecycle.results import MAX_ASSESSMENT
from support.run_simulation import SUMMARIES, UID, RunSimulation, artifact, outputs_of, success

USELESS = "finds almost nothing (AP50 0.03): do not use it"
ASSESSMENT = "finds 9 of 10 objects, 9 of 10 detections are right: may be used"


def finished(assessment: Any) -> RunSimulation:
    summary = {**SUMMARIES[Stage.EXPORT], "assessment": assessment}
    exported = StageResult(Stage.EXPORT, 1, Reason.COMPLETED, "done", outputs_of(Stage.EXPORT), summary)
    sim = RunSimulation()
    for stage in (Stage.CONVERT, Stage.TRAIN):
        sim.settle()
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
