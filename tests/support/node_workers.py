"""Trainings with several workers on a team's namespace of the node cluster: their pods, and what these write."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from atoll_contract.stage_result import Progress, parse_line
from cluster.binaries import ensure
from cluster.node_containerd import kill_container
from cluster.node_host import inside
from support.node_cluster import NodeCluster
from support.node_team import Team
from support.polling import wait_until

STAGE = "train"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "3Gi"}}
# A busy machine starts two TensorFlows within minutes.
DEADLINE_SECONDS = 600.0


def add_profile(team: Team, name: str, **spec: Any) -> None:
    """A profile that allows two workers, and lets pods of all stages share a small node; `spec` replaces parts."""
    small = dict.fromkeys(("convert", "train", "export", "publish"), _SMALL)
    team.profile(name, **({"limits": {"maxWorkers": 2}, "resources": small} | spec))


class FollowedLog:
    """What a container writes, from its beginning; it stays when its pod is gone."""

    def __init__(self, cluster: NodeCluster, namespace: str, pod: str) -> None:
        kubectl = [str(ensure("kubectl")), f"--kubeconfig={cluster.keeper.kubeconfig}", f"--namespace={namespace}"]
        command = inside([*kubectl, "logs", "--follow", pod, f"--container={STAGE}"])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def progress(self) -> list[Progress]:
        return [progress for progress in map(parse_line, list(self._lines)) if progress is not None]

    def text(self) -> str:
        return "".join(self._lines)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None
        with output:
            self._lines.extend(output)


@dataclass(frozen=True)
class WorkerPod:
    index: int
    address: str
    container: str
    log: FollowedLog

    def kill(self) -> None:
        """As a power cut of its node does."""
        kill_container(self.container)


@contextmanager
def attempt(team: Team, run: str, number: int) -> Iterator[list[WorkerPod]]:
    """The two workers of an attempt as soon as both run, with their logs from the beginning."""
    uid = team.runs()[run]["metadata"]["uid"]
    selector = f"atoll.dev/run-uid={uid},atoll.dev/stage={STAGE},atoll.dev/attempt={number}"
    pods = wait_until(
        lambda: _running(team.items("pods", "-l", selector)),
        what=f"both workers of attempt {number} of {run}",
        timeout_seconds=DEADLINE_SECONDS,
        interval_seconds=0.1,
    )
    with ExitStack() as stack:
        workers = [_worker(team, pod) for pod in sorted(pods, key=_index)]
        for worker in workers:
            stack.callback(worker.log.close)
        yield workers


def state_of(log: FollowedLog) -> str:
    """The digest of the state that a worker has ended with; empty before."""
    found = re.search(r"ends with state ([0-9a-f]{64})", log.text())
    return found[1] if found else ""


def weights_of(stage: dict[str, Any]) -> str:
    """The sha256 of the weights that the stage of a run's status has stored."""
    return next(str(item["sha256"]) for item in stage["outputs"] if item["name"] == "weights")


def wait_for(probe: Callable[[], object], what: str) -> Any:
    return wait_until(probe, what=what, timeout_seconds=DEADLINE_SECONDS, interval_seconds=0.1)


def _running(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    states = [status["state"] for pod in pods for status in pod["status"].get("containerStatuses", ())]
    return pods if sum("running" in state for state in states) == 2 else []


def _index(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["labels"][INDEX_LABEL])


def _worker(team: Team, pod: dict[str, Any]) -> WorkerPod:
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    log = FollowedLog(team.cluster, team.namespace, pod["metadata"]["name"])
    return WorkerPod(_index(pod), pod["status"]["podIP"], container, log)
