"""The port-forward that the command line opens by itself, to an API server that carries bytes as a kubelet does."""

from __future__ import annotations

import secrets
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from atoll_cli.commands.push import HDF5_SIGNATURE
from atoll_cli.main import main
from atoll_cli.port_forward import PortForward, Service, service_of
from atoll_contract.errors import SpecError
from atoll_operator.kube.client import Cluster, connect_as_user
from atoll_operator.kube.errors import Forbidden
from support.certificates import self_signed
from support.forwarding_api import ForwardingApi

SERVICE = Service("atoll-store", "team", 9000)
SERVICE_PATH = "/api/v1/namespaces/team/services/atoll-store"
PODS_PATH = "/api/v1/namespaces/team/pods"
STORE_PATH = "/apis/atoll.dev/v1alpha1/namespaces/team/objectstores/default"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://atoll-store.team.svc:9000", SERVICE),
        ("http://atoll-store.team.svc.cluster.local:9000", SERVICE),
        ("http://s3.team-190.svc", Service("s3", "team-190", 80)),
        ("https://atoll-store.team.svc:9000", None),
        ("http://minio.example:9000", None),
        ("http://svc.example", None),
        ("http://10.0.0.1:9000", None),
        (None, None),
    ],
)
def test_the_address_of_a_service_is_recognised(endpoint: str | None, expected: Service | None) -> None:
    assert service_of(endpoint) == expected


def service(target: int | str = 9000) -> dict[str, Any]:
    return {"spec": {"selector": {"app": "store"}, "ports": [{"port": 9000, "targetPort": target}]}}


def pod(name: str, *, ready: bool = True, **metadata: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    containers = [{"name": "side"}, {"name": "s3", "ports": [{"name": "s3", "containerPort": 9000}]}]
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": containers},
        "status": {"conditions": conditions},
    }


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while block := self.request.recv(65536):
            self.request.sendall(block)


@contextmanager
def echo() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@pytest.fixture(params=["http", "https"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForwardingApi]:
    certificate = self_signed(tmp_path / "server.pem") if request.param == "https" else None
    with ForwardingApi(certificate=certificate) as server:
        server.objects[SERVICE_PATH] = service()
        server.objects[PODS_PATH] = {"items": [pod("store-0")], "metadata": {}}
        yield server


def cluster(api: ForwardingApi, folder: Path) -> Cluster:
    return connect_as_user(str(api.write_kubeconfig(folder / "config")), None, timeout_seconds=10.0)[0]


def echoed(endpoint: str, data: bytes) -> bytes:
    parts = urlsplit(endpoint)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        answer = b""
        while len(answer) < len(data) and (block := connection.recv(65536)):
            answer += block
        sender.join(20)
    return answer


@pytest.mark.timeout(60)
def test_bytes_are_forwarded_both_ways_on_several_connections(api: ForwardingApi, tmp_path: Path) -> None:
    data = secrets.token_bytes(3_000_001)
    with echo() as port, PortForward(cluster(api, tmp_path), SERVICE) as forward:
        api.ports["store-0", 9000] = port
        answers = [b"", b"", b""]

        def ask(number: int) -> None:
            answers[number] = echoed(forward.endpoint, data)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert answers == [data] * 3
        address = forward.endpoint
    with pytest.raises(OSError, match="refused"):
        echoed(address, b"after the end")


def test_a_new_connection_goes_to_the_pod_that_replaced_another(api: ForwardingApi, tmp_path: Path) -> None:
    with echo() as port, PortForward(cluster(api, tmp_path), SERVICE) as forward:
        api.ports["store-0", 9000] = port
        assert echoed(forward.endpoint, b"a") == b"a"
        del api.ports["store-0", 9000]
        api.ports["store-1", 9000] = port
        pods = [pod("store-0", deletionTimestamp="2027-01-09T19:00:00Z"), pod("store-9", ready=False), pod("store-1")]
        api.objects[PODS_PATH] = {"items": pods, "metadata": {}}
        assert echoed(forward.endpoint, b"b") == b"b"


def test_a_closed_port_is_reported_once(api: ForwardingApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PortForward(cluster(api, tmp_path), SERVICE) as forward:
        for _ in range(2):
            assert echoed(forward.endpoint, b"anybody?") == b""
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["port-forward: get pods/portforward team/store-0: error forwarding port 9000 to pod store-0: "
                    "connection refused"]  # fmt: skip


def test_a_target_port_may_have_a_name(api: ForwardingApi, tmp_path: Path) -> None:
    api.objects[SERVICE_PATH] = service("s3")
    with echo() as port, PortForward(cluster(api, tmp_path), SERVICE) as forward:
        api.ports["store-0", 9000] = port
        assert echoed(forward.endpoint, b"a") == b"a"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({SERVICE_PATH: None}, "there is no Service atoll-store in namespace team"),
        ({PODS_PATH: {"items": [pod("store-0", ready=False)], "metadata": {}}}, "no pod behind Service atoll-store"),
        ({SERVICE_PATH: {"spec": {"ports": [{"port": 9000}]}}}, "no pod behind Service atoll-store"),
        ({SERVICE_PATH: {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}}, "has no port 9000, but 80"),
    ],
)
def test_a_service_without_a_ready_pod_or_port_is_an_error(
    api: ForwardingApi, tmp_path: Path, objects: dict[str, Any], message: str
) -> None:
    for path, found in objects.items():
        api.objects[path] = found
        if found is None:
            del api.objects[path]
    with pytest.raises(SpecError, match=message), PortForward(cluster(api, tmp_path), SERVICE):
        pass


def test_a_forbidden_port_forward_fails_before_anything_uses_it(api: ForwardingApi, tmp_path: Path) -> None:
    message = 'pods "store-0" is forbidden: User "u" cannot create resource "pods/portforward"'
    api.refusals[f"{PODS_PATH}/store-0/portforward"] = 403, message
    with pytest.raises(Forbidden, match="cannot create resource"), PortForward(cluster(api, tmp_path), SERVICE):
        pass


def test_missing_credentials_are_reported_with_the_commands_that_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "ATOLL_STORE", "ATOLL_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.h5").write_bytes(HDF5_SIGNATURE)
    with ForwardingApi() as api:
        api.objects[STORE_PATH] = {
            "metadata": {"name": "default", "namespace": "team"},
            "spec": {
                "bucket": "atoll",
                "prefix": "",
                "endpoint": "http://atoll-store.team.svc:9000",
                "addressingStyle": "auto",
                "checksumMode": "auto",
                "credentials": {"secretRef": {"name": "atoll-store"}},
            },
        }
        kubeconfig = str(api.write_kubeconfig(tmp_path / "config"))
        assert main(["push", "weights.h5", "--weights", "--kubeconfig", kubeconfig]) == 21
    printed = capsys.readouterr().err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        get = f"kubectl get secret -n team atoll-store -o jsonpath='{{.data.{name}}}' | base64 -d"
        assert f'\n  export {name}="$({get})"\n' in printed
