"""Checks each ObjectStore in a short pod, with the namespace's own Secret and the network rules of a stage."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from atoll_cli.doctor.api import CLOCK_ADVICE, describe_skew
from atoll_cli.doctor.facts import Body, Facts
from atoll_cli.doctor.result import CheckResult, fail, ok, warn
from atoll_contract.document import DecodeError, from_json, replace, to_json
from atoll_contract.errors import Reason, advice
from atoll_contract.stage import DEFAULT_TERMINATION_LOG, ENV_TERMINATION_LOG, Stage
from atoll_contract.tool_reports import StoreCheck
from atoll_operator.api.decode import object_store, training_profile
from atoll_operator.api.object_store import ObjectStoreSpec
from atoll_operator.api.types import TrainingProfileSpec
from atoll_operator.jobs.manifest import STAGE_LABEL, USER, escaped
from atoll_operator.jobs.stage_input import CA_ROOT, CREDENTIALS_ROOT, credentials_secret_of, store_spec
from atoll_operator.kube.errors import ClusterError, Forbidden
from atoll_operator.kube.objects import EVENTS, PODS
from atoll_operator.kube.pod_views import newest_warning

if TYPE_CHECKING:
    from atoll_operator.kube.client import Cluster

# How long the program in the pod tries a store, and how long the pod may take altogether.
RETRY_SECONDS = 15.0
POD_SECONDS = 120.0
POLL_SECONDS = 1.0
DOCTOR_LABEL = "atoll.dev/doctor"
_NEVER_STARTS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
)


def check_stores(
    cluster: Cluster, facts: Facts, *, on_start: Callable[[str], None], pod_seconds: float = POD_SECONDS
) -> Iterator[CheckResult]:
    """Runs a pod for each ObjectStore of the namespace and deletes it. `on_start` is called with the store's name."""
    if facts.is_edge_only:
        return
    if facts.stores.error:
        yield warn("store", facts.stores.error, "ask an admin for the role edit in the namespace")
        return
    if not facts.stores.items:
        text = f"there is no ObjectStore in namespace {facts.namespace}, so that no run can start there"
        yield fail("store", text, "write one (crds/samples/objectstore-minio.yaml)")
    profile = facts.profiles.named("default") or next(iter(facts.profiles), None)
    if profile is None:
        return
    for store in facts.stores:
        name = store["metadata"]["name"]
        on_start(name)
        try:
            pod = check_pod(name, facts.namespace, object_store(store), training_profile(profile))
            yield from _run_pod(cluster, facts.namespace, name, pod, pod_seconds)
        except Forbidden as error:
            yield warn(
                "store", f"ObjectStore {name} is not checked: {error}", "ask an admin for the right to create pods"
            )
        except (ClusterError, DecodeError) as error:
            yield fail("store", f"ObjectStore {name} is not checked: {error}", "have the pod that is described allowed")


def check_pod(name: str, namespace: str, store: ObjectStoreSpec, profile: TrainingProfileSpec) -> dict[str, Any]:
    """The pod: image, account and files of a convert stage, and its label, to which the NetworkPolicies apply."""
    secret, bundle = credentials_secret_of(store), store.ca_bundle
    spec = replace(
        store_spec(
            store,
            credentials_dir=f"{CREDENTIALS_ROOT}/{secret}" if secret else None,
            ca_bundle_path=f"{CA_ROOT}/{bundle.name}/{bundle.key}" if bundle else None,
        ),
        patience_seconds=RETRY_SECONDS,
    )
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if secret:
        volumes.append({"name": "credentials", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "credentials", "mountPath": f"{CREDENTIALS_ROOT}/{secret}", "readOnly": True})
    if bundle:
        volumes.append({"name": "ca", "configMap": {"name": bundle.name}})
        mounts.append({"name": "ca", "mountPath": f"{CA_ROOT}/{bundle.name}", "readOnly": True})
    container = {
        "name": "check",
        "image": profile.images.convert,
        "imagePullPolicy": profile.image_pull_policy,
        "command": ["python", "-P", "-m", "atoll_stages.store_check"],
        "args": [escaped(to_json(spec).decode()), namespace],
        "env": [
            {"name": ENV_TERMINATION_LOG, "value": DEFAULT_TERMINATION_LOG},
            *({"name": item.name, "value": item.value} for item in profile.env if not item.name.startswith("ATOLL_")),
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"atoll-doctor-{name[:40]}-{secrets.token_hex(3)}",
            "labels": {STAGE_LABEL: str(Stage.CONVERT), DOCTOR_LABEL: "store"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(POD_SECONDS),
            "serviceAccountName": profile.service_accounts.stage,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": dict(profile.node_selector),
            "tolerations": [dict(item) for item in profile.tolerations],
            "imagePullSecrets": [{"name": ref.name} for ref in profile.image_pull_secrets],
            "containers": [container],
            "volumes": volumes,
        },
    }


def _run_pod(
    cluster: Cluster, namespace: str, name: str, manifest: dict[str, Any], pod_seconds: float
) -> Iterator[CheckResult]:
    pod = cluster.create(PODS, namespace, manifest)
    uid, deadline = pod["metadata"]["uid"], time.monotonic() + pod_seconds
    warning = ""
    try:
        while True:
            pod = cluster.read(PODS, namespace, manifest["metadata"]["name"]) or pod
            is_late = time.monotonic() >= deadline
            if (pod.get("status") or {}).get("phase", "Pending") == "Pending":
                warning = newest_warning(cluster.list_all(EVENTS, namespace, fields=f"involvedObject.uid={uid}"))
            results = evaluate_pod(name, pod, warning, is_late=is_late)
            if results:
                yield from results
                return
            time.sleep(POLL_SECONDS)
    finally:
        cluster.delete(PODS, namespace, manifest["metadata"]["name"], uid=uid)


def evaluate_pod(name: str, pod: Body, warning: str, *, is_late: bool = False) -> list[CheckResult]:
    """What the pod says of the store; nothing as long as that is not known. `warning` is its newest Warning event."""
    status = pod.get("status") or {}
    store = f"ObjectStore {name}"
    state: Body = next((item.get("state") or {} for item in status.get("containerStatuses") or ()), {})
    if ended := state.get("terminated"):
        return list(_evaluate_end(store, ended))
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in _NEVER_STARTS:
        text = f"{store}: the pod does not start: {waiting['reason']}: {waiting.get('message', '')}"
        reason = Reason.SECRET_NOT_FOUND if "Config" in waiting["reason"] else Reason.IMAGE_PULL_FAILED
        return [fail("store", text, advice(reason))]
    lowered = warning.lower()
    if "not found" in lowered and ("secret" in lowered or "configmap" in lowered):
        return [fail("store", f"{store}: {warning}", advice(Reason.SECRET_NOT_FOUND))]
    if not is_late:
        return []
    scheduled = (item for item in status.get("conditions") or () if item.get("status") == "False")
    why = warning or next((item.get("message", "") for item in scheduled), "") or "no word of why"
    return [fail("store", f"{store}: the pod has not ended within its time: {why}", advice(Reason.START_TIMEOUT))]


def _evaluate_end(store: str, ended: Body) -> Iterator[CheckResult]:
    message = str(ended.get("message", ""))
    try:
        report = from_json(StoreCheck, message, skip_unknown=True)
    except DecodeError:
        text = f"{store}: the check ended with exit code {ended.get('exitCode')}: {message[-300:]}"
        yield fail("store", text, "is the profile's convert image of this version?")
        return
    if report.reason is Reason.COMPLETED:
        yield ok("store", f"{store}: {report.message}")
    else:
        yield fail("store", f"{store}: {report.reason}: {report.message}", advice(report.reason))
    if report.clock_skew is not None and (skew := describe_skew(report.clock_skew)):
        yield fail("clock", f"{store}: the clock of the pod's node is {skew} the store's", CLOCK_ADVICE)
