"""The operator is killed before and after each of its writes on the way of a run; the end is the same every time.

A proxy in front of the API server sees the writes. The first time that one comes, its request is lost and the
operator killed; when the restarted operator sends it again, it is carried out and the operator killed before it
hears of it. Events and the Lease are left out: they tell and guard, and decide nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import pytest

from cluster.api_proxy import ApiProxy, Fate, Write
from cluster.controlplane import ControlPlane
from cluster.objects import Objects, run_manifest
from cluster.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.usefixtures("kubelet")]

# A run has about 20 writes; many more losses would mean that it does not come forward.
MAX_LOSSES = 120


class Executioner:
    """Loses each write twice, its request first and then its answer, and kills the operator each time."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.losses: list[tuple[str, Fate]] = []
        self.resting = False
        # A loss waits here until the test has killed the operator.
        self.due = threading.Event()
        self.done = threading.Event()

    def judge(self, write: Write) -> Fate:
        if self.resting or "/leases" in write.path or "/events" in write.path:
            return Fate.PASS
        mark = signature(write)
        self.seen[mark] += 1
        if self.seen[mark] > 2 or len(self.losses) >= MAX_LOSSES:
            return Fate.PASS
        fate = Fate.LOSE_REQUEST if self.seen[mark] == 1 else Fate.LOSE_ANSWER
        self.losses.append((mark, fate))
        return fate

    def kill(self) -> None:
        """Has the test kill the operator; called from the proxy's thread."""
        self.done.clear()
        self.due.set()
        assert self.done.wait(60)


def signature(write: Write) -> str:
    """What a write is about, the same when it is sent again: times, versions and counts are taken out."""
    document = json.loads(write.body or b"{}")
    about = document.get("status") if write.path.endswith("/status") else document.get("metadata", {}).get("name")
    told = re.sub(r"\d+", "0", json.dumps(about, sort_keys=True))
    return f"{write.method} {write.path.rpartition('/namespaces/')[2].partition('/')[2]} {told}".strip()


@pytest.fixture
def executioner() -> Executioner:
    return Executioner()


@pytest.fixture
def hunted(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, executioner: Executioner
) -> Iterator[OperatorProcess]:
    """An operator whose calls go through the proxy."""
    ca_file = str(control_plane.ca_file)
    with (
        ApiProxy(control_plane.server, ca_file, judge=executioner.judge, on_loss=executioner.kill) as proxy,
        OperatorProcess(control_plane, api, team.namespace, server=proxy.url) as process,
    ):
        yield process


def test_O1_the_end_is_the_same_wherever_the_operator_is_killed(
    team: Objects, hunted: OperatorProcess, executioner: Executioner
) -> None:
    start_run(team, "hunted")
    jobs = _follow(team, "hunted", hunted, executioner)
    executioner.resting = True
    start_run(team, "reference")
    # The answer to the very last write may be lost after its effect was seen: that kill comes here.
    _follow(team, "reference", hunted, executioner)
    _print_table(executioner)
    assert _end(team.status("hunted")) == _end(team.status("reference"))
    # Two losses for each of the writes that a run cannot do without: snapshot, 3 Jobs, version, release.
    assert len(executioner.losses) >= 2 * 6
    assert sorted(len(uids) for uids in jobs.values()) == [1] * 3
    assert {item["metadata"]["name"] for item in team.list_all("modelreleases")} == {"note-v1", "note-v2"}
    assert team.status("hunted")["summary"]["release"] == "note-v1"


def _follow(team: Objects, run: str, operator: OperatorProcess, executioner: Executioner) -> dict[str, set[str]]:
    """Kills and restarts the operator when it is due, until the run is over. The UIDs that each of its Jobs had."""
    jobs: dict[str, set[str]] = {}
    while team.status(run).get("phase") not in ("Succeeded", "Failed", "Cancelled"):
        for name, job in team.jobs().items():
            if name.startswith(f"{run}-"):
                jobs.setdefault(name, set()).add(job["metadata"]["uid"])
        if executioner.due.wait(0.2):
            executioner.due.clear()
            operator.kill()
            executioner.done.set()
            operator.start()
        operator.check()
    return jobs


def start_run(team: Objects, name: str) -> None:
    team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}))


def _end(status: dict[str, Any]) -> dict[str, Any]:
    """The status without times, UIDs and the version."""
    stages = [(stage["name"], stage["phase"], stage["attempts"], stage["reason"]) for stage in status["stages"]]
    conditions = {(item["type"], item["status"], item["reason"]) for item in status["conditions"]}
    kept = {name: status[name] for name in ("phase", "reason", "metrics", "perClass", "compile", "dataset")}
    return kept | {"stages": stages, "conditions": conditions}


def _print_table(executioner: Executioner) -> None:
    print(f"\n{'lost':<17} write")
    for mark, fate in executioner.losses:
        print(f"{fate.value:<17} {mark[:120]}")
