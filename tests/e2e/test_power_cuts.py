"""Containers of a training that are killed as by a power cut, on a real node; and `atoll doctor` on that cluster.

By hand: `make e2e-full`. The stages do no work (`support.noop_stages`), on the real runner and a real bucket.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cluster import node_images
from cluster.node_containerd import kill_container
from cluster.node_host import inside
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until
from support.step_log import StepLog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

CUTS = 3
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


@pytest.fixture
def team(cluster: NodeCluster, installed: str, namespace_of_team: str) -> Team:
    """A team whose training writes a checkpoint each second."""
    image = node_images.make_noop_stages({"train": {"steps": 60, "seconds": 1}})
    node_images.load(image)
    made = Team(cluster, installed, namespace_of_team)
    made.prepare()
    images = dict.fromkeys(("convert", "train", "publish"), image)
    made.profile("noop", images=images, resources=dict.fromkeys(("convert", "train", "export", "publish"), SMALL))
    return made


def stage_of(team: Team, name: str) -> dict[str, Any]:
    """The train stage of the run."""
    stages = team.runs()[name].get("status", {}).get("stages", [])
    return next((item for item in stages if item["name"] == "train"), {})


def running_container(team: Team) -> str:
    """The id of the train container that runs; empty while none does."""
    for pod in team.items("pods", "-l", "atoll.dev/stage=train"):
        for item in pod["status"].get("initContainerStatuses", []):
            if item["name"] == "train" and "running" in item["state"]:
                return str(item["containerID"].removeprefix("containerd://"))
    return ""


def logged_step(team: Team, attempt: int) -> int:
    """The step of the newest checkpoint in the attempt's log."""
    selector = f"atoll.dev/stage=train,atoll.dev/attempt={attempt}"
    log = team.cluster.kubectl("logs", "-n", team.namespace, "-l", selector, "-c", "train", "--tail=1")
    mark = '"checkpointStep":'
    return int(log.partition(mark)[2].partition(",")[0].rstrip("}\n") or 0) if mark in log else 0


def noop_run(name: str, **spec: Any) -> dict[str, Any]:
    known = {
        "profileRef": {"name": "noop"},
        "datasets": [{"key": "datasets/local/field.tar"}],
        "training": {"initFrom": {"type": "random"}, "steps": 60, "batchSize": 8},
        "publish": {"model": name},
    }
    return {"metadata": {"name": name}, "spec": known | spec}


def cut(team: Team, attempt: int, *, after: int, steps: StepLog) -> int:
    """Kills the attempt once it has the checkpoint of step `after`; returns the step that it reached."""
    container = wait(lambda: running_container(team), f"attempt {attempt} of the training")
    wait(lambda: logged_step(team, attempt) >= after, f"the checkpoint of step {after}")
    reached = logged_step(team, attempt)
    kill_container(container)
    steps.add(f"attempt {attempt} is killed at step {reached}")
    wait(lambda: stage_of(team, "cut").get("attempts", 0) > attempt, f"attempt {attempt + 1}")
    last: str = stage_of(team, "cut")["lastFailure"]["message"]
    steps.add(last)
    assert "ATOLL_PROGRESS" not in last
    assert "exit code 137" in last
    return reached


def test_O38_three_cuts_end_no_run_that_moves_on(team: Team, steps: StepLog) -> None:
    team.start(noop_run("cut"))
    reached = 0
    for attempt in range(1, CUTS + 1):
        reached = cut(team, attempt, after=reached + 5, steps=steps)
    wait(lambda: team.runs()["cut"]["status"]["phase"] in ("Succeeded", "Failed"), "the end of the run")
    status = team.runs()["cut"]["status"]
    train = next(item for item in status["stages"] if item["name"] == "train")
    steps.add(
        f"{status['phase']} after {train['attempts']} attempts; failures {train['failures']}: {status['message']}"
    )
    assert status["phase"] == "Succeeded"
    assert train["attempts"] == CUTS + 1
    assert train["failures"] <= 1


def test_O39_a_run_says_soon_that_its_bucket_does_not_answer(team: Team, cluster: NodeCluster, steps: StepLog) -> None:
    store = cluster.get("objectstore", "default", namespace=team.namespace)["spec"]
    # A port that nothing listens on.
    store["endpoint"] = store["endpoint"].rpartition(":")[0] + ":9009"
    team.store("away", store)
    team.start(noop_run("away", objectStoreRef={"name": "away"}))
    wait(lambda: team.items("pods", "-l", "atoll.dev/stage=convert"), "the pod")
    steps.add("the pod is there")
    wait(lambda: "waits: s3://" in team.runs()["away"].get("status", {}).get("message", ""), "a word on the bucket")
    status = team.runs()["away"]["status"]
    steps.add(f"{status['phase']}: {status['message']}")
    assert "trying again for up to" in status["message"]
    log = cluster.kubectl("logs", "-n", team.namespace, "-l", "atoll.dev/stage=convert", "-c", "convert")
    assert log.count("WARNING atoll_contract.store.outage") == 1


def test_doctor_tries_the_bucket_with_the_namespaces_keys(team: Team, cluster: NodeCluster, steps: StepLog) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "secret"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"}, "stringData": wrong}
    cluster.kubectl("apply", "-n", team.namespace, "-f", "-", stdin=json.dumps(secret))
    store = cluster.get("objectstore", "default", namespace=team.namespace)["spec"]
    store["credentials"] = {"secretRef": {"name": "wrong"}}
    team.store("wrong", store)
    done = subprocess.run(
        inside([sys.executable, "-P", "-m", "atoll_cli.main", "doctor", "-n", team.namespace, "-o", "json"]),
        env=os.environ | {"KUBECONFIG": cluster.keeper.kubeconfig},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    checks = json.loads(done.stdout)["checks"]
    for item in checks:
        steps.add(f"{item['level']:<5} {item['check']}: {item['message']}")
    assert done.returncode == 1, done.stderr
    stores = {item["message"].split()[1].rstrip(":"): item for item in checks if item["check"] == "store"}
    assert {name: item["level"] for name, item in stores.items()} == {"default": "OK", "wrong": "FAIL"}
    assert "XAdminUserNotFound" in stores["wrong"]["message"]
    assert "OK" in {item["level"] for item in checks if item["check"] == "kinds"}
    wait(lambda: not team.items("pods", "-l", "atoll.dev/doctor"), "the end of the doctor's pods")


def wait(probe: Callable[[], object], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=300, interval_seconds=0.5)
