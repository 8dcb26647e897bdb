"""A team's Kueue queue as tests use it: Jobs that occupy it, and what Kueue says of the Jobs in it."""

from __future__ import annotations

from typing import Any

import kubernetes.client

from cluster.kueue import GROUP, VERSION
from cluster.objects import TIMEOUT, Objects
from support.polling import wait_until

Body = dict[str, Any]
NAME = "gpu"
QUEUE_LABEL, PRIORITY_LABEL = f"{GROUP}/queue-name", f"{GROUP}/priority-class"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


class TeamQueue:
    """The LocalQueue of the team's namespace."""

    def __init__(self, team: Objects) -> None:
        self._team = team
        self._batch = kubernetes.client.BatchV1Api(team.api)
        self._custom = kubernetes.client.CustomObjectsApi(team.api)

    def add_priority(self, name: str, value: int) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "WorkloadPriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        self._custom.create_cluster_custom_object(
            GROUP, VERSION, "workloadpriorityclasses", body, _request_timeout=TIMEOUT
        )

    def occupy(self, name: str, *, cpus: int, priority: str = "") -> None:
        """A Job of somebody else, which has so many of the queue's CPUs when this returns, and never ends."""
        container = {"name": "other", "image": "registry.invalid/other", "resources": {"requests": {"cpu": str(cpus)}}}
        labels = {QUEUE_LABEL: NAME} | ({PRIORITY_LABEL: priority} if priority else {})
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        self._batch.create_namespaced_job(
            self._team.namespace,
            {"metadata": {"name": name, "labels": labels}, "spec": {"template": template, "suspend": True}},
            _request_timeout=TIMEOUT,
        )
        wait_until(lambda: not self._team.jobs()[name]["spec"]["suspend"], what=f"{name}'s place", timeout_seconds=180)

    def leave(self, name: str) -> None:
        """The other Job is deleted."""
        self._batch.delete_namespaced_job(
            name, self._team.namespace, propagation_policy="Background", _request_timeout=TIMEOUT
        )

    def admitted_pods(self, job: Body) -> int:
        """How many pods of the Job Kueue has admitted; 0 where it holds the Job."""
        found = self._custom.list_namespaced_custom_object(
            GROUP,
            VERSION,
            self._team.namespace,
            "workloads",
            label_selector=f"{GROUP}/job-uid={job['metadata']['uid']}",
            _request_timeout=TIMEOUT,
        )
        admissions = [item.get("status", {}).get("admission") or {} for item in found["items"]]
        return sum(pods["count"] for admission in admissions for pods in admission.get("podSetAssignments", []))


def job_of(team: Objects, run: str, stage: str) -> Body | None:
    """The run's newest Job of the stage."""
    labels = {"atoll.dev/run": run, "atoll.dev/stage": stage}
    found = [job for job in team.jobs().values() if labels.items() <= job["metadata"]["labels"].items()]
    return max(found, key=lambda job: int(job["metadata"]["labels"]["atoll.dev/attempt"]), default=None)


def pods_of(team: Objects, run: str, stage: str) -> dict[int, str]:
    """The phase of each pod of an Indexed Job, by index, without those that are being deleted."""
    return {
        int(pod["metadata"]["labels"][INDEX_LABEL]): pod["status"]["phase"]
        for name, pod in team.pods().items()
        if name.startswith(f"{run}-{stage}-") and "deletionTimestamp" not in pod["metadata"]
    }


def stage_of(team: Objects, run: str, stage: str) -> Body:
    """What the run's status says of the stage."""
    return next((dict(item) for item in team.status(run).get("stages", []) if item["name"] == stage), {})
