"""`atoll validate` and a real API server judge tricky YAML alike, and agree on what an accepted file means."""

from __future__ import annotations

from typing import Any

import pytest

from atoll_operator.api.manifests import read_text
from atoll_operator.api.yaml import YamlError
from cluster.controlplane import ControlPlane
from support.kube_http import APPLY, YAML, Answer, KubeHttp, collection
from support.tricky_yaml import TRICKY

pytestmark = pytest.mark.api

# A create (and so kubectl apply of a new object) drops a null; server-side apply alone keeps and refuses it.
REFUSED_BY_APPLY_ALONE = {"null-without-default"}

RUNS = collection("TrainingRun", "default")


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, crds: list[str]) -> KubeHttp:
    return KubeHttp(control_plane)


def _offline(text: str) -> dict[str, Any] | str:
    """The spec as it would be stored, or why it would not."""
    try:
        (manifest,) = read_text(text, source="tricky.yaml")
    except YamlError as error:
        return str(error)
    return "\n".join(map(str, manifest.problems)) or manifest.value["spec"]


def _online(answer: Answer) -> dict[str, Any] | str:
    return answer.body["spec"] if answer.ok else f"{answer.status} {answer.message}"


@pytest.mark.parametrize("name", TRICKY)
def test_server_side_apply(server: KubeHttp, name: str) -> None:
    text = TRICKY[name]
    answer = server.send("PATCH", f"{RUNS}/{_name(text)}", text.encode(), kind=APPLY, dry_run=True)
    if name in REFUSED_BY_APPLY_ALONE:
        assert not answer.ok
    else:
        _compare(_offline(text), _online(answer))


@pytest.mark.parametrize("name", TRICKY)
def test_create(server: KubeHttp, name: str) -> None:
    text = TRICKY[name]
    _compare(_offline(text), _online(server.send("POST", RUNS, text.encode(), kind=YAML, dry_run=True)))


def _compare(offline: dict[str, Any] | str, online: dict[str, Any] | str) -> None:
    if isinstance(online, str):
        assert isinstance(offline, str), f"only the server refuses it: {online}"
    else:
        assert not isinstance(offline, str), f"only atoll validate refuses it: {offline}"
        assert offline == online


def _name(text: str) -> str:
    return "tricky" if "tricky" in text else text.split("name: ")[1].split()[0]


def test_there_are_enough_of_both_kinds() -> None:
    refused = sum(isinstance(_offline(text), str) for text in TRICKY.values())
    assert len(TRICKY) - refused >= 20
    assert refused >= 20
