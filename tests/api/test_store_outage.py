"""The bucket away for half an hour, under the real operator, with stages as real processes on a real MinIO.

The clock of this test runs 60 times as fast as the world's: every interval that the outage meets is shortened by that
factor, through the settings that an admin has. Nothing is mocked but the kubelet that starts the processes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest

from atoll_contract.stage import Stage
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from cluster.stage_processes import StageProcesses
from support.minio import MinioServer
from support.polling import wait_until
from support.s3 import bucket_spec

pytestmark = [pytest.mark.api, pytest.mark.slow, pytest.mark.timeout(1200)]

FASTER = 60
OUTAGE_SECONDS = 30 * 60 / FASTER
# Well within the window in which attempts are repeated.
LONGEST_SECONDS = 4 * 3600 / FASTER
SETTINGS = {
    "ATOLL_RETRY_FIRST_SECONDS": str(5 / FASTER),
    "ATOLL_RETRY_LONGEST_SECONDS": str(300 / FASTER),
    "ATOLL_STORAGE_WINDOW_SECONDS": str(6 * 3600 / FASTER),
    "ATOLL_STORE_PATIENCE_SECONDS": str(180 / FASTER),
}
# The stage in which the outage meets each run; the last one is applied while the bucket is away.
MET = {"publishing": Stage.PUBLISH, "training": Stage.TRAIN, "converting": Stage.CONVERT, "late": Stage.CONVERT}
BUCKET = "outage"


@dataclass(frozen=True)
class Team:
    """Runs whose stages are processes that wait for the outage where it is to meet them."""

    objects: Objects
    processes: StageProcesses

    def start(self, run: str) -> None:
        own = {"profileRef": {"name": self.objects.namespace}, "objectStoreRef": {"name": "real"}}
        self.objects.create("trainingruns", run_manifest(run, **own, publish={"model": run}))

    def hold(self, stage: Stage) -> None:
        """Processes of this stage that start from now on work for minutes, a checkpoint after every step."""
        self._plan({str(stage): {"steps": 3000, "seconds": 0.1}})

    def release(self) -> None:
        self._plan({})

    def stage(self, run: str) -> dict[str, Any]:
        stages = self.objects.status(run).get("stages", [])
        return next((item for item in stages if item["name"] == MET[run]), {})

    def _plan(self, plan: dict[str, Any]) -> None:
        unfinished = self.processes.plan / "plan.new"
        unfinished.write_text(json.dumps(plan), encoding="utf-8")
        unfinished.replace(self.processes.plan / "plan.json")


@pytest.fixture
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def runs(team: Objects, minio: MinioServer, tmp_path: Path) -> Iterator[Team]:
    spec = bucket_spec(minio, BUCKET, tmp_path / "credentials")
    store = store_manifest("real")
    store["spec"] |= {"endpoint": minio.endpoint, "bucket": BUCKET, "prefix": spec.prefix}
    team.create("objectstores", store)
    (tmp_path / "plan").mkdir()
    (tmp_path / "pods").mkdir()
    processes = StageProcesses(tmp_path / "pods", tmp_path / "plan", tmp_path / "credentials")
    yield Team(team, processes)
    processes.close()


def test_S1_a_bucket_that_is_away_for_half_an_hour_fails_no_run(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, runs: Team, minio: MinioServer
) -> None:
    scripts = {(run, stage): runs.processes for run in MET for stage in Stage}
    namespace = runs.objects.namespace
    with (
        OperatorProcess(control_plane, api, namespace, settings=SETTINGS) as operator,
        Kubelet(api, namespace, scripts=dict(scripts)),
    ):
        for run, stage in list(MET.items())[:-1]:
            runs.hold(stage)
            runs.start(run)
            wait_until(lambda: runs.processes.at_work(run, stage), what=f"{run} at work", timeout_seconds=120)  # noqa: B023
        minio.stop()
        runs.release()
        runs.start("late")
        outlast(runs)
        minio.start()
        ends = {run: runs.objects.wait_for_phase(run, "Succeeded", "Failed") for run in MET}
        met = {run: runs.stage(run) for run in MET}
        operator.stop()
        assert operator.problems() == []
    assert {run: end["phase"] for run, end in ends.items()} == dict.fromkeys(MET, "Succeeded")
    # It met every run, which said so, and was waited for without being counted as a failure.
    told = {run: (stage["lastFailure"]["reason"], stage["failures"]) for run, stage in met.items()}
    assert told == dict.fromkeys(MET, ("StorageUnavailable", 0))


def outlast(runs: Team) -> None:
    """Until half an hour has passed, and on until the outage has cost each run two attempts: on a busy machine one
    attempt may take all of a shortened half hour."""
    began = time.monotonic()

    def over() -> bool:
        attempts = [runs.stage(run).get("attempts", 0) for run in MET]
        return time.monotonic() >= began + OUTAGE_SECONDS and min(attempts) > 2

    wait_until(over, what="the end of the outage", timeout_seconds=LONGEST_SECONDS, interval_seconds=0.3)
