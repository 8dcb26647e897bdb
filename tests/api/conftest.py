"""One control plane for the whole api tier, with Atoll's CRDs; a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml

from cluster.controlplane import ControlPlane
from support.polling import wait_until

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[kubernetes.client.ApiClient]:
    """A cluster admin's client."""
    with kubernetes.config.new_client_from_config(str(control_plane.kubeconfig)) as client:
        yield client


@pytest.fixture(scope="session")
def crds(api: kubernetes.client.ApiClient) -> list[str]:
    """Names of Atoll's CRDs, all of them established on the control plane."""
    extensions = kubernetes.client.ApiextensionsV1Api(api)
    names = []
    for path in sorted(CRDS.glob("*.yaml")):
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        extensions.create_custom_resource_definition(manifest, _request_timeout=10)
        names.append(manifest["metadata"]["name"])
    for name in names:
        wait_until(partial(_established, extensions, name), what=f"{name} to be established")
    return names


@pytest.fixture
def namespace(api: kubernetes.client.ApiClient) -> Iterator[str]:
    """A fresh namespace; its deletion is begun and not waited for."""
    core = kubernetes.client.CoreV1Api(api)
    name = f"test-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}}, _request_timeout=10)
    yield name
    core.delete_namespace(name, _request_timeout=10)


def _established(extensions: Any, name: str) -> bool:
    crd = extensions.read_custom_resource_definition(name, _request_timeout=10)
    conditions = crd.status.conditions or [] if crd.status else []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)
