"""Stages of the played kubelet as processes that end with their pods, also those of several workers."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from atoll_contract.stage import ENV_WORKER_INDEX, Stage
from atoll_contract.stage_result import parse_line
from cluster.objects import Objects
from cluster.stage_processes import StageProcesses
from support.worker_pods import INDEX_LABEL


@dataclass
class WorkerProcesses(StageProcesses):
    """Each process knows the index of its pod, as the Job controller has the kubelet say."""

    team: Objects = field(kw_only=True)
    # Processes that were asked to end.
    stopping: set[int] = field(default_factory=set)

    def environment(self, pod_uid: str) -> dict[str, str]:
        for pod in self.team.pods().values():
            if pod["metadata"]["uid"] == pod_uid and INDEX_LABEL in pod["metadata"]["labels"]:
                return {ENV_WORKER_INDEX: pod["metadata"]["labels"][INDEX_LABEL]}
        return {}

    def removed_have_ended(self) -> bool:
        """Ends the processes of pods that are gone as the kubelet does, and returns whether all of them have ended."""
        there = {pod["metadata"]["uid"] for pod in self.team.pods().values()}
        left = [process for (uid, _), process in self.processes.items() if uid not in there and process.poll() is None]
        for process in left:
            if process.pid not in self.stopping:
                self.stopping.add(process.pid)
                process.send_signal(signal.SIGTERM)
        return not left

    def steps(self, stage: Stage) -> list[list[int]]:
        """The steps that each process of the stage has reported, in the order of their starts; those that reported none
        are left out."""
        paths = [self.folder / f"{uid}-{name}" / "output.log" for uid, name in self.processes if name is stage]
        lines = [path.read_text(encoding="utf-8", errors="replace").splitlines() for path in paths if path.exists()]
        told = [[progress for line in log if (progress := parse_line(line)) is not None] for log in lines]
        return [steps for log in told if (steps := [progress.step for progress in log if progress.step])]
