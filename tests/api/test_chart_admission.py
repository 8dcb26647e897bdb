"""The chart's admission policies on a real API server: what the operator builds passes, what it must not is refused.

Requests are sent as the operator's own account, which has the chart's rights: where the policy refuses, RBAC did not.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from cluster.controlplane import ControlPlane
from cluster.objects import DIGEST, Objects
from cluster.operator_process import ACCOUNT, grant
from support.helm import CHARTS, render
from support.polling import wait_until

pytestmark = pytest.mark.api

Body = dict[str, Any]
Change = Callable[[Body], None]
# What the Job builder makes, and what that of commit 8c7468f made, which may be at work while a chart is upgraded.
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("**/job-*.yaml"))
IMAGE = f"registry.invalid/atoll/convert@{DIGEST}"


def pod(job: Body) -> Body:
    spec: Body = job["spec"]["template"]["spec"]
    return spec


def containers(job: Body) -> list[Body]:
    return [*pod(job).get("initContainers", []), *pod(job)["containers"]]


def container(job: Body) -> Body:
    """The first one, which is an init container where the Job has two stages."""
    return containers(job)[0]


def in_metadata(**values: Any) -> Change:
    return lambda job: job["metadata"].update(values)


def in_job(**values: Any) -> Change:
    return lambda job: job["spec"].update(values)


def in_pod(**values: Any) -> Change:
    return lambda job: pod(job).update(values)


def in_container(**values: Any) -> Change:
    return lambda job: container(job).update(values)


def in_last_container(**values: Any) -> Change:
    """For what no init container may have anyway."""
    return lambda job: containers(job)[-1].update(values)


def in_security_context(**values: Any) -> Change:
    return lambda job: container(job)["securityContext"].update(values)


def in_pod_security_context(**values: Any) -> Change:
    return lambda job: pod(job)["securityContext"].update(values)


def with_label(name: str, value: str) -> Change:
    return lambda job: job["metadata"]["labels"].update({name: value})


def with_volume(**source: Any) -> Change:
    return lambda job: pod(job)["volumes"].append({"name": "more", **source})


def with_env(**entry: Any) -> Change:
    return lambda job: container(job)["env"].append({"name": "MORE", **entry})


def owned_by(**owner: Any) -> Change:
    return lambda job: job["metadata"]["ownerReferences"][0].update(owner)


def restarting(job: Body) -> None:
    pod(job)["restartPolicy"] = "OnFailure"
    del job["spec"]["podFailurePolicy"]


def with_its_own_proc(job: Body) -> None:
    pod(job)["hostUsers"] = False
    container(job)["securityContext"]["procMount"] = "Unmasked"


def staying(job: Body) -> None:
    name = "train" if len(containers(job)) == 1 else container(job)["name"]
    pod(job)["initContainers"] = [container(job) | {"name": name, "restartPolicy": "Always"}]


PROBE = {"exec": {"command": ["true"]}}
KEY = {"name": "other", "key": "token"}
TOKEN = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
# By the word of the rule's message, what a Job may not be.
REFUSED: dict[str, dict[str, Change]] = {
    "Atoll's labels": {
        "another manager": with_label("app.kubernetes.io/managed-by", "Helm"),
        "another stage": with_label("atoll.dev/stage", "shell"),
        "no run": lambda job: job["metadata"]["labels"].pop("atoll.dev/run-uid"),
    },
    "only owner": {
        "no owner": in_metadata(ownerReferences=[]),
        "owner of another kind": owned_by(kind="ConfigMap", apiVersion="v1"),
        "another run": owned_by(uid="7b1e0000-0000-4000-8000-00000000ffff"),
    },
    "one pod": {
        "many pods": in_job(parallelism=50, completions=50),
        "more pods than there may be shards": in_job(parallelism=17, completions=17, completionMode="Indexed"),
        "pods that are tried again": in_job(
            parallelism=2, completions=2, completionMode="Indexed", backoffLimit=None, backoffLimitPerIndex=1
        ),
        "many tries": in_job(backoffLimit=100),
        "no deadline": lambda job: job["spec"].pop("activeDeadlineSeconds"),
        "restarts": restarting,
    },
    "its containers": {
        "a sidecar": lambda job: pod(job)["containers"].append({"name": "more", "image": IMAGE}),
        "an init container": in_pod(initContainers=[{"name": "more", "image": IMAGE}]),
        "another name": in_container(name="more"),
        "stages that share no pod": lambda job: pod(job).update(initContainers=[container(job) | {"name": "compile"}]),
        "an init container that stays": staying,
    },
    "their commands": {
        "a shell": in_container(command=["sh", "-c", "id"]),
        "the image's own": lambda job: container(job).pop("command"),
        "another stage's": in_container(command=["python", "-P", "-m", "atoll_stages.publish"]),
        "arguments": in_container(args=["--evil"]),
        "a hook": in_last_container(lifecycle={"preStop": PROBE}),
        "a liveness probe": in_last_container(livenessProbe=PROBE),
        "a readiness probe": in_last_container(readinessProbe=PROBE),
        "a startup probe": in_last_container(startupProbe=PROBE),
    },
    "must not share": {
        "host network": in_pod(hostNetwork=True),
        "host processes": in_pod(hostPID=True),
        "host IPC": in_pod(hostIPC=True),
        "processes of the pod": in_pod(shareProcessNamespace=True),
        "host port": in_container(ports=[{"containerPort": 80, "hostPort": 80}]),
        "a node": in_pod(nodeName="control-plane"),
        "names of hosts": in_pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["minio.example"]}]),
    },
    "another user than root": {
        "privileged": in_security_context(privileged=True, allowPrivilegeEscalation=True),
        "escalation": in_security_context(allowPrivilegeEscalation=True),
        "root": in_pod_security_context(runAsNonRoot=False, runAsUser=0),
        "perhaps root": in_pod_security_context(runAsNonRoot=False),
        "root in the container": in_security_context(runAsUser=0),
        "perhaps root in the container": in_security_context(runAsNonRoot=False),
        "a root that is written": in_security_context(readOnlyRootFilesystem=False),
        "a capability": in_security_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        "capabilities kept": in_security_context(capabilities={"drop": ["NET_RAW"]}),
        "no seccomp": in_pod_security_context(seccompProfile={"type": "Unconfined"}),
        "no seccomp in the container": in_security_context(seccompProfile={"type": "Unconfined"}),
        "another /proc": with_its_own_proc,
        "no security context": lambda job: container(job).pop("securityContext"),
    },
    "its volumes": {
        "the node's files": with_volume(hostPath={"path": "/"}),
        "a claim": with_volume(persistentVolumeClaim={"claimName": "other"}),
        "a token": with_volume(projected=TOKEN),
        "a share": with_volume(nfs={"server": "10.0.0.1", "path": "/"}),
    },
    "its environment": {
        "a Secret": with_env(valueFrom={"secretKeyRef": KEY}),
        "a ConfigMap": with_env(valueFrom={"configMapKeyRef": KEY}),
        "all of a Secret": in_container(envFrom=[{"secretRef": {"name": "other"}}]),
    },
    "mount no token": {
        "a token": in_pod(automountServiceAccountToken=True),
        "a token by default": lambda job: pod(job).pop("automountServiceAccountToken"),
        "the operator's account": in_pod(serviceAccountName=ACCOUNT),
    },
    "by digest": {
        "a tag": in_container(image="registry.invalid/atoll/convert:1"),
        "a short digest": in_container(image="registry.invalid/atoll/convert@sha256:00"),
    },
    "must begin with": {"another registry": in_container(image=f"registry.invalid.evil/atoll/convert@{DIGEST}")},
    "service account must be": {"another account": in_pod(serviceAccountName="admin")},
}
CASES = [(word, name) for word, cases in REFUSED.items() for name in cases]


def rendered(namespace: str, *more: str) -> list[Body]:
    """The chart's admission objects where the operator's account lies in `namespace`."""
    flags = f"--set=serviceAccount.name={ACCOUNT},fullnameOverride={namespace}"
    objects = render("atoll", flags, *more, namespace=namespace)
    return [item for item in objects if item["kind"].startswith("ValidatingAdmissionPolicy")]


@pytest.fixture(scope="module")
def policies(api: kubernetes.client.ApiClient, team: Objects) -> Iterator[list[Body]]:
    """All rules of the chart, in force for the operator's account of the team's namespace."""
    grant(api, team.namespace)
    values = "--set=admissionPolicy.imagePrefixes={registry.invalid/atoll/},admissionPolicy.serviceAccounts={default}"
    found = rendered(team.namespace, values)
    admission = kubernetes.client.AdmissionregistrationV1Api(api)
    for item in found:
        if item["kind"].endswith("Binding"):
            admission.create_validating_admission_policy_binding(item, _request_timeout=10)
        else:
            admission.create_validating_admission_policy(item, _request_timeout=10)
    yield found
    for item in found:
        if item["kind"].endswith("Binding"):
            admission.delete_validating_admission_policy_binding(item["metadata"]["name"], _request_timeout=10)
        else:
            admission.delete_validating_admission_policy(item["metadata"]["name"], _request_timeout=10)


@pytest.fixture(scope="module")
def as_operator(
    control_plane: ControlPlane, team: Objects, policies: list[Body]
) -> Iterator[kubernetes.client.BatchV1Api]:
    """Jobs as the operator's account sees them, once both policies are in force."""
    with kubernetes.config.new_client_from_config(str(control_plane.kubeconfig)) as client:
        client.set_default_header("Impersonate-User", f"system:serviceaccount:{team.namespace}:{ACCOUNT}")
        batch = kubernetes.client.BatchV1Api(client)
        probe = changed(golden("job-convert"), in_pod(hostNetwork=True), team.namespace)
        wait_until(lambda: refusal(batch, probe), what="the policy on creation to be in force", timeout_seconds=60)
        foreign = team.create_job("not-atolls")
        wait_until(lambda: not_deleted(batch, foreign), what="the policy on deletion to be in force")
        yield batch


def golden(name: str) -> Body:
    """What the Job builder makes, with an image by digest."""
    job: Body = yaml.safe_load(next(path for path in GOLDEN if path.stem == name).read_text(encoding="utf-8"))
    for item in containers(job):
        item["image"] = IMAGE
    # Not what is asked here: a class that the test server does not have, and the profile's own accounts.
    for missing in ("priorityClassName", "runtimeClassName"):
        pod(job).pop(missing, None)
    pod(job)["serviceAccountName"] = "default"
    return job


def changed(job: Body, change: Change, namespace: str) -> Body:
    copied = copy.deepcopy(job)
    copied["metadata"]["namespace"] = namespace
    change(copied)
    return copied


def refusal(batch: kubernetes.client.BatchV1Api, job: Body) -> str:
    """The server's words against the Job; empty where it takes it."""
    try:
        batch.create_namespaced_job(job["metadata"]["namespace"], job, dry_run="All", _request_timeout=10)
    except ApiException as error:
        return str(error.body)
    return ""


def not_deleted(batch: kubernetes.client.BatchV1Api, job: Body) -> str:
    metadata = job["metadata"]
    try:
        batch.delete_namespaced_job(metadata["name"], metadata["namespace"], dry_run="All", _request_timeout=10)
    except ApiException as error:
        return str(error.body)
    return ""


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_the_job_builder_makes_is_taken(
    path: Path, as_operator: kubernetes.client.BatchV1Api, team: Objects
) -> None:
    assert refusal(as_operator, changed(golden(path.stem), lambda job: None, team.namespace)) == ""


@pytest.mark.parametrize("built", ["job-convert", "job-retraining"])
@pytest.mark.parametrize(("word", "name"), CASES, ids=[f"{word}: {name}" for word, name in CASES])
def test_what_no_job_may_be_is_refused_by_its_rule(
    word: str, name: str, built: str, as_operator: kubernetes.client.BatchV1Api, team: Objects
) -> None:
    job = changed(golden(built), REFUSED[word][name], team.namespace)
    told = refusal(as_operator, job)
    assert "ValidatingAdmissionPolicy" in told
    assert word in told
    # It is the account that is bound: an admin may do the same.
    assert refusal(kubernetes.client.BatchV1Api(team.api), job) == ""


def test_the_operator_deletes_atolls_jobs_and_no_other(
    as_operator: kubernetes.client.BatchV1Api, team: Objects
) -> None:
    # Without its owner, which does not exist here: the garbage collector would be faster.
    job = changed(golden("job-convert"), in_metadata(ownerReferences=[]), team.namespace)
    own = kubernetes.client.BatchV1Api(team.api).create_namespaced_job(team.namespace, job, _request_timeout=10)
    assert not_deleted(as_operator, {"metadata": {"name": own.metadata.name, "namespace": team.namespace}}) == ""
    foreign = team.jobs()["not-atolls"]
    assert "may delete no Job but" in not_deleted(as_operator, foreign)
    assert not_deleted(kubernetes.client.BatchV1Api(team.api), foreign) == ""


def test_every_rule_has_its_refused_cases(policies: list[Body]) -> None:
    (creation,) = (
        item for item in policies if item["metadata"]["name"].endswith("-jobs") and "failurePolicy" in item["spec"]
    )
    messages = [rule["message"] for rule in creation["spec"]["validations"]]
    assert len(messages) == len(REFUSED)
    for message in messages:
        assert any(re.search(re.escape(word), message) for word in REFUSED), message


def test_the_policies_follow_the_values() -> None:
    def creation_rules(*values: str) -> str:
        return str([item for item in rendered("atoll", *values) if item["metadata"]["name"] == "atoll-jobs"])

    assert rendered("atoll", "--set=admissionPolicy.enabled=false") == []
    # A policy belongs to no namespace, so an install that is confined to some has none.
    assert rendered("atoll", "--set=rbac.scope=namespaced,watch.namespaces={team}") == []
    assert "by digest" in creation_rules()
    assert "by digest" not in creation_rules("--set=admissionPolicy.allowTags=true")
    assert "by digest" not in creation_rules("-f", str(CHARTS / "atoll" / "values-quickstart.yaml"))
    assert "must begin with" not in creation_rules()
