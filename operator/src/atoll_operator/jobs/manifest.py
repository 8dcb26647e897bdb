"""The Job of an attempt as a manifest. Pure: both engines build it, one creates it, the other starts its command."""

import hashlib
from typing import Any

from atoll_contract import API_VERSION
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.jobs.inputs import Work
from atoll_operator.jobs.pod import pod_spec
from atoll_operator.plan import StageAttempt

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
