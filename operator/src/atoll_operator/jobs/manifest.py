"""The pod of a stage: Pod Security `restricted`, files instead of environment for secrets, sized scratch. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from atoll_contract import API_VERSION
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import DEFAULT_GRACE_SECONDS, DEFAULT_TERMINATION_LOG, ENV_INPUT, ENV_POD_UID, Stage
from atoll_operator.jobs.stage_input import (
    CA_ROOT,
    CREDENTIALS_ROOT,
    SIGNING_ROOT,
    Work,
    credentials_secret_of,
    stage_input,
    stores_of,
)
from atoll_operator.lifecycle.model import StageAttempt

Manifest = dict[str, Any]

CONTAINER = "stage"
USER = 65532
# What a stage takes for granted where it is not told.
GRACE_SECONDS = int(DEFAULT_GRACE_SECONDS)
_RESERVED = ("ATOLL_",)


def pod_spec(work: Work, attempt: StageAttempt) -> Manifest:
    """The pod's spec.

    Raises:
        SpecError: the profile has no image for this stage, or the stage's input cannot be made.
    """
    profile, stage = work.profile, attempt.stage
    on_gpu = uses_gpu(attempt)
    publishes = stage is Stage.PUBLISH
    account = profile.service_accounts.publish if publishes else profile.service_accounts.stage
    volumes, mounts = _volumes(work, stage)
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(work, attempt, mounts)],
        "volumes": volumes,
    }
    selector = dict(profile.node_selector) | ({"kubernetes.io/arch": "amd64"} if stage is Stage.COMPILE else {})
    optional = {
        "nodeSelector": selector,
        "tolerations": [dict(item) for item in profile.tolerations],
        "priorityClassName": profile.priority_class_name,
        "runtimeClassName": profile.gpu.runtime_class_name if on_gpu else None,
        "imagePullSecrets": [{"name": ref.name} for ref in profile.image_pull_secrets],
    }
    return spec | {name: value for name, value in optional.items() if value}


def uses_gpu(attempt: StageAttempt) -> bool:
    return attempt.stage is Stage.TRAIN and attempt.accelerator == "gpu"


def command(stage: Stage) -> list[str]:
    """The process of a stage. `-P`: the working folder is no import root."""
    return ["python", "-P", "-m", f"atoll_stages.{stage}"]


def _container(work: Work, attempt: StageAttempt, mounts: list[Manifest]) -> Manifest:
    image = work.profile.images.of(attempt.stage, gpu=uses_gpu(attempt))
    if image is None:
        what = "trainGPU" if uses_gpu(attempt) else str(attempt.stage)
        raise SpecError(f"TrainingProfile {work.spec.profile} has no image spec.images.{what}")
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": work.profile.image_pull_policy,
        "command": command(attempt.stage),
        "env": _environment(work, attempt),
        "resources": _resources(work, attempt),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": DEFAULT_TERMINATION_LOG,
        # Where a stage died without a word, the end of its log is all there is to show.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _environment(work: Work, attempt: StageAttempt) -> list[Manifest]:
    document = stage_input(work, attempt).to_env()[ENV_INPUT]
    own: list[Manifest] = [
        {"name": ENV_INPUT, "value": escaped(document)},
        {"name": ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]
    taken = {item["name"] for item in own}
    given = {item.name: item.value for item in work.profile.env}
    allowed = {k: v for k, v in given.items() if k not in taken and not k.startswith(_RESERVED)}
    return own + [{"name": name, "value": value} for name, value in sorted(allowed.items())]


def escaped(value: str) -> str:
    """`value` as an environment literal: Kubernetes expands `$(NAME)` and reads `$$` as `$`."""
    return value.replace("$", "$$")


def unescaped(value: str) -> str:
    """What the process sees of a literal that refers to no variable."""
    return value.replace("$$", "$")


def _resources(work: Work, attempt: StageAttempt) -> Manifest:
    profile = work.profile
    wanted = profile.resources.get(attempt.stage)
    requests = {name: str(amount) for name, amount in wanted.requests.items()} if wanted else {}
    limits = {name: str(amount) for name, amount in wanted.limits.items()} if wanted else {}
    if uses_gpu(attempt):
        gpus = str(work.spec.training.gpus)
        requests[profile.gpu.resource_name] = gpus
        limits[profile.gpu.resource_name] = gpus
    return {name: part for name, part in (("requests", requests), ("limits", limits)) if part}


def _volumes(work: Work, stage: Stage) -> tuple[list[Manifest], list[Manifest]]:
    # All that is writable: the stage's scratch folder, its HOME and every temporary file. Each volume, variable and
    # label of a pod costs the API server at all of its dozen writes.
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": str(work.profile.scratch.size_limit)}}]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    for number, (path, source) in enumerate(_files(work, stage).items()):
        name = f"files-{number}"
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return volumes, mounts


def _files(work: Work, stage: Stage) -> Mapping[str, Manifest]:
    """The mounts that `MountPaths` promises, by path: credentials, CA bundles, the signing key for publish."""
    files: dict[str, Manifest] = {}
    for store in stores_of(work, stage).values():
        secret = credentials_secret_of(store, for_publish=stage is Stage.PUBLISH)
        if secret:
            files[f"{CREDENTIALS_ROOT}/{secret}"] = _secret(secret)
        if store.ca_bundle:
            source = {"name": store.ca_bundle.name, "items": _items([store.ca_bundle.key])}
            files[f"{CA_ROOT}/{store.ca_bundle.name}"] = {"configMap": source}
    key = work.own_store.signing_key
    if stage is Stage.PUBLISH and key:
        files[SIGNING_ROOT] = _secret(key.name, [key.key])
    return files


def _secret(name: str, keys: Iterable[str] = ()) -> Manifest:
    # Readable by the pod's group alone; Secrets are mounted as root's.
    source: Manifest = {"secretName": name, "defaultMode": 0o440}
    return {"secret": source | ({"items": _items(keys)} if keys else {})}


def _items(keys: Iterable[str]) -> list[Manifest]:
    return [{"key": key, "path": key} for key in keys]


RUN_LABEL = "atoll.dev/run"
RUN_UID_LABEL = "atoll.dev/run-uid"
STAGE_LABEL = "atoll.dev/stage"
ATTEMPT_LABEL = "atoll.dev/attempt"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "atoll-operator"
# Kueue reads its queue from the Job; on a pod the label would queue the pod once more.
_JOB_ONLY = "kueue.x-k8s.io/"


def job_name(run: str, uid: str, stage: Stage, attempt: int) -> str:
    """`<run>-<stage>-<attempt>-<first 8 hex of sha256(uid)>`: at most 63 characters for a run's name of 40."""
    return f"{run}-{stage}-{attempt}-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def build_job(work: Work, attempt: StageAttempt) -> dict[str, Any]:
    """The `batch/v1` Job of one attempt.

    One pod, never restarted: attempts and backoff are `decide`'s. A pod that the cluster disrupts (drain,
    preemption) is replaced within the Job and not counted.

    Raises:
        SpecError: the profile has no image for this stage, or the stage's input cannot be made.
    """
    labels = job_labels(work.run, attempt)
    carried = {name: work.labels[name] for name in work.profile.propagate_labels if name in work.labels}
    on_pod = {name: value for name, value in carried.items() if not name.startswith(_JOB_ONLY)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(work.run.name, work.run.uid, attempt.stage, attempt.attempt),
            "namespace": work.run.namespace,
            # Atoll's own labels win: a tenant's label must not make a Job another run's.
            "labels": carried | labels,
            "ownerReferences": [owner_reference(work.run)],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": attempt.active_deadline_seconds,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {
                    "labels": on_pod | labels,
                    # Moving a pod costs what it did since its last checkpoint.
                    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
                },
                "spec": pod_spec(work, attempt),
            },
        },
    }


def job_labels(run: RunRef, attempt: StageAttempt) -> dict[str, str]:
    """The labels of a Job and its pods, by which the operator finds them."""
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        RUN_LABEL: run.name,
        RUN_UID_LABEL: run.uid,
        STAGE_LABEL: str(attempt.stage),
        ATTEMPT_LABEL: str(attempt.attempt),
    }


def owner_reference(run: RunRef) -> dict[str, Any]:
    """The run as the controller of what is made for it. Deleting the run never waits for its Jobs."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
