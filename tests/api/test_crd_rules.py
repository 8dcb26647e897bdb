"""Every case of `support.crd_cases` and every bound of the schemas, on a real API server."""

from __future__ import annotations

import pytest

from cluster.controlplane import ControlPlane
from support.crd_cases import CASES, Case
from support.crd_cases.bounds import BOUNDS
from support.kube_http import Answer, KubeHttp, collection

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, crds: list[str]) -> KubeHttp:
    return KubeHttp(control_plane)


def _create(server: KubeHttp, case: Case) -> Answer:
    path = collection(case.document["kind"], "default")
    return server.send_json("POST", path, case.document, dry_run=True)


def _update(server: KubeHttp, case: Case) -> Answer:
    assert case.old is not None
    path = collection(case.old["kind"], "default")
    stored = server.send_json("POST", path, case.old)
    assert stored.ok, stored.message
    place = f"{path}/{stored.body['metadata']['name']}"
    try:
        version = {"resourceVersion": stored.body["metadata"]["resourceVersion"]}
        document = case.document | {"metadata": case.document["metadata"] | version}
        return server.send_json("PUT", place, document, dry_run=True)
    finally:
        server.send_json("DELETE", place, {})


def _check(answer: Answer, refused: str | None) -> None:
    if refused is None:
        assert answer.ok, answer.message
    else:
        assert not answer.ok
        assert refused in answer.message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(server: KubeHttp, case: Case) -> None:
    _check(_create(server, case) if case.old is None else _update(server, case), case.refused)


@pytest.mark.parametrize("case", BOUNDS, ids=lambda case: case.id)
def test_bound(server: KubeHttp, case: Case) -> None:
    _check(_create(server, case), case.refused)
