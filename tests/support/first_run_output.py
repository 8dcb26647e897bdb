"""The commands that docs/first-run.md shows after a first run, and their output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from support.node_cluster import NodeCluster

OPERATOR = "app.kubernetes.io/component=operator"


@dataclass(frozen=True)
class CommandOutput:
    """A command as the user types it, and what it printed."""

    command: str
    output: str


def first_run_commands(cluster: NodeCluster, namespace: str, run: str = "field") -> Iterator[CommandOutput]:
    """Runs the commands in the order of the page."""
    for line in (
        "get trun,mrel -o wide",
        f"describe trun {run}",
        "get events --sort-by=.metadata.creationTimestamp",
        f"get jobs,pods -l atoll.dev/run={run}",
        f"logs -l atoll.dev/run={run},atoll.dev/stage=convert --tail=-1",
        f"logs -l atoll.dev/run={run},atoll.dev/stage=train -c train --tail=40",
        f"logs -l atoll.dev/run={run},atoll.dev/stage=train -c export --tail=-1",
        f"logs -l atoll.dev/run={run},atoll.dev/stage=publish --tail=-1",
        f"logs -l {OPERATOR} --tail=40",
    ):
        yield CommandOutput(f"kubectl {line} -n {namespace}", cluster.kubectl(*line.split(), "-n", namespace))
    path = f"/api/v1/namespaces/{namespace}/services/atoll-metrics:8081/proxy/metrics"
    yield CommandOutput(f"kubectl get --raw {path}", cluster.kubectl("get", "--raw", path))
