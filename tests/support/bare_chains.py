"""Chains of Jobs by the simplest loop there is: watch, and where a Job is complete, create the next.

    KUBECONFIG=… python -m support.bare_chains NAMESPACE

No status, no retries, no deadline, no re-sync: what any controller has to do at least.
"""

from __future__ import annotations

import sys
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.watch

LENGTH = 5
CHAIN_LABEL, STEP_LABEL = "chain", "step"


def job_manifest(chain: str, step: int) -> dict[str, Any]:
    """Job number `step` (from 1) of a chain."""
    container = {"name": "step", "image": "registry.invalid/step"}
    return {
        "metadata": {"name": f"{chain}-{step}", "labels": {CHAIN_LABEL: chain, STEP_LABEL: str(step)}},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def main(namespace: str) -> None:
    kubernetes.config.load_kube_config()
    batch = kubernetes.client.BatchV1Api()
    created: set[str] = set()
    watch = kubernetes.watch.Watch()
    for event in watch.stream(batch.list_namespaced_job, namespace, label_selector=CHAIN_LABEL):
        job = event["raw_object"]
        chain, step = job["metadata"]["labels"][CHAIN_LABEL], int(job["metadata"]["labels"][STEP_LABEL])
        following = job_manifest(chain, step + 1)
        name = following["metadata"]["name"]
        if step < LENGTH and name not in created and _complete(job):
            batch.create_namespaced_job(namespace, following, _request_timeout=30)
            created.add(name)


def _complete(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(item["type"] == "Complete" and item["status"] == "True" for item in conditions)


if __name__ == "__main__":
    main(sys.argv[1])
