"""The simplest loop that runs chains of Jobs: it watches, and where a Job is complete, creates the next.

    KUBECONFIG=… python -m support.bare_chains NAMESPACE JOBS

JOBS is a file with the Jobs of each chain, as a JSON list of their manifests.
No status, no retries, no deadline, no re-sync: what any controller has to do at least.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.watch

LENGTH = 5
CHAIN_LABEL, STEP_LABEL = "chain", "step"

# The smallest Job that there is.
SMALLEST: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "step", "image": "registry.invalid/step"}]}
        },
    },
}


def job_manifest(chain: str, step: int, jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Job number `step` (from 1) of a chain of these Jobs."""
    job = jobs[step - 1]
    labels = job["metadata"].get("labels", {}) | {CHAIN_LABEL: chain, STEP_LABEL: str(step)}
    return job | {"metadata": {"name": f"{chain}-{step}", "labels": labels}}


def main(namespace: str, jobs: Sequence[dict[str, Any]]) -> None:
    kubernetes.config.load_kube_config()
    batch = kubernetes.client.BatchV1Api()
    created: set[str] = set()
    watch = kubernetes.watch.Watch()
    for event in watch.stream(batch.list_namespaced_job, namespace, label_selector=CHAIN_LABEL):
        job = event["raw_object"]
        chain, step = job["metadata"]["labels"][CHAIN_LABEL], int(job["metadata"]["labels"][STEP_LABEL])
        if step == len(jobs) or not _complete(job):
            continue
        following = job_manifest(chain, step + 1, jobs)
        name = following["metadata"]["name"]
        if name not in created:
            batch.create_namespaced_job(namespace, following, _request_timeout=30)
            created.add(name)


def _complete(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(item["type"] == "Complete" and item["status"] == "True" for item in conditions)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
