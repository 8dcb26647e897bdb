"""The export stage's assessment of the model in the status and in the last message; older results have none."""

from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_contract.stage_result import StageResult
from atoll_operator.api.status import Phase
from atoll_operator.lifecycle.results import MAX_ASSESSMENT
from support.run_simulation import SUMMARIES, RunSimulation, outputs_of, success

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
