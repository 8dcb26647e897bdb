"""The `batch/v1` Job of one or two stages: Pod Security `restricted`, Secrets as files, bounded scratch space. Pure.

The last stage is the pod's container, the one before it an init container. Each has its own image, resources, Secrets
and scratch folder; what one leaves for the next lies in a folder that the next one cannot write to.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from atoll_contract import API_VERSION
from atoll_contract.document import replace
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_TERMINATION_LOG,
    ENV_HANDOVER_DIR,
    ENV_INPUT,
    ENV_POD_UID,
    Stage,
)
from atoll_operator.jobs.stage_input import (
    CA_ROOT,
    CREDENTIALS_ROOT,
    SIGNING_ROOT,
    Work,
    credentials_secret_of,
    stage_input,
    stores_of,
)
from atoll_operator.jobs.workers import (
    service_name,
    worker_addresses,
    worker_policy,
    worker_service,
    workers_on_job,
)
from atoll_operator.lifecycle.model import AttemptNumber, StageAttempt

RUN_LABEL = "atoll.dev/run"
RUN_UID_LABEL = "atoll.dev/run-uid"
STAGE_LABEL = "atoll.dev/stage"
ATTEMPT_LABEL = "atoll.dev/attempt"
# The further stages of the Job with their attempts, as `export-1`.
FOLLOWING_LABEL = "atoll.dev/following"
# The compile target, where each has a Job of its own.
TARGET_LABEL = "atoll.dev/target"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "atoll-operator"
# The only container of a Job that an earlier version made; now each has the name of its stage.
EARLIER_CONTAINER = "stage"
HANDOVER_DIR = "/handover"
USER = 65532
# Kueue reads its queue from the Job; the same label on a pod would queue the pod as well.
_JOB_ONLY = "kueue.x-k8s.io/"
_RESERVED = "ATOLL_"

Manifest = dict[str, Any]


def job_name(run: str, uid: str, stage: Stage, attempt: int, *, target: str | None = None) -> str:
    """`<run>-<stage>-<attempt>-<first 8 hex of sha256(uid)>`: at most 63 characters for a run's name of 40. The Job of
    a compile target has the target's name in place of the stage's."""
    return f"{run}-{target or stage}-{attempt}-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def following_label(following: Iterable[AttemptNumber]) -> str:
    """The value of the label `FOLLOWING_LABEL`."""
    return ".".join(f"{number.stage}-{number.attempt}" for number in following)


def parse_following(value: str) -> tuple[AttemptNumber, ...] | None:
    """The inverse of `following_label`; none for an empty text, None for what it does not write."""
    found = []
    for part in value.split(".") if value else ():
        stage, _, attempt = part.partition("-")
        if stage not in tuple(Stage) or not (attempt.isascii() and attempt.isdecimal()):
            return None
        found.append(AttemptNumber(Stage(stage), int(attempt)))
    return tuple(found)


def build_job(work: Work, attempt: StageAttempt) -> Manifest:
    """The Job of an attempt.

    It has one pod, or one for each worker of a training, and none is restarted: attempts and backoff are `decide`'s. A
    lone pod that the cluster disrupts (drain, preemption) is replaced within the Job and not counted.

    Raises:
        SpecError: the profile has no image for a stage, or a stage's input cannot be built.
    """
    labels = {
        MANAGED_BY_LABEL: MANAGED_BY,
        RUN_LABEL: work.run.name,
        RUN_UID_LABEL: work.run.uid,
        STAGE_LABEL: str(attempt.stage),
        ATTEMPT_LABEL: str(attempt.attempt),
        **({FOLLOWING_LABEL: following_label(attempt.following)} if attempt.following else {}),
        **({TARGET_LABEL: attempt.target} if attempt.target else {}),
    }
    propagated = {name: work.labels[name] for name in work.profile.propagate_labels if name in work.labels}
    on_pod = {name: value for name, value in propagated.items() if not name.startswith(_JOB_ONLY)}
    for_job, for_pod = workers_on_job(work, labels) if _has_workers(work, attempt.stage) else ({}, {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": _name(work, attempt),
            "namespace": work.run.namespace,
            # Atoll's own labels win: a tenant's label must not make a Job another run's.
            "labels": propagated | labels,
            "ownerReferences": [_owner_reference(work.run)],
        },
        "spec": {
            **_pods(work, attempt),
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": attempt.active_deadline_seconds,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            **for_job,
            "template": {
                "metadata": {
                    "labels": on_pod | labels,
                    # A pod that is moved loses its work since the last checkpoint.
                    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
                },
                "spec": _pod_spec(work, attempt) | for_pod,
            },
        },
    }


def _pods(work: Work, attempt: StageAttempt) -> Manifest:
    """How many pods the Job has, and when it is over.

    Of the shards of a conversion index 0 alone decides: it does what another leaves undone, and the others end with it.
    """
    shards = work.spec.conversion.shards or 1
    if attempt.stage is not Stage.CONVERT or shards == 1:
        return {"backoffLimit": 0, "completions": 1, "parallelism": 1}
    return {
        "completionMode": "Indexed",
        "completions": shards,
        "parallelism": shards,
        "backoffLimitPerIndex": 0,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }


def _has_workers(work: Work, stage: Stage) -> bool:
    return stage is Stage.TRAIN and work.spec.training.workers > 1


def _name(work: Work, attempt: StageAttempt) -> str:
    return job_name(work.run.name, work.run.uid, attempt.stage, attempt.attempt, target=attempt.target)


def build_worker_objects(work: Work, attempt: StageAttempt) -> tuple[Manifest, ...]:
    """The Service and the NetworkPolicy that the Job of several workers needs; none for one with a single pod. All
    attempts of the run share them."""
    if not _has_workers(work, attempt.stage):
        return ()
    metadata = {
        "name": service_name(work.run.uid),
        "namespace": work.run.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, RUN_LABEL: work.run.name, RUN_UID_LABEL: work.run.uid},
        "ownerReferences": [_owner_reference(work.run)],
    }
    selector = {RUN_UID_LABEL: work.run.uid, STAGE_LABEL: str(Stage.TRAIN)}
    return worker_service(metadata, selector), worker_policy(metadata, selector)


def _owner_reference(run: RunRef) -> Manifest:
    """The run as the Job's controller. The deletion of a run does not wait for its Jobs."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _pod_spec(work: Work, attempt: StageAttempt) -> Manifest:
    profile = work.profile
    stages = [number.stage for number in attempt.stages]
    volumes, mounts = _volumes(work, stages)
    *earlier, last = [_container(work, attempt, number, mounts[number.stage]) for number in attempt.stages]
    service_accounts = profile.service_accounts
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": service_accounts.publish if Stage.PUBLISH in stages else service_accounts.stage,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(DEFAULT_GRACE_SECONDS),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": earlier} if earlier else {}),
        "containers": [last],
        "volumes": volumes,
    }
    # Compilers exist for amd64 only.
    selector = dict(profile.node_selector) | ({"kubernetes.io/arch": "amd64"} if Stage.COMPILE in stages else {})
    on_gpu = any(_uses_gpu(attempt, stage) for stage in stages)
    optional = {
        "nodeSelector": selector,
        "tolerations": [dict(item) for item in profile.tolerations],
        "priorityClassName": profile.priority_class_name,
        "runtimeClassName": profile.gpu.runtime_class_name if on_gpu else None,
        "imagePullSecrets": [{"name": ref.name} for ref in profile.image_pull_secrets],
    }
    return spec | {name: value for name, value in optional.items() if value}


def _uses_gpu(attempt: StageAttempt, stage: Stage) -> bool:
    return stage is Stage.TRAIN and attempt.accelerator == "gpu"


def _volumes(work: Work, stages: list[Stage]) -> tuple[list[Manifest], Mapping[Stage, list[Manifest]]]:
    """The pod's volumes, and their mounts by stage. Each volume, variable and label of a pod costs the API server at
    all of its dozen writes, so there is one writable volume: for scratch space, HOME and temporary files, with a folder
    for each stage, and for what one stage leaves for the next."""
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": str(work.profile.scratch.size_limit)}}]
    mounts = {stage: _writable_mounts(stage, stages) for stage in stages}
    names: dict[str, str] = {}
    for stage in stages:
        for path, source in _files(work, stage).items():
            if path not in names:
                names[path] = f"files-{len(names)}"
                volumes.append({"name": names[path], **source})
            mounts[stage].append({"name": names[path], "mountPath": path, "readOnly": True})
    return volumes, mounts


def _writable_mounts(stage: Stage, stages: list[Stage]) -> list[Manifest]:
    scratch: Manifest = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108
    if len(stages) == 1:
        return [scratch]
    # No stage may find files of another in its HOME: a program would run them with this stage's credentials.
    handover: Manifest = {"name": "tmp", "mountPath": HANDOVER_DIR, "subPath": "handover"}
    is_last = stage is stages[-1]
    return [scratch | {"subPath": str(stage)}, handover | ({"readOnly": True} if is_last else {})]


def _files(work: Work, stage: Stage) -> dict[str, Manifest]:
    """Volume sources by path, where the stage's input names them: credentials, CA bundles, publish's signing key."""
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
    # Mounted Secrets belong to root; only the pod's group may read them.
    source: Manifest = {"secretName": name, "defaultMode": 0o440}
    return {"secret": source | ({"items": _items(keys)} if keys else {})}


def _items(keys: Iterable[str]) -> list[Manifest]:
    return [{"key": key, "path": key} for key in keys]


def _container(work: Work, attempt: StageAttempt, number: AttemptNumber, mounts: list[Manifest]) -> Manifest:
    stage = number.stage
    on_gpu = _uses_gpu(attempt, stage)
    image = work.profile.images.of(stage, gpu=on_gpu, target=attempt.target or _only_target(work))
    if image is None:
        name = "trainGPU" if on_gpu else str(stage)
        raise SpecError(f"TrainingProfile {work.spec.profile} has no image spec.images.{name}")
    return {
        "name": str(stage),
        "image": image,
        "imagePullPolicy": work.profile.image_pull_policy,
        # With -P the working folder is no import root.
        "command": ["python", "-P", "-m", f"atoll_stages.{stage}"],
        "env": _environment(work, attempt, number),
        "resources": _resources(work, stage, on_gpu=on_gpu),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": DEFAULT_TERMINATION_LOG,
        # Where a stage ends without a message, the end of its log is shown.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _only_target(work: Work) -> str | None:
    """The compile target of a run that has one at most."""
    return work.spec.compile[0].target if work.spec.compile else None


def _environment(work: Work, attempt: StageAttempt, number: AttemptNumber) -> list[Manifest]:
    earlier = attempt.stages[: attempt.stages.index(number)]
    own = replace(attempt, stage=number.stage, attempt=number.attempt, adopt_from=number.adopt_from, following=())
    given = stage_input(work, own, handed_over=tuple(item.stage for item in earlier))
    if _has_workers(work, own.stage):
        given = replace(given, worker_addresses=worker_addresses(work, _name(work, own)))
    allowed = {item.name: item.value for item in work.profile.env if not item.name.startswith(_RESERVED)}
    return [
        {"name": ENV_INPUT, "value": escaped(given.to_env()[ENV_INPUT])},
        {"name": ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        *([{"name": ENV_HANDOVER_DIR, "value": HANDOVER_DIR}] if attempt.following else []),
        *({"name": name, "value": value} for name, value in sorted(allowed.items())),
    ]


def escaped(value: str) -> str:
    """`value` as an environment literal: Kubernetes expands `$(NAME)` and reads `$$` as `$`."""
    return value.replace("$", "$$")


def unescaped(value: str) -> str:
    """The inverse of `escaped`: what the process reads."""
    return value.replace("$$", "$")


def _resources(work: Work, stage: Stage, *, on_gpu: bool) -> Manifest:
    resources = work.profile.resources.get(stage)
    requests = {name: str(amount) for name, amount in resources.requests.items()} if resources else {}
    limits = {name: str(amount) for name, amount in resources.limits.items()} if resources else {}
    if on_gpu:
        gpu = work.profile.gpu.resource_name
        requests[gpu] = limits[gpu] = str(work.spec.training.gpus)
    return {name: part for name, part in (("requests", requests), ("limits", limits)) if part}
