"""The bench's control plane does what the operator's tests build on."""

from __future__ import annotations

from typing import Any

import kubernetes.client
import pytest
from kubernetes.client.exceptions import ApiException

from support.polling import wait_until

pytestmark = pytest.mark.api

JOB = {
    "metadata": {"name": "probe"},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "stage", "image": "none.invalid/none", "command": ["true"]}],
            }
        },
    },
}


def test_the_pinned_version_is_stamped(api: kubernetes.client.ApiClient) -> None:
    version = kubernetes.client.VersionApi(api).get_code(_request_timeout=10)
    assert version.git_version == "v1.35.4"
    assert (version.major, version.minor) == ("1", "35")


def test_a_job_ends_as_its_pod_does(api: kubernetes.client.ApiClient, namespace: str) -> None:
    batch, core = kubernetes.client.BatchV1Api(api), kubernetes.client.CoreV1Api(api)
    batch.create_namespaced_job(namespace, JOB, _request_timeout=10)
    pod = wait_until(lambda: _only_pod(core, namespace), what="the Job's pod")
    core.patch_namespaced_pod_status(pod, namespace, {"status": {"phase": "Succeeded"}}, _request_timeout=10)

    def complete() -> bool:
        conditions = batch.read_namespaced_job("probe", namespace, _request_timeout=10).status.conditions or []
        return any(condition.type == "Complete" and condition.status == "True" for condition in conditions)

    wait_until(complete, what="the Job to be Complete")


def test_deleting_a_job_takes_its_pods_along(api: kubernetes.client.ApiClient, namespace: str) -> None:
    batch, core = kubernetes.client.BatchV1Api(api), kubernetes.client.CoreV1Api(api)
    batch.create_namespaced_job(namespace, JOB, _request_timeout=10)
    wait_until(lambda: _only_pod(core, namespace), what="the Job's pod")
    batch.delete_namespaced_job("probe", namespace, propagation_policy="Background", _request_timeout=10)
    wait_until(lambda: not core.list_namespaced_pod(namespace, _request_timeout=10).items, what="the pods to go")


def test_nobody_gets_in_without_a_token(api: kubernetes.client.ApiClient) -> None:
    with kubernetes.client.ApiClient(_anonymous(api.configuration)) as stranger:
        core = kubernetes.client.CoreV1Api(stranger)
        with pytest.raises(ApiException) as refused:
            core.list_namespace(_request_timeout=10)
    assert refused.value.status == 403


def _only_pod(core: Any, namespace: str) -> str | None:
    pods = core.list_namespaced_pod(namespace, _request_timeout=10).items
    return pods[0].metadata.name if pods else None


def _anonymous(configuration: Any) -> Any:
    anonymous = kubernetes.client.Configuration()
    anonymous.host, anonymous.ssl_ca_cert = configuration.host, configuration.ssl_ca_cert
    return anonymous
