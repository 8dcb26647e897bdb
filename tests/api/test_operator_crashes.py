"""The operator dies, is replaced, loses its API server, meets another operator: no Job twice, no run lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import kubernetes.client
import pytest

from atoll_contract.stage import Stage
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, run_on
from cluster.objects import Objects, run_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("kubelet")]


def start_run(team: Objects, name: str) -> None:
    team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}))


def wait_for_job(team: Objects, run: str, stage: Stage) -> str:
    """Name of the Job that begins with this stage, as soon as there is one."""

    def found() -> str | None:
        return next((name for name in team.jobs() if name.startswith(f"{run}-{stage}-")), None)

    return wait_until(found, what=f"the {stage} Job of {run}", timeout_seconds=60)


@pytest.fixture(autouse=True)
def alive(operator: OperatorProcess) -> Iterator[None]:
    """The operator runs at the end of each test, whatever the test did to it."""
    yield
    operator.start()


class JobWatcher:
    """Notes every Job of the namespace that ever exists: name → UIDs."""

    def __init__(self, team: Objects) -> None:
        self._team = team
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="job watcher")
        self.seen: dict[str, set[str]] = {}

    def _watch(self) -> None:
        # The list is only a snapshot; the watch's own history from it on misses nothing.
        batch = kubernetes.client.BatchV1Api(self._team.api)
        version = batch.list_namespaced_job(self._team.namespace, _request_timeout=10).metadata.resource_version
        while not self._stop.is_set():
            stream = kubernetes.watch.Watch().stream(
                batch.list_namespaced_job,
                self._team.namespace,
                resource_version=version,
                timeout_seconds=1,
                _request_timeout=10,
            )
            for event in stream:
                metadata = event["object"].metadata
                version = metadata.resource_version
                if event["type"] == "ADDED":
                    self.seen.setdefault(metadata.name, set()).add(metadata.uid)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)


def test_O3_an_operator_killed_after_each_jobs_creation_creates_none_twice(
    team: Objects, operator: OperatorProcess
) -> None:
    watcher = JobWatcher(team)
    with watcher.watching():
        start_run(team, "hunted")
        for first in (Stage.CONVERT, Stage.TRAIN, Stage.COMPILE):
            wait_for_job(team, "hunted", first)
            operator.kill()
            operator.start()
        status = team.wait_for_phase("hunted", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded"
    assert [stage["attempts"] for stage in status["stages"]] == [1] * 5
    created = {name: uids for name, uids in watcher.seen.items() if name.startswith("hunted-")}
    assert sorted(len(uids) for uids in created.values()) == [1] * 3
    assert [release["metadata"]["name"] for release in team.list_all("modelreleases")] == ["hunted-v1"]


def test_O10_a_stage_that_ends_while_the_operator_is_dead_is_not_run_again(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    kubelet.scripts["orphan", Stage.TRAIN] = run_on
    start_run(team, "orphan")
    team.wait_for_phase("orphan", "Training")
    job = wait_for_job(team, "orphan", Stage.TRAIN)
    operator.kill()
    del kubelet.scripts["orphan", Stage.TRAIN]
    wait_until(lambda: (team.jobs()[job].get("status") or {}).get("succeeded"), what="the Job to end")
    operator.start()
    status = team.wait_for_phase("orphan", "Exporting", "Succeeded", "Failed")
    train = next(stage for stage in status["stages"] if stage["name"] == "train")
    assert (train["phase"], train["attempts"]) == ("Succeeded", 1)


def test_C4_a_run_is_deleted_with_all_it_owns_while_the_operator_is_dead(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet
) -> None:
    kubelet.scripts["unguarded", Stage.CONVERT] = run_on
    start_run(team, "unguarded")
    wait_until(lambda: [name for name in team.pods() if name.startswith("unguarded-")], what="its pod")
    operator.kill()
    team.delete("trainingruns", "unguarded")
    wait_until(lambda: not [name for name in team.pods() if name.startswith("unguarded-")], what="its pods to go")
    assert not [name for name in team.jobs() if name.startswith("unguarded-")]


def test_O4_O5_a_second_operator_stands_by_and_takes_over_when_the_first_dies(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet, control_plane: ControlPlane
) -> None:
    second = OperatorProcess(
        control_plane, team.api, team.namespace, prepare=False, settings={"ATOLL_IDENTITY": "laptop"}
    )
    with second:
        wait_until(
            lambda: any("not leader: held by operator-0" in entry["message"] for entry in second.log()),
            what="the second operator to say who leads",
        )
        kubelet.scripts["inherited", Stage.CONVERT] = run_on
        start_run(team, "inherited")
        wait_for_job(team, "inherited", Stage.CONVERT)
        assert not any("created Job" in entry["message"] for entry in second.log())
        operator.kill()
        del kubelet.scripts["inherited", Stage.CONVERT]
        team.wait_for_phase("inherited", "Succeeded", "Failed")
        created = [entry["message"] for entry in second.log() if "created Job inherited-" in entry["message"]]
        assert len(created) == 2
        second.stop()
        assert second.problems() == []


def test_O6_an_api_server_that_was_away_finds_the_operator_at_work_again(
    team: Objects, operator: OperatorProcess, kubelet: Kubelet, control_plane: ControlPlane
) -> None:
    kubelet.scripts["patient", Stage.CONVERT] = run_on
    start_run(team, "patient")
    team.wait_for_phase("patient", "Converting")
    with kubelet.paused():
        control_plane.stop_api_server()
        wait_until(
            lambda: any("no answer from the API server" in entry["message"] for entry in operator.log()),
            what="the operator to miss the API server",
        )
        control_plane.start_api_server()
    operator.check()
    del kubelet.scripts["patient", Stage.CONVERT]
    assert team.wait_for_phase("patient", "Training", "Failed")["phase"] == "Training"


def test_O2_an_operator_told_to_stop_gives_its_lease_up(team: Objects, operator: OperatorProcess) -> None:
    wait_until(lambda: team.lease_holder() == "operator-0", what="the Lease")
    operator.stop()
    assert team.lease_holder() == ""
