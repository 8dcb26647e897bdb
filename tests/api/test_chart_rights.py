"""What the chart's accounts may do, asked of the API server itself and compared with a golden file.

`make golden` writes tests/golden/rights.yaml anew; read the diff before you commit it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml
from kubernetes.dynamic import DynamicClient

from cluster.controlplane import ControlPlane
from cluster.objects import Objects
from support.helm import render

pytestmark = pytest.mark.api

GOLDEN = Path(__file__).parents[1] / "golden" / "rights.yaml"
KINDS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
SCOPES = {
    "cluster": "rbac.scope=cluster,edgeDevices[0].namespace=NAMESPACE,edgeDevices[0].store=default",
    "namespaced": "rbac.scope=namespaced,watch.namespaces={NAMESPACE}",
}


@pytest.fixture(params=SCOPES)
def scope(request: pytest.FixtureRequest, api: kubernetes.client.ApiClient, team: Objects) -> Iterator[str]:
    """The chart's accounts, roles and bindings of one scope, as `helm install` makes them in the team's namespace."""
    values = SCOPES[request.param].replace("NAMESPACE", team.namespace)
    name = f"fullnameOverride={team.namespace},rbac.aggregate=false"
    client = DynamicClient(api)
    objects = render("atoll", f"--set={values},{name}", namespace=team.namespace)
    made = [item for item in objects if item["kind"] in KINDS]
    for item in made:
        resource = client.resources.get(api_version=item["apiVersion"], kind=item["kind"])
        resource.create(body=item, namespace=item["metadata"].get("namespace"))
    yield request.param
    for item in made:
        resource = client.resources.get(api_version=item["apiVersion"], kind=item["kind"])
        resource.delete(name=item["metadata"]["name"], namespace=item["metadata"].get("namespace"))


def test_the_accounts_may_do_what_the_golden_file_says(
    scope: str, control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects
) -> None:
    core = kubernetes.client.CoreV1Api(api)
    found = core.list_namespaced_service_account(team.namespace, _request_timeout=10).items
    accounts = sorted(item.metadata.name for item in found)
    plain = rights(control_plane, team.namespace, "default", at=team.namespace)
    told = {
        f"{account.replace(team.namespace, 'atoll')}, {where}": sorted(
            rights(control_plane, team.namespace, account, at=namespace) - plain
        )
        for account in accounts
        for where, namespace in (("release's namespace", team.namespace), ("another namespace", "default"))
    }
    golden = yaml.safe_load(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("ATOLL_GOLDEN") == "write":
        golden |= {scope: told}
        GOLDEN.write_text(yaml.safe_dump(golden, width=120), encoding="utf-8")
    assert golden[scope] == told, "see make golden"


def rights(plane: ControlPlane, home: str, account: str, *, at: str) -> set[str]:
    """`verb resource.group[/name]` of all that the account may do in the namespace `at`."""
    with kubernetes.config.new_client_from_config(str(plane.kubeconfig)) as client:
        client.set_default_header("Impersonate-User", f"system:serviceaccount:{home}:{account}")
        review: dict[str, Any] = {"spec": {"namespace": at}}
        answer = kubernetes.client.AuthorizationV1Api(client).create_self_subject_rules_review(
            review, _request_timeout=10
        )
    assert not answer.status.incomplete
    return {
        f"{verb} {resource}" + (f".{group}" if group else "") + (f"/{name}" if name else "")
        for rule in answer.status.resource_rules
        for verb in rule.verbs
        for group in rule.api_groups
        for resource in rule.resources
        for name in rule.resource_names or [""]
    }
