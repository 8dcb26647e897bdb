"""A training of two workers that the real Kueue preempts goes on from its checkpoint, and its AP50 arrives.

The stages do no work, but they are processes of the real runner on a real S3 server: they save a checkpoint at each
step, end on SIGTERM, and begin with the newest checkpoint. The test plays the kubelet that starts and ends them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.stage import Stage
from cluster.kubelet import Kubelet
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from support.kueue_queue import QUEUE_LABEL, TeamQueue, job_of, stage_of
from support.minio import MinioServer
from support.polling import wait_until
from support.s3 import bucket_spec
from support.worker_processes import WorkerProcesses

pytestmark = [pytest.mark.api, pytest.mark.kueue, pytest.mark.slow, pytest.mark.timeout(900)]

NAME, BUCKET = "preempted", "preempted"
STEPS = 60
TRAINING = {"workers": 2, "initFrom": {"type": "random"}, "steps": STEPS, "batchSize": 4}


@pytest.fixture
def processes(team: Objects, tmp_path: Path) -> Iterator[WorkerProcesses]:
    with MinioServer() as server:
        spec = bucket_spec(server, BUCKET, tmp_path / "credentials")
        store = store_manifest("real")
        store["spec"] |= {"endpoint": server.endpoint, "bucket": BUCKET, "prefix": spec.prefix}
        team.create("objectstores", store)
        plan, pods = tmp_path / "plan", tmp_path / "pods"
        plan.mkdir()
        pods.mkdir()
        (plan / "plan.json").write_text(json.dumps({"train": {"steps": STEPS, "seconds": 0.2}}), encoding="utf-8")
        made = WorkerProcesses(pods, plan, tmp_path / "credentials", team=team)
        yield made
        made.close()


def wait(probe: Callable[[], Any], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=240, interval_seconds=0.2)


def test_a_preempted_training_goes_on_from_its_checkpoint_and_ap50_arrives(
    team: Objects, queue: TeamQueue, operator: OperatorProcess, kubelet: Kubelet, processes: WorkerProcesses
) -> None:
    for stage in Stage:
        kubelet.scripts[NAME, stage] = processes
    manifest = run_manifest(
        NAME, objectStoreRef={"name": "real"}, training=TRAINING, compile=[], publish={"model": NAME}
    )
    manifest["metadata"]["labels"] = {QUEUE_LABEL: "gpu"}
    team.create("trainingruns", manifest)
    wait(lambda: any(max(steps) > 5 for steps in processes.steps(Stage.TRAIN)), "some steps of the training")
    first = job_of(team, NAME, "train")
    assert first is not None

    queue.occupy("urgent-job", cpus=2, priority="urgent")
    wait(lambda: "was taken out of queue gpu" in stage_of(team, NAME, "train")["message"], "the preemption")
    wait(processes.removed_have_ended, "both workers to end")
    before = team.status(NAME)
    assert (before["phase"], before["reason"], "heldSince" in before) == ("Training", "Queued", True)
    operator.kill()
    operator.start()

    queue.leave("urgent-job")
    status = team.wait_for_phase(NAME, "Succeeded", "Failed", timeout_seconds=300)
    assert status["phase"] == "Succeeded", status["message"]
    train = stage_of(team, NAME, "train")
    assert (train["attempts"], train.get("failures", 0)) == (1, 0)
    assert train["jobRef"]["uid"] == first["metadata"]["uid"]
    begun, resumed = processes.steps(Stage.TRAIN)
    # It may have ended between saving a step and reporting it.
    assert resumed[0] in (begun[-1] + 1, begun[-1] + 2)
    assert begun[-1] < STEPS == resumed[-1]
    assert (status["summary"]["ap50"], status["release"]["name"]) == ("0.88", f"{NAME}-v1")
