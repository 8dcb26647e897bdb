"""An upgrade with a run in flight: kinds, status, Job and profile snapshot as commit 8c7468f made them, on a real API
server; then today's kinds and today's operator. Images are not part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml

from atoll_contract.stage import Stage
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.jobs.manifest import job_name
from cluster.controlplane import ControlPlane
from cluster.crds import CRDS, install
from cluster.kubelet import Kubelet
from cluster.objects import Objects, store_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = pytest.mark.api

FROZEN = Path(__file__).parents[1] / "golden" / "frozen"
NAMESPACE = "team"
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[ControlPlane, kubernetes.client.ApiClient]]:
    """A control plane of its own, with the kinds of that commit."""
    with ControlPlane() as plane, kubernetes.config.new_client_from_config(str(plane.kubeconfig)) as client:
        files = []
        for number, crd in enumerate(yaml.safe_load_all((FROZEN / "crds-8c7468f.yaml").read_text(encoding="utf-8"))):
            files.append(tmp_path / f"{number}.yaml")
            files[-1].write_text(yaml.safe_dump(crd), encoding="utf-8")
        install(client, files)
        kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": NAMESPACE}}, _request_timeout=10)
        yield plane, client


def earlier_run(objects: Objects) -> dict[str, Any]:
    """The run in training, its profile's snapshot and its Job, as they are there."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = _TIME.sub(now, (FROZEN / "trainingrun-8c7468f.yaml").read_text(encoding="utf-8"))
    kept = list(yaml.safe_load_all(text))
    revision = next(item for item in kept if item["kind"] == "ControllerRevision")
    revision["metadata"]["namespace"] = NAMESPACE
    kubernetes.client.AppsV1Api(objects.api).create_namespaced_controller_revision(
        NAMESPACE, revision, _request_timeout=10
    )
    first = next(item for item in kept if item["metadata"]["name"] == "first")
    created = objects.create("trainingruns", {**first, "metadata": {"name": "first"}})
    uid = created["metadata"]["uid"]
    job = _create_job(objects, uid)
    status = first["status"]
    for stage in status["stages"]:
        if "jobRef" in stage:
            stage["jobRef"]["name"] = job_name("first", uid, Stage(stage["name"]), 1)
        if stage["name"] == "train":
            stage["jobRef"]["uid"] = job["metadata"]["uid"]
    objects.patch_status("trainingruns", "first", {"status": status})
    # Else the status would be none that those kinds allow.
    assert objects.status("first") == status
    return created


def _create_job(objects: Objects, uid: str) -> dict[str, Any]:
    text = (FROZEN / "job-train-8c7468f.yaml").read_text(encoding="utf-8")
    earlier = re.search(r"atoll.dev/run-uid: (\S+)", text)
    assert earlier is not None
    replaced = {"reefscape-note": "first", "team-190": NAMESPACE, earlier[1]: uid, '"attempt":2': '"attempt":1'}
    for before, after in replaced.items():
        text = text.replace(before, after)
    job = yaml.safe_load(text)
    job["metadata"]["name"] = job_name("first", uid, Stage.TRAIN, 1)
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        labels["atoll.dev/attempt"] = "1"
    scheduling = kubernetes.client.SchedulingV1Api(objects.api)
    scheduling.create_priority_class({"metadata": {"name": "training"}, "value": 1}, _request_timeout=10)
    batch = kubernetes.client.BatchV1Api(objects.api)
    batch.create_namespaced_job(NAMESPACE, job, _request_timeout=10)
    return objects.jobs()[job["metadata"]["name"]]


def upgrade_kinds(api: kubernetes.client.ApiClient) -> None:
    """Replaces the kinds that are there and creates the others, as `kubectl apply` does."""
    extensions = kubernetes.client.ApiextensionsV1Api(api)
    found = extensions.list_custom_resource_definition(_request_timeout=10).items
    before = {item.metadata.name: item for item in found}
    for path in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = crd["metadata"]["name"]
        known = before.get(name)
        if known is None:
            extensions.create_custom_resource_definition(crd, _request_timeout=10)
            continue
        crd["metadata"]["resourceVersion"] = known.metadata.resource_version
        extensions.replace_custom_resource_definition(name, crd, _request_timeout=10)


def is_served(objects: Objects) -> bool:
    """Whether today's kinds are: those of that commit prune the field."""
    before = objects.status("first")["compile"]
    objects.patch_status("trainingruns", "first", {"status": {"compile": [before[0] | {"chip": "probe"}]}})
    kept = bool(objects.status("first")["compile"] != before)
    objects.patch_status("trainingruns", "first", {"status": {"compile": before}})
    return kept


def test_a_run_in_flight_ends_once_and_with_one_version(
    api: tuple[ControlPlane, kubernetes.client.ApiClient],
) -> None:
    plane, client = api
    objects = Objects(client, NAMESPACE)
    objects.create("objectstores", store_manifest())
    run = earlier_run(objects)
    uid = run["metadata"]["uid"]
    (training,) = objects.jobs()
    upgrade_kinds(client)
    wait_until(partial(is_served, objects), what="today's kinds to be served")
    with Kubelet(client, NAMESPACE), OperatorProcess(plane, client, NAMESPACE) as operator:
        status = objects.wait_for_phase("first", "Succeeded", "Failed")
        operator.stop()
        assert operator.problems() == []
    assert status["phase"] == "Succeeded", status["message"]
    assert [(stage["name"], stage["phase"], stage["attempts"]) for stage in status["stages"]] == [
        (stage, "Succeeded", 1) for stage in Stage
    ]
    later = {job_name("first", uid, stage, 1) for stage in (Stage.EXPORT, Stage.COMPILE)}
    assert set(objects.jobs()) == {training} | later
    (release,) = objects.list_all("modelreleases")
    assert (release["metadata"]["name"], release["status"]["published"]) == ("note-v1", True)
    assert release["spec"]["runRef"]["uid"] == uid
    parsed = read_status(status)
    assert parsed is not None
    assert write_status(parsed) == status
