"""Requests as they leave: address, body, and the token, which is not read anew for each of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import kubernetes.client
import pytest

from atoll_operator.kube.objects import JOBS, RUNS
from atoll_operator.kube.transport import AUTHORIZATION_SECONDS, MERGE_PATCH, METADATA_ONLY, Request, Transport


class Pool:
    """Records what is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def urlopen(self, method: str, url: str, **rest: Any) -> SimpleNamespace:
        self.sent.append((method, url, rest))
        return SimpleNamespace(status=self.status)


class Server:
    """A client whose token changes each time it is read, as one that is renewed."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pool = Pool()
        configuration = kubernetes.client.Configuration()
        configuration.host = "https://api.invalid:6443"
        configuration.api_key = {"authorization": "token 0"}
        configuration.refresh_api_key_hook = self._renew
        client = kubernetes.client.ApiClient(configuration)
        client.rest_client.pool_manager = self.pool
        self.read = 0
        self.transport = Transport(client, clock=lambda: self.now)

    def _renew(self, configuration: kubernetes.client.Configuration) -> None:
        self.read += 1
        configuration.api_key["authorization"] = f"token {self.read}"

    def send(self, request: Request) -> str:
        """Returns the token that it was sent with."""
        self.transport.send(request, timeout=(1.0, 2.0))
        return str(self.pool.sent[-1][2]["headers"]["authorization"])


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_patch_has_its_address_its_body_and_its_kind(server: Server) -> None:
    server.send(Request("PATCH", RUNS, "team", "note", "status", body={"status": {"message": "ü", "queue": None}}))
    method, url, rest = server.pool.sent[0]
    path = "/apis/atoll.dev/v1alpha1/namespaces/team/trainingruns/note/status"
    assert (method, url) == ("PATCH", f"https://api.invalid:6443{path}")
    assert rest["body"] == rb'{"status":{"message":"\u00fc","queue":null}}'
    assert rest["headers"]["Content-Type"] == MERGE_PATCH
    assert (rest["timeout"].connect_timeout, rest["timeout"].read_timeout) == (1.0, 2.0)
    assert rest["preload_content"] is False


def test_a_request_names_the_media_type_of_its_answer(server: Server) -> None:
    server.send(Request("PUT", RUNS, "team", "note", "status", body={}, accept=METADATA_ONLY))
    server.send(Request("GET", RUNS, "team", "note"))
    first, second = (rest["headers"]["Accept"] for _, _, rest in server.pool.sent)
    assert first.startswith("application/json;as=PartialObjectMetadata")
    assert second == "application/json, */*"


def test_a_query_is_escaped_and_a_read_has_no_body(server: Server) -> None:
    server.send(Request("GET", JOBS, "team", query={"labelSelector": "atoll.dev/run-uid=a b", "limit": "100"}))
    _, url, rest = server.pool.sent[0]
    assert url.endswith("/namespaces/team/jobs?labelSelector=atoll.dev%2Frun-uid%3Da+b&limit=100")
    assert rest["body"] is None
    assert "Content-Type" not in rest["headers"]
    assert rest["headers"]["User-Agent"]


def test_the_token_is_read_once_in_some_seconds(server: Server) -> None:
    request = Request("GET", JOBS, "team")
    assert [server.send(request) for _ in range(3)] == ["token 1"] * 3
    server.now += AUTHORIZATION_SECONDS
    assert server.send(request) == "token 2"


def test_a_token_that_the_server_refuses_is_read_anew(server: Server) -> None:
    request = Request("GET", JOBS, "team")
    server.pool.status = 401
    assert [server.send(request) for _ in range(2)] == ["token 1", "token 2"]
