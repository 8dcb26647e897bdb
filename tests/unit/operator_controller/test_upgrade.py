"""A run, its Job and its pod as commit 8c7468f left them, taken over in flight: one Job for each stage there."""

from pathlib import Path
from typing import Any

import yaml

from atoll_contract.document import rfc3339
from atoll_contract.stage import Stage
from atoll_operator.api.crds import definitions
from atoll_operator.api.defaults import defaulted
from atoll_operator.api.status import Phase
from atoll_operator.api.status_codec import read_status
from atoll_operator.kube.objects import JOBS, PODS, RELEASES, REVISIONS, RUNS, STORES
from atoll_operator.kube.transport import Body
from cluster.objects import store_manifest
from support.fake_cluster import FakeServer
from support.fake_operator import FakeOperator, stages_of, status_of, succeed
from support.run_simulation import UID, success

FROZEN = Path(__file__).parents[2] / "golden" / "frozen"


def frozen(kind: str, name: str = "") -> Body:
    objects = yaml.safe_load_all((FROZEN / "trainingrun-8c7468f.yaml").read_text(encoding="utf-8"))
    found: Body = next(item for item in objects if item["kind"] == kind and name in (item["metadata"]["name"], ""))
    return found


def earlier_job(run: Body, stage: str = "train") -> Body:
    """The Job that the status of the run names, as that commit built it."""
    job: Body = yaml.safe_load((FROZEN / "job-train-8c7468f.yaml").read_text(encoding="utf-8"))
    reference = next(item["jobRef"] for item in run["status"]["stages"] if item["name"] == stage)
    labels = {"atoll.dev/run": "first", "atoll.dev/run-uid": run["metadata"]["uid"], "atoll.dev/attempt": "1"}
    owner = job["metadata"]["ownerReferences"][0] | {"name": "first", "uid": run["metadata"]["uid"]}
    job["metadata"]["labels"] |= labels
    job["metadata"] |= {"name": reference["name"], "uid": reference["uid"], "namespace": "team"}
    job["metadata"]["ownerReferences"] = [owner]
    assert [item["name"] for item in job["spec"]["template"]["spec"]["containers"]] == ["stage"]
    return job


def in_flight() -> tuple[FakeServer, Body]:
    server = FakeServer()
    run = frozen("TrainingRun", "first")
    # The fake server serves one namespace.
    run["metadata"]["namespace"] = "team"
    server.add(REVISIONS, frozen("ControllerRevision"), "atoll-system")
    server.add(STORES, defaulted(store_manifest(), definitions()["ObjectStore"].schema), "team")
    server.add(RUNS, run, "team")
    job = server.add(JOBS, earlier_job(run), "team")
    return server, job


def add_pod(server: FakeServer, job: Body, phase: str, state: Body) -> None:
    metadata = job["metadata"]
    owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    labels = metadata["labels"] | {"batch.kubernetes.io/job-name": metadata["name"]}
    pod: dict[str, Any] = {
        "metadata": {"name": "earlier", "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "stage"}]},
        "status": {"phase": phase, "containerStatuses": [{"name": "stage", "state": state}]},
    }
    server.add(PODS, pod, "team")


def taken_over(server: FakeServer) -> FakeOperator:
    operator = FakeOperator(server)
    operator.start()
    operator.settle()
    return operator


def test_a_run_in_flight_ends_once_with_one_version() -> None:
    server, job = in_flight()
    server.logs["earlier"] = 'ATOLL_PROGRESS {"percent":99.0,"step":990,"totalSteps":1000}\n'
    add_pod(server, job, "Running", {"running": {"startedAt": rfc3339(server.clock.now())}})
    operator = taken_over(server)
    assert [item["metadata"]["uid"] for item in server.all(JOBS)] == [job["metadata"]["uid"]]
    operator.advance(150)
    status = status_of(server, "first")
    assert (status.phase, status.stage(Stage.TRAIN).attempts) == (Phase.TRAINING, 1)
    assert status.progress is not None
    assert status.progress.step == 990

    now = rfc3339(server.clock.now())
    message = success(Stage.TRAIN, 1).replace(UID, job["metadata"]["labels"]["atoll.dev/run-uid"])
    ended = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": now, "finishedAt": now}
    pod_status = {"phase": "Succeeded", "containerStatuses": [{"name": "stage", "state": {"terminated": ended}}]}
    server.edit(PODS, "team", "earlier", {"status": pod_status})
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": now}
    server.edit(JOBS, "team", job["metadata"]["name"], {"status": {"conditions": [complete]}})
    for _ in range(6):
        operator.settle()
        if status_of(server, "first").is_terminal:
            break
        last = stages_of(server.all(JOBS)[-1])[-1].stage
        succeed(server, last)
    assert [[str(number.stage) for number in stages_of(item)] for item in server.all(JOBS)][1] == ["export"]
    assert status_of(server, "first").phase is Phase.SUCCEEDED
    assert [item.attempts for item in status_of(server, "first").stages if item.attempts] == [1, 1, 1, 1, 1]
    assert len(server.all(RELEASES)) == 1
    assert operator.errors == []


def test_the_frozen_status_is_that_of_a_run_in_training() -> None:
    status = read_status(frozen("TrainingRun", "first")["status"])
    assert status is not None
    assert status.phase is Phase.TRAINING
