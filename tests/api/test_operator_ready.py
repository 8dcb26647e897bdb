"""When the operator's pod counts as ready: while it leads, or stands by for another that is seen at work."""

from __future__ import annotations

import urllib.error
import urllib.request

import kubernetes.client
import pytest

from cluster.controlplane import ControlPlane
from cluster.operator_process import SHORT_INTERVALS, OperatorProcess
from cluster.processes import free_port
from support.polling import wait_until

pytestmark = pytest.mark.api


def readiness(port: int) -> tuple[int, str]:
    """Status and text of the page; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.usefixtures("crds")
def test_P23_after_an_uninstall_the_next_operator_is_ready_once_it_leads(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, namespace: str
) -> None:
    # What an operator leaves whose rights went before it could give the Lease up.
    left = {
        "holderIdentity": "atoll-gone",
        "leaseDurationSeconds": int(SHORT_INTERVALS["ATOLL_LEASE_DURATION_SECONDS"]),
    }
    leases = kubernetes.client.CoordinationV1Api(api)
    lease = {"metadata": {"name": "atoll-operator"}, "spec": left}
    leases.create_namespaced_lease(namespace, lease, _request_timeout=10)
    first, second = free_port(), free_port()
    with OperatorProcess(control_plane, api, namespace, settings={"ATOLL_METRICS_PORT": str(first)}) as operator:
        wait_until(lambda: "atoll-gone" in readiness(first)[1], what="the operator to wait for the Lease of before")
        assert readiness(first)[0] == 503
        wait_until(lambda: readiness(first)[0] == 200, what="the operator to lead")
        settings = {"ATOLL_METRICS_PORT": str(second), "ATOLL_IDENTITY": "operator-1"}
        with OperatorProcess(control_plane, api, namespace, settings=settings, prepare=False):
            wait_until(lambda: readiness(second)[0] == 200, what="the second operator to stand by")
            held = leases.read_namespaced_lease("atoll-operator", namespace, _request_timeout=10)
            assert held.spec.holder_identity == "operator-0"
        operator.check()
