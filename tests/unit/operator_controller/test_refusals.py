"""What the API server or an admission policy refuses is told by the run itself, and what succeeded before is kept."""

from __future__ import annotations

import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, StagePhase
from atoll_operator.kube.errors import ClusterError, Refused, Unavailable
from atoll_operator.kube.objects import EVENTS, RELEASES
from support.fake_cluster import FakeServer
from support.fake_operator import FakeOperator, add_run, job_of, prepared, status_of, succeed

STAGES = (Stage.CONVERT, Stage.TRAIN, Stage.EXPORT)
POLICY = "ModelReleases of this team are frozen"


def exported(**faults: int) -> tuple[FakeServer, FakeOperator]:
    """A run whose export has just succeeded, so that it needs a version, and calls that fail by their status."""
    server = prepared()
    operator = FakeOperator(server)
    operator.start()
    add_run(server)
    operator.settle()
    for stage in STAGES:
        assert job_of(server, stage)
        if stage is Stage.EXPORT:
            for call, status in faults.items():
                server.fail(call.replace("_", " "), status, message=POLICY, times=1000)
        succeed(server, stage)
        operator.settle()
    return server, operator


def warnings(server: FakeServer) -> list[str]:
    return [event["message"] for event in server.all(EVENTS) if event["reason"] == "InternalError"]


@pytest.mark.parametrize(("status", "error"), [(422, Refused), (400, Refused), (500, Unavailable)])
def test_O35_a_success_is_recorded_where_no_version_can_be_reserved(status: int, error: type[ClusterError]) -> None:
    server, operator = exported(create_modelreleases=status)
    assert {type(item) for _, item in operator.errors} == {error}
    read = status_of(server)
    assert read.stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED
    assert read.summary.ap50 == "0.88"
    assert not read.is_terminal


def test_O35_a_refused_release_is_told_in_the_status_and_by_an_event_and_taken_back_later() -> None:
    server, operator = exported(create_modelreleases=422)
    read = status_of(server)
    assert read.reason is Reason.INTERNAL_ERROR
    assert read.message == f"refused by the API server: create modelreleases team: {POLICY}"
    assert [(item.status, item.reason) for item in read.conditions if item.type == "Stalled"] == [
        ("True", Reason.INTERNAL_ERROR)
    ]
    assert warnings(server) == [read.message]
    operator.advance(500, step=5)
    assert len(warnings(server)) == 1
    server.faults.clear()
    operator.advance(70, step=5)
    assert len(server.all(RELEASES)) == 1
    assert "refused" not in status_of(server).message
    succeed(server, Stage.PUBLISH)
    operator.advance(10)
    assert status_of(server).phase is Phase.SUCCEEDED


def test_O35_a_refused_status_is_told_by_an_event() -> None:
    server, operator = exported(update_trainingruns=422)
    assert {type(item) for _, item in operator.errors} == {Refused}
    assert [POLICY in message for message in warnings(server)] == [True]
    server.faults.clear()
    operator.advance(70, step=5)
    assert status_of(server).stage(Stage.EXPORT).phase is StagePhase.SUCCEEDED
    assert "refused" not in status_of(server).message
