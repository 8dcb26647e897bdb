"""Stages as real processes on a real S3 server, under the real operator; the test plays the kubelet around them.

Ids as in docs/faults.md.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage, StageInput
from atoll_contract.stage_result import Artifact, StageResult
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, StageEnd
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from support.archives import supervisely, tar_bytes
from support.minio import MinioServer
from support.polling import wait_until
from support.s3 import bucket_spec, write_credentials

pytestmark = pytest.mark.api

TESTS = Path(__file__).parents[1]
DATASET = "datasets/team/sample.tar"


@dataclass
class Bucket:
    """A bucket of the test's, its keys as a Secret of the team's namespace, and the stages that ran on it."""

    spec: StoreSpec
    folder: Path
    outputs: list[bytes] = field(default_factory=list)
    # Starts of each stage, by run and stage.
    starts: dict[tuple[str, Stage], int] = field(default_factory=dict)

    @property
    def store(self) -> S3Store:
        return S3Store(self.spec)

    def run(self, given: StageInput, pod_uid: str, command: list[str]) -> StageEnd:
        """The stage's process, as the kubelet starts it: the Secret's files under a path of this machine."""
        key = (given.run.name, given.stage)
        self.starts[key] = self.starts.get(key, 0) + 1
        secret = Path(given.store.credentials_dir or "").name
        here = replace(given, store=replace(given.store, credentials_dir=str(self.folder / secret)))
        if here.convert is not None:
            sources = tuple(replace(item, store=None) for item in here.convert.sources)
            here = replace(here, convert=replace(here.convert, sources=sources))
        message = self.folder / f"{pod_uid}.message"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ATOLL_", "AWS_"))},
            "PYTHONPATH": str(TESTS),
            "ATOLL_POD_UID": pod_uid,
            "ATOLL_TERMINATION_LOG": str(message),
            "ATOLL_WORK_DIR": str(self.folder / pod_uid),
            **here.to_env(),
        }
        done = subprocess.run(
            [sys.executable, "-P", *command], env=environment, capture_output=True, timeout=300, check=False
        )
        self.outputs += [done.stdout, done.stderr]
        return StageEnd(done.returncode, message.read_text(encoding="utf-8"))

    def train(self, given: StageInput, pod_uid: str) -> StageEnd:
        """A training in miniature, by the runner that every stage has."""
        return self.run(given, pod_uid, ["-m", "support.scripted_stage", "ok"])

    def convert(self, given: StageInput, pod_uid: str) -> StageEnd:
        return self.run(given, pod_uid, ["-m", "atoll_stages.convert"])

    def converted(self, given: StageInput, pod_uid: str) -> StageEnd:
        """A conversion's result without its work: one file, with its digest."""
        info = self.store.put(f"cache/{given.run.namespace}/datasets/{pod_uid}/dataset.json", b"{}")
        artifact = Artifact("dataset", info.key, info.sha256 or "", info.size)
        result = StageResult(given.stage, given.attempt, Reason.COMPLETED, "converted", (artifact,), {})
        return StageEnd(0, result.termination_message().decode())


@pytest.fixture(scope="module")
def server() -> Iterator[MinioServer]:
    with MinioServer() as running:
        yield running


@pytest.fixture(scope="module")
def bucket(server: MinioServer, team: Objects, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    folder = tmp_path_factory.mktemp("stages")
    made = Bucket(bucket_spec(server, team.namespace, folder / "s3"), folder)
    plant(team, "s3", server.access_key, server.secret_key)
    manifest = store_manifest("real")
    manifest["spec"] |= {"bucket": team.namespace, "endpoint": server.endpoint}
    team.create("objectstores", manifest)
    return made


def plant(team: Objects, name: str, access_key: str, secret_key: str) -> None:
    """A Secret as an admin makes it for a store."""
    values = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    kubernetes.client.CoreV1Api(team.api).create_namespaced_secret(
        team.namespace, {"metadata": {"name": name}, "stringData": values}, _request_timeout=10
    )


def start_run(team: Objects, name: str, *, store: str = "real") -> None:
    spec: dict[str, Any] = {"profileRef": {"name": team.namespace}, "objectStoreRef": {"name": store}}
    team.create("trainingruns", run_manifest(name, **spec, datasets=[{"key": DATASET}], publish={"model": name}))


@pytest.mark.parametrize("what", ["pod", "job"])
def test_O19_work_that_is_gone_before_anybody_saw_its_end_is_not_done_again(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet, bucket: Bucket, what: str
) -> None:
    name = f"vanished-{what}"
    may_end = threading.Event()

    def train(given: StageInput, pod_uid: str) -> StageEnd | None:
        return bucket.train(given, pod_uid) if may_end.is_set() else None

    kubelet.scripts[name, Stage.CONVERT] = bucket.converted
    kubelet.scripts[name, Stage.TRAIN] = train
    start_run(team, name)
    wait_until(lambda: train_pod(team, name, "running"), what="the training", timeout_seconds=60)
    # A Job that went before it was in the status would be made again under its name, as the same attempt.
    wait_until(lambda: train_job(team, name), what="the Job in the status", timeout_seconds=60)
    operator.kill()
    may_end.set()
    wait_until(lambda: train_pod(team, name, "terminated"), what="its end", timeout_seconds=120)
    # Export follows by itself, and the Job has ended before anybody looks.
    pod = wait_until(lambda: train_pod(team, name, "terminated", phase="Succeeded"), what="the end of the pod")
    core, batch = kubernetes.client.CoreV1Api(team.api), kubernetes.client.BatchV1Api(team.api)
    if what == "job":
        job = team.pods()[pod]["metadata"]["labels"]["batch.kubernetes.io/job-name"]
        batch.delete_namespaced_job(job, team.namespace, propagation_policy="Background", _request_timeout=10)
    else:
        core.delete_namespaced_pod(pod, team.namespace, grace_period_seconds=0, _request_timeout=10)
    wait_until(lambda: pod not in team.pods(), what="the pod to be gone", timeout_seconds=60)
    operator.start()
    status = team.wait_for_phase(name, "Succeeded", "Failed")
    trained = next(stage for stage in status["stages"] if stage["name"] == "train")
    assert (status["phase"], trained["reason"], trained["attempts"]) == ("Succeeded", "Adopted", 2)
    # Two processes were started, and one of them trained.
    assert bucket.starts[name, Stage.TRAIN] == 2
    run = team.get("trainingruns", name) or {}
    made = [item.key for item in bucket.store.list(f"runs/{team.namespace}/{run['metadata']['uid']}/train/")]
    assert len([key for key in made if key.endswith("weights.h5")]) == 1, made


def train_job(team: Objects, run: str) -> str | None:
    """The train stage's Job by the run's status."""
    status = (team.get("trainingruns", run) or {}).get("status", {})
    stages = {stage["name"]: stage for stage in status.get("stages", [])}
    name: str | None = stages.get("train", {}).get("jobRef", {}).get("name")
    return name


def train_pod(team: Objects, run: str, state: str, *, phase: str = "") -> str | None:
    """The pod whose train container is in this state."""
    for name, pod in team.pods().items():
        containers = pod["status"].get("initContainerStatuses") or []
        found = any(item["name"] == "train" and state in item["state"] for item in containers)
        if name.startswith(f"{run}-train-") and found and phase in ("", pod["status"]["phase"]):
            return name
    return None


CANARIES = {"s3-wrong": ("cAnArYkEy0123456789", "cAnArYsEcReT0123456789abcdef")}


def test_I6_planted_keys_are_found_nowhere_but_in_their_secrets(
    control_plane: ControlPlane,
    team: Objects,
    operator: OperatorProcess,
    kubelet: Kubelet,
    bucket: Bucket,
    server: MinioServer,
) -> None:
    """One run goes all the way with the right keys, another is refused with wrong ones: both kinds are looked for."""
    plant(team, "s3-wrong", *CANARIES["s3-wrong"])
    write_credentials(bucket.folder / "s3-wrong", *CANARIES["s3-wrong"])
    wrong = store_manifest("wrong")
    wrong["spec"] |= {"bucket": team.namespace, "endpoint": server.endpoint}
    wrong["spec"]["credentials"] = {"secretRef": {"name": "s3-wrong"}}
    team.create("objectstores", wrong)
    bucket.store.put(DATASET, tar_bytes(supervisely()))
    for name in ("kept", "refused"):
        kubelet.scripts[name, Stage.CONVERT] = bucket.convert
        kubelet.scripts[name, Stage.TRAIN] = bucket.train
    start_run(team, "kept")
    start_run(team, "refused", store="wrong")
    assert team.wait_for_phase("kept", "Succeeded", "Failed", timeout_seconds=240)["phase"] == "Succeeded"
    assert team.wait_for_phase("refused", "Succeeded", "Failed")["reason"] == "StorageForbidden"
    found = {
        **{f"output {number}": data for number, data in enumerate(bucket.outputs)},
        **{f"bucket {item.key}": bucket.store.get(item.key) for item in bucket.store.list("")},
        **everything(control_plane, team.namespace),
        "operator": json.dumps(operator.log()).encode(),
    }
    planted = [*CANARIES["s3-wrong"], server.access_key, server.secret_key]
    holders = {name for name, data in found.items() if any(holds(data, key) for key in planted)}
    # The search itself works: it finds them where they belong.
    assert holders == {"secrets"}
    assert len(found) > 30


def holds(data: bytes, key: str) -> bool:
    return key.encode() in data or base64.b64encode(key.encode()) in data


def everything(plane: ControlPlane, namespace: str) -> dict[str, bytes]:
    """Every object of the namespace, of whatever kind, as the API server lists it."""
    groups = json.loads(plane.get("/apis")[1])["groups"]
    roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    found: dict[str, bytes] = {}
    for root in roots:
        for kind in json.loads(plane.get(root)[1])["resources"]:
            if kind["namespaced"] and "list" in kind["verbs"] and "/" not in kind["name"]:
                status, data = plane.get(f"{root}/namespaces/{namespace}/{kind['name']}")
                assert status == 200, (root, kind["name"])
                found[kind["name"]] = found.get(kind["name"], b"") + data
    return found
