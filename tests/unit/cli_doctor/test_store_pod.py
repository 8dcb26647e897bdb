"""The pod that tries a bucket: what it may do, and what is read of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from atoll_cli.doctor.facts import Listed
from atoll_cli.doctor.result import Level
from atoll_cli.doctor.store import check_pod, check_stores, evaluate_pod
from atoll_contract.document import from_json, to_json
from atoll_contract.errors import Reason
from atoll_contract.store_spec import StoreSpec
from atoll_contract.tool_reports import StoreCheck
from atoll_operator.api.crds import definitions
from atoll_operator.api.decode import object_store, training_profile
from atoll_operator.api.defaults import defaulted
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Forbidden
from cluster.objects import profile_manifest, store_manifest
from support.doctor_facts import healthy


def ended(reason: Reason, message: str, **report: Any) -> dict[str, Any]:
    text = to_json(StoreCheck(reason, message, **report)).decode()
    return {"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 0, "message": text}}}]}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"status": {"phase": "Pending", "containerStatuses": [{"state": state}]}}


def test_a_bucket_that_works_is_ok() -> None:
    (found,) = evaluate_pod("default", ended(Reason.COMPLETED, "s3://frc/ takes an object", clock_skew=0.2), "")
    assert found.level is Level.OK


def test_a_wrong_key_is_found_with_what_to_do() -> None:
    pod = ended(Reason.STORAGE_FORBIDDEN, "the server knows no such access key")
    (found,) = evaluate_pod("default", pod, "")
    assert (found.check, found.level) == ("store", Level.FAIL)
    assert "StorageForbidden: the server knows no such access key" in found.message
    assert found.advice == "what to do: docs/troubleshooting.md#storageforbidden"


def test_a_nodes_clock_that_is_off_is_found() -> None:
    bucket, clock = evaluate_pod("default", ended(Reason.COMPLETED, "works", clock_skew=-600.0), "")
    assert bucket.level is Level.OK
    assert (clock.check, clock.level) == ("clock", Level.FAIL)
    assert "600 s behind the store's" in clock.message


@pytest.mark.parametrize(
    ("pod", "warning", "section"),
    [
        (waiting("ImagePullBackOff", "localhost/atoll/convert:1"), "", "imagepullfailed"),
        (waiting("CreateContainerConfigError", "bad key"), "", "secretnotfound"),
        (waiting("ContainerCreating"), 'FailedMount: secret "s3" not found', "secretnotfound"),
    ],
)
def test_a_pod_that_never_starts_is_not_waited_for(pod: dict[str, Any], warning: str, section: str) -> None:
    (found,) = evaluate_pod("default", pod, warning)
    assert found.level is Level.FAIL
    assert found.advice.endswith(f"#{section}")


def test_a_pod_that_may_still_start_is_waited_for() -> None:
    pod = waiting("ContainerCreating")
    assert evaluate_pod("default", pod, "") == []
    (found,) = evaluate_pod("default", pod, "FailedScheduling: 1 Insufficient cpu", is_late=True)
    assert "Insufficient cpu" in found.message


def test_an_image_of_another_version_is_named() -> None:
    state = {"terminated": {"exitCode": 1, "message": "No module named atoll_stages.store_check"}}
    (found,) = evaluate_pod("default", {"status": {"containerStatuses": [{"state": state}]}}, "")
    assert found.level is Level.FAIL
    assert "No module named" in found.message
    assert "of this version" in found.advice


class Pods:
    """A cluster in which the pod has ended at once."""

    def __init__(self, *, error: ClusterError | None = None) -> None:
        self.error = error
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []

    def create(self, resource: object, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.made.append(body)
        return {"metadata": body["metadata"] | {"uid": "u1"}, "status": {}}

    def read(self, resource: object, namespace: str, name: str) -> dict[str, Any]:
        return ended(Reason.COMPLETED, "s3://frc/ takes an object")

    def list_all(self, resource: object, namespace: str, **_: str) -> list[dict[str, Any]]:
        return []

    def delete(self, resource: object, namespace: str, name: str, *, uid: str) -> None:
        self.deleted.append(name)


def store_facts() -> Any:
    store = defaulted(store_manifest(), definitions()["ObjectStore"].schema)
    profile = defaulted(profile_manifest("default"), definitions()["TrainingProfile"].schema)
    return healthy(stores=Listed((store,)), profiles=Listed((profile,)))


def test_the_pod_is_made_for_each_store_and_always_deleted() -> None:
    pods = Pods()
    (found,) = check_stores(cast(Cluster, pods), store_facts(), on_start=lambda _: None)
    assert found.level is Level.OK
    assert [pod["metadata"]["name"] for pod in pods.made] == pods.deleted


def test_who_may_create_no_pod_is_warned() -> None:
    pods = Pods(error=Forbidden("create pods", "forbidden", status=403))
    (found,) = check_stores(cast(Cluster, pods), store_facts(), on_start=lambda _: None)
    assert found.level is Level.WARN


def test_without_a_store_no_run_starts() -> None:
    (found,) = check_stores(cast(Cluster, Pods()), healthy(stores=Listed()), on_start=lambda _: None)
    assert found.level is Level.FAIL


def test_the_pod_is_as_a_stages() -> None:
    facts = store_facts()
    store, profile = object_store(facts.stores.items[0]), training_profile(facts.profiles.items[0])
    pod = check_pod("default", "team", store, profile)
    container, spec = pod["spec"]["containers"][0], pod["spec"]
    assert container["image"] == profile.images.convert
    assert pod["metadata"]["labels"]["atoll.dev/stage"] == "convert"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    secret = next(item["secret"]["secretName"] for item in spec["volumes"] if "secret" in item)
    given = from_json(StoreSpec, container["args"][0].encode())
    assert given.bucket == store.bucket
    assert given.credentials_dir == f"/etc/atoll/credentials/{secret}"
