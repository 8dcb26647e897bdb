"""A service account on a test's API server, with the rights that the chart gives the process that shows devices."""

from __future__ import annotations

import kubernetes.client

from cluster.controlplane import ControlPlane
from support.helm import render


def devices_kubeconfig(api: kubernetes.client.ApiClient, plane: ControlPlane, namespace: str, *, store: str) -> str:
    """The text of a kubeconfig; creates the account, its Role and its RoleBinding as the chart renders them."""
    objects = render("atoll", f"--set=edgeDevices[0].namespace={namespace},edgeDevices[0].store={store}")
    mine = [item for item in objects if item["metadata"].get("namespace") == namespace]
    by_kind = {item["kind"]: item for item in mine}
    core = kubernetes.client.CoreV1Api(api)
    rbac = kubernetes.client.RbacAuthorizationV1Api(api)
    name = by_kind["ServiceAccount"]["metadata"]["name"]
    core.create_namespaced_service_account(namespace, by_kind["ServiceAccount"], _request_timeout=10)
    rbac.create_namespaced_role(namespace, by_kind["Role"], _request_timeout=10)
    rbac.create_namespaced_role_binding(namespace, by_kind["RoleBinding"], _request_timeout=10)
    token = core.create_namespaced_service_account_token(
        name, namespace, {"spec": {"expirationSeconds": 3600}}, _request_timeout=10
    )
    return plane.kubeconfig_for(token.status.token)
