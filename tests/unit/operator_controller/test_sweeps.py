"""The operator's part of a sweep on an API server in memory: killed before any write it comes to the same runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_operator.api.sweep import SweepPhase, SweepStatus, read_sweep_status
from atoll_operator.config import Settings
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.sweeps import REQUEUE_SECONDS, SweepReconciler
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.objects import EVENTS, RUNS, SWEEPS
from atoll_operator.kube.transport import Request
from support.fake_cluster import FakeCluster, FakeServer
from support.sweep_simulation import Killed, SweepSimulation, killer, sweep_document

KEY = ("team", "ball")


class SweepOperator:
    """One sweep on a server; `kill` is called before each write, and ends the operator's process."""

    def __init__(self, kill: Callable[[], None] = lambda: None, **spec: Any) -> None:
        self.server = FakeServer()
        self.server.add(SWEEPS, sweep_document(**spec), "team")
        self.simulation = SweepSimulation()
        self.kill = kill
        self.reconcile = self._started()

    def _started(self) -> SweepReconciler:
        self.metrics = OperatorMetrics()
        cluster = FakeCluster(self.server, fence=self.kill)
        return SweepReconciler(cluster, Settings(), metrics=self.metrics, now=self.server.clock.now)

    def events(self) -> list[str]:
        """Type, reason and message of each Event of the sweep."""
        found = [item for item in self.server.all(EVENTS) if item["involvedObject"]["kind"] == "TrainingSweep"]
        return [f"{item['type']} {item['reason']}: {item['message']}" for item in found]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["metadata"]["name"]: run for run in self.server.all(RUNS)}

    def settings(self) -> dict[str, Any]:
        return {
            name: json.loads(run["metadata"]["annotations"]["atoll.dev/parameters"])
            for name, run in self.runs().items()
        }

    @property
    def status(self) -> SweepStatus:
        sweep = self.server.get(SWEEPS, *KEY)
        assert sweep is not None
        found = read_sweep_status(sweep.get("status"))
        assert found is not None
        return found

    def step(self) -> float | None:
        """One look of the operator; a killed one is started again."""
        try:
            return self.reconcile(KEY)
        except Killed:
            self.reconcile = self._started()
            return 0.0

    def tick(self) -> None:
        for name, run in self.runs().items():
            self.server.edit(RUNS, "team", name, {"status": self.simulation.next_status(run)})

    def finish(self, limit: int = 2000) -> SweepStatus:
        for _ in range(limit):
            again = self.step()
            if again is None:
                return self.status
            if again:
                self.tick()
        raise AssertionError(self.status)


def test_a_sweep_of_the_cluster_publishes_one_run() -> None:
    operator = SweepOperator(trials=6, parallelism=2)
    status = operator.finish()
    assert (status.phase, status.reason) == (SweepPhase.SUCCEEDED, Reason.COMPLETED)
    assert status.best is not None
    assert operator.simulation.releases == [status.best.run]
    runs = operator.runs()
    assert len(runs) == 6
    sweep = operator.server.get(SWEEPS, *KEY)
    assert sweep is not None
    owners = [run["metadata"]["ownerReferences"][0]["uid"] for run in runs.values()]
    assert set(owners) == {sweep["metadata"]["uid"]}


def test_events_tell_of_each_trial_the_best_and_the_end() -> None:
    operator = SweepOperator(trials=6)
    status = operator.finish()
    assert status.trials is not None
    events = operator.events()
    started = [text for text in events if text.startswith("Normal TrialStarted: ")]
    assert [text.split(": ")[1] for text in started] == sorted(operator.runs())
    assert all("learningRate " in text and "width " in text for text in started)
    pruned = [text for text in events if text.startswith("Normal TrialPruned: ")]
    assert (len(pruned), status.trials.pruned > 0) == (status.trials.pruned, True)
    best = [text for text in events if text.startswith("Normal NewBestTrial: ")]
    assert status.best is not None
    assert best[-1] == (f"Normal NewBestTrial: {status.best.run} has the best AP50 so far, {status.best.ap50}")
    assert events[-1] == f"Normal Completed: {status.message}"


def test_events_tell_which_trial_waits_and_goes_on() -> None:
    operator = SweepOperator(trials=6)
    status = operator.finish()
    assert status.trials is not None
    suspended = [text for text in operator.events() if text.startswith("Normal TrialSuspended: ")]
    resumed = [text for text in operator.events() if text.startswith("Normal TrialResumed: ")]
    why = "waits at step 300 of 900: the sweep compares its trials there, and then resumes or ends it"
    assert f"Normal TrialSuspended: ball-t00 {why}" in suspended
    # The last one is compared as it comes; of the five that wait, the sweep resumes those that go on.
    assert len([text for text in suspended if text.endswith(why)]) == 5
    assert 1 <= len(resumed) <= status.trials.completed
    assert all(text.endswith(" goes on from its last checkpoint") for text in resumed)


def test_a_sweep_that_fails_warns() -> None:
    operator = SweepOperator()
    operator.server.fail("create trainingruns", 422, message="spec.training.steps: Invalid value", times=5)
    status = operator.finish()
    assert operator.events() == [f"Warning Failed: InvalidSpec: {status.message}"]


def test_events_that_may_not_be_written_hold_up_nothing() -> None:
    operator = SweepOperator(trials=1)
    operator.server.fail("create events", 403, times=50)
    assert operator.finish().phase is SweepPhase.SUCCEEDED


def test_a_pause_and_its_end_are_events() -> None:
    operator = SweepOperator(trials=2)
    operator.step()
    for suspend in (True, False):
        operator.server.edit(SWEEPS, *KEY, {"spec": {"suspend": suspend}})
        operator.step()
        operator.tick()
    reasons = [text.split(":")[0] for text in operator.events()]
    assert reasons[-4:] == ["Normal TrialSuspended", "Normal Suspended", "Normal TrialResumed", "Normal Resumed"]


def test_metrics_count_sweeps_and_their_trials() -> None:
    operator = SweepOperator(trials=6)
    operator.step()
    assert operator.metric("atoll_sweeps", phase="Running") == 1
    assert operator.metric("atoll_sweep_trials_started_total") == 1
    status = operator.finish()
    assert status.trials is not None
    assert operator.metric("atoll_sweep_trials_started_total") == 6
    assert operator.metric("atoll_sweep_trials_pruned_total") == status.trials.pruned
    assert operator.metric("atoll_sweeps_ended_total", phase="Succeeded", reason="Completed") == 1
    assert (operator.metric("atoll_sweeps", phase="Running"), operator.metric("atoll_sweeps", phase="Succeeded")) == (
        0,
        1,
    )
    operator.server.remove(SWEEPS, *KEY)
    operator.reconcile(KEY)
    assert operator.metric("atoll_sweeps", phase="Succeeded") == 0


@pytest.mark.parametrize("seed", range(6))
def test_O59_an_operator_killed_between_any_two_writes_comes_to_the_same_runs_and_one_release(seed: int) -> None:
    whole = SweepOperator(trials=6, parallelism=2)
    whole.finish()
    killed = SweepOperator(killer(seed), trials=6, parallelism=2)
    assert killed.finish().phase is SweepPhase.SUCCEEDED
    assert killed.settings() == whole.settings()
    assert killed.simulation.releases == whole.simulation.releases


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize(
    "call", ["create trainingruns", "patch trainingruns", "patch trainingsweeps/status", "list trainingruns"]
)
def test_O59_a_call_without_an_answer_changes_nothing_in_the_end(call: str, carried_out: bool) -> None:
    operator = SweepOperator(trials=3)
    operator.step()
    operator.server.fail(call, carried_out=carried_out, times=2)
    for _ in range(400):
        try:
            again = operator.reconcile(KEY)
        except ClusterError:
            continue
        if again is None:
            break
        operator.tick()
    assert operator.status.phase is SweepPhase.SUCCEEDED
    assert len(operator.runs()) == 3
    assert len(operator.simulation.releases) == 1


def test_runs_that_the_api_server_refuses_end_the_sweep_with_its_words() -> None:
    operator = SweepOperator()
    operator.server.fail("create trainingruns", 422, message="spec.training.steps: Invalid value", times=5)
    status = operator.finish()
    assert (status.phase, status.reason) == (SweepPhase.FAILED, Reason.INVALID_SPEC)
    assert "ball-t00: spec.training.steps: Invalid value" in status.message


def test_runs_are_created_so_that_the_api_server_refuses_fields_that_it_does_not_know() -> None:
    operator = SweepOperator(trials=1)
    sent: list[Request] = []
    cluster = FakeCluster(operator.server, around=lambda request, _: sent.append(request))
    reconcile = SweepReconciler(cluster, Settings(), metrics=OperatorMetrics(), now=operator.server.clock.now)
    reconcile(KEY)
    queries = [request.query for request in sent if str(request).startswith("create trainingruns")]
    assert queries == [{"fieldValidation": "Strict"}] * 2


def test_a_run_of_somebody_else_under_a_trials_name_ends_the_sweep_and_stays() -> None:
    operator = SweepOperator()
    operator.server.add(RUNS, {"metadata": {"name": "ball-t00"}, "spec": {}}, "team")
    while operator.step() is not None:
        pass
    status = operator.status
    assert status.phase is SweepPhase.FAILED
    assert "ball-t00 exists and is none of this sweep" in status.message
    assert operator.runs()["ball-t00"]["spec"] == {}


def test_a_sweep_that_is_over_costs_one_read() -> None:
    operator = SweepOperator(trials=1)
    operator.finish()
    operator.server.take_calls()
    assert operator.reconcile(KEY) is None
    assert operator.server.take_calls() == ["get trainingsweeps"]


def test_a_waiting_sweep_is_looked_at_again_and_writes_nothing() -> None:
    operator = SweepOperator(trials=2)
    operator.step()
    operator.server.take_calls()
    assert operator.reconcile(KEY) == REQUEUE_SECONDS
    assert operator.server.take_calls() == ["get trainingsweeps", "list trainingruns"]


def test_a_sweep_that_is_gone_is_forgotten() -> None:
    operator = SweepOperator()
    operator.server.remove(SWEEPS, *KEY)
    assert operator.reconcile(KEY) is None
