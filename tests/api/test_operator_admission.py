"""What an admission policy of the cluster says against a stage's Job ends the run with the policy's own words."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes.client
import pytest
from kubernetes.client.exceptions import ApiException

from cluster.objects import Objects, run_manifest
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("operator", "kubelet")]

WORDS = "training is not allowed here on Sundays"


@pytest.fixture
def policy(team: Objects) -> Iterator[None]:
    """A ValidatingAdmissionPolicy against train Jobs in the team's namespace, in force."""
    admission = kubernetes.client.AdmissionregistrationV1Api(team.api)
    name = f"{team.namespace}-no-training"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    forbidden = "!('atoll.dev/stage' in object.metadata.labels) || object.metadata.labels['atoll.dev/stage'] != 'train'"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": forbidden, "message": WORDS}],
    }
    admission.create_validating_admission_policy({"metadata": {"name": name}, "spec": spec}, _request_timeout=10)
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    admission.create_validating_admission_policy_binding(
        {"metadata": {"name": name}, "spec": binding}, _request_timeout=10
    )
    wait_until(lambda: _refuses(team), what="the policy to be in force", timeout_seconds=60)
    yield
    admission.delete_validating_admission_policy_binding(name, _request_timeout=10)
    admission.delete_validating_admission_policy(name, _request_timeout=10)


@pytest.mark.usefixtures("policy")
def test_O14_a_refused_job_ends_the_run_with_the_policys_words(team: Objects) -> None:
    team.create("trainingruns", run_manifest("denied", profileRef={"name": team.namespace}))
    status = team.wait_for_phase("denied", "Failed", "Succeeded")
    assert status["reason"] == "InvalidSpec"
    assert status["message"].startswith("admission denied: ")
    assert WORDS in status["message"]


def _refuses(team: Objects) -> bool:
    container = {"name": "probe", "image": "registry.invalid/probe"}
    job = {
        "metadata": {"name": "probe", "labels": {"atoll.dev/stage": "train"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    try:
        kubernetes.client.BatchV1Api(team.api).create_namespaced_job(
            team.namespace, job, dry_run="All", _request_timeout=10
        )
    except ApiException as error:
        return WORDS in str(error.body)
    return False
