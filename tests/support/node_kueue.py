"""The real Kueue on the node cluster, with a queue for a team's namespace, and somebody else's Job in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.binaries import ensure
from cluster.crds import wait_gone
from cluster.kueue import GROUP, NAMESPACE, VERSION, module_folder
from cluster.node_host import inside
from support.kueue_queue import NAME, QUEUE_LABEL
from support.node_cluster import CommandError, NodeCluster
from support.node_team import Team

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "scale.md"
CHART_LABEL = "app.kubernetes.io/name=kueue"
WEBHOOKS = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
DEADLINE_SECONDS = 180


@contextmanager
def kueue_on(cluster: NodeCluster) -> Iterator[None]:
    """Kueue is at work, as a process in the cluster's network; afterwards nothing of it is left in the cluster."""
    # In the cluster's network nothing can be fetched.
    ensure("kueue")
    module_folder()
    remove(cluster)
    command = inside([sys.executable, "-P", "-m", "cluster.kueue", cluster.keeper.kubeconfig])
    environ = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told == "ready\n", f"Kueue does not start: {told}{process.stdout.read()}"
            yield
        finally:
            process.terminate()
            remove(cluster)


def remove(cluster: NodeCluster) -> None:
    """Everything of Kueue's. Its webhooks go first: without it they would refuse every Job."""
    cluster.kubectl("delete", WEBHOOKS, "-l", CHART_LABEL)
    names = cluster.kubectl("get", "crd", "-l", CHART_LABEL, "-o", "name").split()
    kinds = [name.partition("/")[2] for name in names]
    if kinds:
        objects = [
            (kind, item["metadata"])
            for kind in kinds
            for item in json.loads(cluster.kubectl("get", kind, "-A", "-o", "json"))["items"]
        ]
        cluster.kubectl("delete", *names, "--wait=false", timeout=DEADLINE_SECONDS)
        for kind, metadata in objects:
            where = ["-n", metadata["namespace"]] if "namespace" in metadata else []
            patch = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}']
            with suppress(CommandError):  # gone by then
                cluster.kubectl("patch", kind, metadata["name"], *where, *patch)
        wait_gone(cluster.kubectl, kinds, timeout_seconds=DEADLINE_SECONDS)
    cluster.kubectl("delete", "clusterroles,clusterrolebindings", "-l", CHART_LABEL)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=DEADLINE_SECONDS)


@dataclass(frozen=True)
class NodeQueue:
    """The queue of the team's namespace that docs/scale.md shows, with `cpu` to share out."""

    team: Team
    cpu: str

    def make(self) -> None:
        (text,) = re.findall(r"```yaml\n(.*?kind: ClusterQueue.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        for item in yaml.safe_load_all(text):
            if item["kind"] == "LocalQueue":
                item["metadata"]["namespace"] = self.team.namespace
            if item["kind"] == "ClusterQueue":
                flavor = item["spec"]["resourceGroups"][0]["flavors"][0]
                (cpu,) = (resource for resource in flavor["resources"] if resource["name"] == "cpu")
                cpu["nominalQuota"] = self.cpu
            self._apply(item)

    def add_priority(self, name: str, value: int) -> None:
        head = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "WorkloadPriorityClass"}
        self._apply(head | {"metadata": {"name": name}, "value": value})

    def hold(self, name: str, *, cpu: str) -> None:
        """A Job of somebody else's, which has so much of the queue once Kueue lets it start, and never ends."""
        container = {"name": "other", "image": "registry.invalid/other", "resources": {"requests": {"cpu": cpu}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"name": name, "namespace": self.team.namespace, "labels": {QUEUE_LABEL: NAME}}
        self._apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": metadata,
                "spec": {"template": template, "suspend": True},
            }
        )

    def leave(self, name: str) -> None:
        self.team.cluster.kubectl("delete", "job", name, "-n", self.team.namespace)

    def _apply(self, document: dict[str, object]) -> None:
        self.team.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))
