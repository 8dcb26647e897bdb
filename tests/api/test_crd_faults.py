"""Faults C1, C2 and C14 of the fault matrix, where the API server alone has to answer them.

The whole list of refused specs (C1) is `support.crd_cases`, which test_crd_rules.py puts to the server."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.controlplane import ControlPlane
from support.crd_cases.case import changed
from support.crd_cases.runs import RUN, keyed, named, run
from support.kube_http import KubeHttp, collection

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane, crds: list[str]) -> KubeHttp:
    return KubeHttp(control_plane)


@pytest.mark.parametrize(
    ("document", "field", "limit"),
    [
        (run(training={"steps": 0}), "spec.training.steps", "greater than or equal to 1"),
        (run(training={"steps": "many"}), "spec.training.steps", "must be of type integer"),
        (run(model={"architecture": "yolo"}), "spec.model.architecture", "supported values"),
        (named("a" * 41), "metadata.name", "at most 40 characters"),
        (keyed("https://example.org/a.tar"), "spec.datasets[0].key", "s3://"),
        (run(conversion={"split": {"train": 90}}), "spec.conversion.split", "must add up to 100"),
    ],
    ids=["range", "type", "enum", "name", "source", "sum"],
)
def test_C1_invalid_spec_is_refused_with_field_and_limit(
    server: KubeHttp, document: Any, field: str, limit: str
) -> None:
    answer = server.send_json("POST", collection("TrainingRun", "default"), document)
    assert answer.status == 422
    assert field in answer.message
    assert limit in answer.message


def test_C2_edited_spec_is_refused_and_says_how_to_go_on(server: KubeHttp, namespace: str) -> None:
    path = collection("TrainingRun", namespace)
    stored = server.send_json("POST", path, RUN).body
    for spec in ({"training": {"steps": 5}}, {"publish": {"model": "other"}}, {"datasets": [{"key": "b.tar"}]}):
        answer = server.send_json("PUT", f"{path}/case", changed(stored, {"spec": spec}))
        assert answer.status == 422
        assert "is immutable; copy the run under a new name and apply that" in answer.message
    assert server.send_json("PUT", f"{path}/case", changed(stored, {"spec": {"suspend": True}})).ok


def test_C14_metadata_of_any_size_and_script_is_taken_or_refused(server: KubeHttp) -> None:
    def create(**metadata: Any) -> tuple[int, str]:
        document = changed(RUN, {"metadata": metadata})
        answer = server.send_json("POST", collection("TrainingRun", "default"), document, dry_run=True)
        return answer.status, answer.message

    assert create(annotations={"title": "🤖 \u202eabc\u202c"})[0] == 201
    assert create(annotations={"title": "x" * 200_000})[0] == 201
    status, message = create(annotations={"title": "x" * 263_000})
    assert (status, "Too long" in message) == (422, True)
    status, message = create(labels={"title": "🤖"})
    assert (status, "metadata.labels" in message) == (422, True)
    assert create(labels={"title": "x" * 64})[0] == 422
