"""`atoll doctor` against a real API server: what an admin of a fresh cluster, and a user without rights, read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes.client
import pytest
import yaml

from atoll_cli.main import main
from atoll_contract.document import to_json
from atoll_contract.errors import Reason
from atoll_contract.tool_reports import StoreCheck
from cluster.controlplane import ControlPlane
from cluster.objects import Objects
from support.polling import wait_until

pytestmark = pytest.mark.api

LABELS = {"app.kubernetes.io/part-of": "atoll", "app.kubernetes.io/component": "operator"}


@pytest.fixture
def operator(team: Objects) -> Iterator[None]:
    """The operator's Deployment, an account for it without rights, and a policy that closes the server's port."""
    apps, networking = kubernetes.client.AppsV1Api(team.api), kubernetes.client.NetworkingV1Api(team.api)
    container = {"name": "operator", "image": "localhost/atoll/operator:1"}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container], "serviceAccountName": "atoll"}}
    apps.create_namespaced_deployment(
        team.namespace,
        {
            "metadata": {"name": "atoll", "labels": LABELS},
            "spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": template},
        },
    )
    egress = [{"ports": [{"port": 443, "protocol": "TCP"}]}]
    spec = {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Egress"], "egress": egress}
    networking.create_namespaced_network_policy(team.namespace, {"metadata": {"name": "atoll"}, "spec": spec})
    # This API server is started without the controller that writes its own endpoints.
    discovery = kubernetes.client.DiscoveryV1Api(team.api)
    metadata = {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    where = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"]}],
        "ports": [{"name": "https", "port": 33047}],
    }
    discovery.create_namespaced_endpoint_slice("default", {"metadata": metadata} | where)
    yield
    discovery.delete_namespaced_endpoint_slice("kubernetes", "default")
    apps.delete_namespaced_deployment("atoll", team.namespace)
    networking.delete_namespaced_network_policy("atoll", team.namespace)


@contextmanager
def answering(team: Objects, report: StoreCheck) -> Iterator[list[str]]:
    """In place of a kubelet: each pod of the doctor ends with this report. Yields the images of the pods."""
    core, stop, images = kubernetes.client.CoreV1Api(team.api), threading.Event(), []

    def serve() -> None:
        while not stop.wait(0.2):
            for pod in core.list_namespaced_pod(team.namespace, label_selector="atoll.dev/doctor").items:
                terminated = {"exitCode": 0, "message": to_json(report).decode()}
                status = {"name": "check", "ready": False, "restartCount": 0, "image": "x", "imageID": ""}
                status["state"] = {"terminated": terminated}
                body = {"status": {"phase": "Succeeded", "containerStatuses": [status]}}
                if pod.status.phase == "Pending":
                    images.append(pod.spec.containers[0].image)
                    core.patch_namespaced_pod_status(pod.metadata.name, team.namespace, body)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield images
    finally:
        stop.set()
        thread.join()


def doctor(kubeconfig: Path, team: Objects, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Exit code, and the messages by level and check."""
    code = main(["doctor", "-o", "json", "--kubeconfig", str(kubeconfig), "-n", team.namespace])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return code, {f"{item['level']} {item['check']}": item["message"] for item in checks}


@pytest.mark.usefixtures("operator")
def test_an_admin_reads_what_is_wrong(
    control_plane: ControlPlane, team: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    report = StoreCheck(Reason.STORAGE_FORBIDDEN, "the server knows no such access key", 600.0)
    with answering(team, report) as images:
        code, checks = doctor(control_plane.kubeconfig, team, capsys)
    assert code == 1
    known = {"OK api", "OK kinds", "OK clock", "OK rights", "FAIL operator", "FAIL operator-rights", "FAIL policies"}
    assert known | {"WARN storage", "FAIL store", "FAIL clock"} <= set(checks)
    assert "closes port 33047" in checks["FAIL policies"]
    assert "create jobs" in checks["FAIL operator-rights"]
    assert "no such access key" in checks["FAIL store"]
    assert "600 s ahead of the store's" in checks["FAIL clock"]
    assert len(images) == 1
    core = kubernetes.client.CoreV1Api(team.api)
    wait_until(
        lambda: not core.list_namespaced_pod(team.namespace, label_selector="atoll.dev/doctor").items,
        what="the end of the doctor's pod",
    )


def test_a_user_without_rights_reads_which_ones_are_missing(
    control_plane: ControlPlane, team: Objects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = kubernetes.client.CoreV1Api(team.api)
    core.create_namespaced_service_account(team.namespace, {"metadata": {"name": "student"}})
    token = core.create_namespaced_service_account_token("student", team.namespace, {"spec": {}}).status.token
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"] = [{"name": "student", "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = "student"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    code, checks = doctor(path, team, capsys)
    assert code == 1
    assert "create trainingruns" in checks["FAIL rights"]
    assert "forbidden" in checks["WARN kinds"]
    assert "forbidden" in checks["WARN store"]


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
                "current-context": "gone",
                "clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:9"}}],
                "users": [{"name": "me", "user": {}}],
            }
        )
    )
    assert main(["doctor", "--kubeconfig", str(path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("FAIL  api: the API server does not answer")
    assert out[1].startswith("      → ")
    assert out[2:] == ["0 OK, 0 WARN, 1 FAIL"]
