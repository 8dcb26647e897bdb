"""Logs of the pods of a run, line by line as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from atoll_contract.stage import Stage
from atoll_operator.cli.cluster_access import Access
from atoll_operator.cli.log_lines import readable
from atoll_operator.jobs.manifest import ATTEMPT_LABEL, RUN_UID_LABEL, STAGE_LABEL

Body = dict[str, Any]


@dataclass
class Tail:
    """How far a pod's log has been printed: the time of the last line, and how many lines bear it."""

    time: str = ""
    lines_then: int = 0
    is_read: bool = False

    def new(self, log: str) -> list[str]:
        """The lines of `log`, which begins at `time` or up to a second before, that are not printed yet."""
        fresh = []
        same = 0
        for line in log.splitlines():
            time, _, text = line.partition(" ")
            if time == self.time:
                same += 1
                if same <= self.lines_then:
                    continue
            elif time < self.time:
                continue
            else:
                self.time, self.lines_then, same = time, 0, 1
            self.lines_then += 1
            fresh.append(text)
        return fresh


class PodLogs:
    """Prints what the pods of the run with this UID write: of stage `first` and, unless `only`, of later ones."""

    def __init__(self, access: Access, uid: str, *, first: Stage | None, only: bool) -> None:
        self._access = access
        self._labels = f"{RUN_UID_LABEL}={uid}"
        order = list(Stage)
        self._stages = order[order.index(first) :] if first else order
        if only:
            self._stages = self._stages[:1]
        self._tails: dict[str, Tail] = {}

    def print_new(self) -> bool:
        """Print what has come since the last call; whether any pod had a log to read."""
        from atoll_operator.kube.resources import PODS

        pods = self._access.cluster.list_all(PODS, self._access.namespace, labels=self._labels)
        pods = [pod for pod in pods if _label(pod, STAGE_LABEL) in self._stages]
        pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        # Earlier attempts have their logs in the bucket; at the first look only the newest pod counts.
        for pod in pods if self._tails else pods[-1:]:
            self._print(pod)
        for pod in pods:
            self._tails.setdefault(pod["metadata"]["uid"], Tail(is_read=True))
        return any(tail.time for tail in self._tails.values())

    def _print(self, pod: Body) -> None:
        metadata = pod["metadata"]
        tail = self._tails.setdefault(metadata["uid"], Tail())
        if tail.is_read:
            return
        over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        container = pod["spec"]["containers"][0]["name"]
        log = self._access.cluster.read_log(
            self._access.namespace, metadata["name"], container=container, since=tail.time
        )
        if log and not tail.time:
            stage, attempt = _label(pod, STAGE_LABEL), _label(pod, ATTEMPT_LABEL)
            click.echo(f"== {stage}, attempt {attempt}, pod {metadata['name']}", err=True)
        for line in tail.new(log or ""):
            click.echo(readable(line))
        tail.is_read = over


def _label(pod: Body, name: str) -> str:
    return str((pod["metadata"].get("labels") or {}).get(name, ""))
