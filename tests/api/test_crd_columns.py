"""What `kubectl get` shows, and that a status as docs/contract.md has it is admitted whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster.controlplane import ControlPlane
from support.crd_cases.case import Document, changed
from support.crd_cases.releases import DEVICE, RELEASE
from support.crd_cases.runs import RUN
from support.kube_http import MERGE_PATCH, KubeHttp, collection

pytestmark = pytest.mark.api

TIME = "2027-01-09T18:00:00Z"
SHA = "0123456789abcdef" * 4
CONDITION = {
    "type": "Succeeded",
    "status": "Unknown",
    "reason": "Running",
    "message": "step 450/1000",
    "lastTransitionTime": TIME,
    "observedGeneration": 1,
}
STAGE = {
    "name": "train",
    "phase": "Running",
    "reason": "Running",
    "message": "step 450/1000",
    "attempts": 2,
    "failures": 1,
    "jobRef": {"name": "note-train-2-3f9a0c1d", "uid": "7b1e"},
    "startTime": TIME,
    "completionTime": TIME,
    "nextRetryTime": TIME,
    "pendingSince": TIME,
    "storageFailingSince": TIME,
    "lastFailure": {"reason": "NodeLost", "message": "gone", "time": TIME, "exitCode": 143},
    "outputs": [{"name": "dataset", "key": "cache/x", "sha256": SHA, "size": 123}],
}
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Training",
    "reason": "Running",
    "message": "step 450/1000, loss 0.61, AP50 0.71, about 3 min left",
    "startTime": TIME,
    "completionTime": TIME,
    "activeSeconds": 184,
    "activeSince": TIME,
    "progress": {
        "percent": 41,
        "display": "41%",
        "stage": "train",
        "step": 450,
        "totalSteps": 1000,
        "loss": "0.61",
        "ap50": "0.71",
        "etaSeconds": 190,
        "updatedTime": TIME,
    },
    "summary": {"ap50": "0.88", "targets": "98%", "tpu": "98%", "release": "note-v3"},
    "queue": {"ahead": 2, "etaSeconds": 2100},
    "resolved": {"profile": "default", "profileRevision": "p", "profileHash": f"sha256:{SHA}", "accelerator": "cpu"},
    "dataset": {
        "digest": SHA,
        "pictures": 364,
        "negatives": 0,
        "train": 205,
        "validation": 87,
        "test": 72,
        "problems": 3,
        "classes": [{"name": "RBC", "boxes": 4155}],
    },
    "stages": [STAGE],
    "metrics": {"float": {"ap50": "0.921", "ap": "0.61"}, "int8": {"ap50": "0.902", "ap": "0.60"}},
    "perClass": [{"name": "RBC", "ap50": "0.89"}],
    "compile": [
        {
            "target": "edgetpu",
            "compiled": False,
            "reason": "CompilerUnavailable",
            "mappedPercent": "",
            "predictedMappedPercent": "97.6",
        }
    ],
    "release": {"name": "note-v3", "version": 3, "manifest": {"key": "models/x", "sha256": SHA, "size": 2048}},
    "estimate": {"seconds": 900, "basis": "0.8 s a step as in run note-1, and 2 min for the other stages"},
    "usage": {"podSeconds": 840, "cpuSeconds": 840, "gpuSeconds": 0},
    "lastHandledRetry": "1",
    "conditions": [CONDITION],
}


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, crds: list[str]) -> KubeHttp:
    return KubeHttp(control_plane)


@pytest.fixture
def stored(server: KubeHttp, namespace: str) -> Callable[[Document, dict[str, Any]], str]:
    def store(document: Document, status: dict[str, Any]) -> str:
        path = collection(document["kind"], namespace)
        created = server.send_json("POST", path, document)
        assert created.ok, created.message
        place = f"{path}/{document['metadata']['name']}"
        body = json.dumps({"status": status}).encode()
        patched = server.send("PATCH", f"{place}/status", body, kind=MERGE_PATCH)
        assert patched.ok, patched.message
        assert patched.body["status"] == status
        return place

    return store


def _shown(server: KubeHttp, place: str, *, wide: bool = False) -> dict[str, Any]:
    answer = server.table(place).body
    columns = answer["columnDefinitions"]
    (row,) = answer["rows"]
    shown = zip(columns, row["cells"], strict=True)
    return {column["name"]: cell for column, cell in shown if wide or column["priority"] == 0}


def test_a_run(server: KubeHttp, stored: Any) -> None:
    place = stored(RUN, STATUS)
    shown = _shown(server, place)
    assert shown.pop("Age")
    assert shown == {
        "Name": "case",
        "Phase": "Training",
        "Reason": "Running",
        "Progress": "41%",
        "AP50": "0.88",
        "Targets": "98%",
        "Release": "note-v3",
    }
    wide = _shown(server, place, wide=True)
    assert (wide["Queue"], wide["ETA"], wide["Message"]) == (2, 190, STATUS["message"])


def test_a_release(server: KubeHttp, stored: Any) -> None:
    status = {
        "published": True,
        "manifest": {"key": "m", "sha256": SHA, "size": 1},
        "ap50": "0.88",
        "targets": "98%",
        "tpu": "98%",
    }
    shown = _shown(server, stored(RELEASE, status))
    assert shown.pop("Age")
    assert shown == {
        "Name": "note-v3",
        "Model": "note",
        "Version": 3,
        "Channel": "stable",
        "AP50": "0.88",
        "Targets": "98%",
        "Published": True,
    }


def test_a_device(server: KubeHttp, stored: Any) -> None:
    status: dict[str, Any] = {
        "state": "Active",
        "reportedAt": TIME,
        "lastSeen": TIME,
        "release": "note-v3",
        "version": 3,
        "manifestSha256": SHA,
        "desiredVersion": 4,
        "failedVersion": 4,
        "wave": 2,
        "rollout": "waiting",
        "backend": "edgetpu",
        "fps": "29.7",
        "latencyMillis": "18.2",
        "freeBytes": 9000000000,
        "agentVersion": "0.1.0",
        "error": "",
    }
    # What a device that is off reported last stays in its row.
    off = CONDITION | {"type": "Ready", "status": "False", "reason": "Offline"}
    status["conditions"] = [CONDITION | {"type": "UpToDate", "status": "True", "reason": "Current"}, off]
    shown = _shown(server, stored(DEVICE, status))
    assert shown.pop("Seen")
    assert shown == {
        "Name": "pi-front",
        "Ready": "False",
        "State": "Active",
        "Release": "note-v3",
        "Desired": 4,
        "Wave": 2,
        "Backend": "edgetpu",
        "FPS": "29.7",
        "Latency ms": "18.2",
    }


def test_a_status_is_bounded(server: KubeHttp, stored: Any) -> None:
    place = stored(RUN, {"phase": "Pending"})
    for status in ({"phase": "Done"}, {"message": "x" * 1025}, {"perClass": [{"name": "a"}] * 101}):
        refusal = server.send("PATCH", f"{place}/status", json.dumps({"status": status}).encode(), kind=MERGE_PATCH)
        assert refusal.status == 422, status


def test_a_spec_is_not_changed_through_the_status(server: KubeHttp, stored: Any) -> None:
    place = stored(RUN, {"phase": "Pending"})
    body = json.dumps({"spec": changed(RUN, {"spec": {"profileRef": {"name": "evil"}}})["spec"]}).encode()
    answer = server.send("PATCH", f"{place}/status", body, kind=MERGE_PATCH)
    assert answer.body["spec"]["profileRef"] == {"name": "default"}
