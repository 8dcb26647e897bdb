"""The facts of a cluster in which nothing is wrong, for the tests of `atoll doctor` to break one thing at a time."""

from __future__ import annotations

from typing import Any

from atoll_cli.doctor.facts import Body, Facts, Listed
from atoll_cli.doctor.rights import OPERATOR_RIGHTS, USER_RIGHTS
from atoll_contract import __version__
from atoll_operator.api import GROUP, VERSION
from atoll_operator.api.crds import definitions

API_PORT = 6443
IMAGES = {
    "convert": "localhost/atoll/convert:1",
    "train": "localhost/atoll/train:1",
    "publish": "localhost/atoll/convert:1",
}


def named(name: str, namespace: str = "", labels: dict[str, str] | None = None, **fields: Any) -> Body:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), **fields}


def workload(component: str, image: str) -> Body:
    labels = {"app.kubernetes.io/part-of": "atoll", "app.kubernetes.io/component": component}
    pods = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "atoll", "containers": [{"image": image}]}}
    versioned = labels | {"app.kubernetes.io/version": __version__}
    return named(f"atoll-{component}", "atoll", versioned, spec={"template": pods}, status={"availableReplicas": 1})


def policy(*ports: int, **spec: Any) -> Body:
    egress = [
        {"ports": [{"port": 53, "protocol": "UDP"}]},
        {"ports": [{"port": port, "protocol": "TCP"} for port in ports]},
    ]
    selector = {"matchLabels": {"app.kubernetes.io/component": "operator"}}
    return named("atoll", "atoll", spec={"podSelector": selector, "policyTypes": ["Egress"], "egress": egress} | spec)


def node(name: str = "pi", *, images: tuple[str, ...] = (), **allocatable: str) -> Body:
    listed = [{"names": [image]} for image in images]
    return named(name, spec={}, status={"images": listed, "allocatable": {"cpu": "4", **allocatable}})


def storage_class(name: str = "local-path", *, default: bool = True) -> Body:
    found = dict(named(name))
    found["metadata"] = {
        "name": name,
        "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
    }
    return found


def claim(**spec: Any) -> Body:
    labels = {"app.kubernetes.io/part-of": "atoll"}
    return named("data-atoll-store-0", "atoll", labels, spec=spec, status={"phase": "Pending"})


def crds() -> Listed:
    found = []
    for kind in definitions().values():
        version = {"name": VERSION, "served": True, "schema": {"openAPIV3Schema": kind.schema}}
        found.append(named(f"{kind.plural}.{GROUP}", spec={"versions": [version]}))
    return Listed(tuple(found))


def endpoints(port: int = API_PORT) -> Listed:
    return Listed((named("kubernetes", endpoints=[{"addresses": ["192.168.1.10"]}], ports=[{"port": port}]),))


def healthy(**changes: Any) -> Facts:
    """Nothing is wrong but for the `changes`."""
    operator_image = "localhost/atoll/operator:1"
    facts: dict[str, Any] = {
        "namespace": "team",
        "version": "v1.35.4+k3s1",
        "clock_skew": 0.4,
        "crds": crds(),
        "deployments": Listed((workload("operator", operator_image),)),
        "policies": Listed((policy(443, API_PORT),)),
        "api_endpoints": endpoints(),
        "storage_classes": Listed((storage_class(),)),
        "nodes": Listed((node(images=(operator_image, *IMAGES.values())),)),
        "profiles": Listed((named("default", spec={"images": IMAGES, "imagePullPolicy": "IfNotPresent"}),)),
        "stores": Listed((named("default", "team"),)),
        "user_rights": dict.fromkeys(USER_RIGHTS, True),
        "operator_rights": dict.fromkeys(OPERATOR_RIGHTS, True),
    }
    return Facts(**(facts | changes))
