"""The life of a sweep, by a simulation whose AP50 follows from the settings."""

import json
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_operator.api.sweep import SweepPhase
from atoll_operator.sweeps.trials import TrialState
from support.sweep_simulation import STEPS, SweepSimulation, killer, score, sweep_document


def finished(**spec: Any) -> SweepSimulation:
    sim = SweepSimulation(sweep_document(**spec))
    sim.finish()
    return sim


def settings_of(sim: SweepSimulation) -> dict[str, Any]:
    return {name: json.loads(run["metadata"]["annotations"]["atoll.dev/parameters"]) for name, run in sim.runs.items()}


def test_a_sweep_tries_settings_and_publishes_the_best_alone() -> None:
    sim = finished()
    status = sim.status
    assert (status.phase, status.reason) == (SweepPhase.SUCCEEDED, Reason.COMPLETED)
    assert sorted(sim.runs) == [f"ball-t{number:02d}" for number in range(12)]
    assert status.best is not None
    assert sim.releases == [status.best.run]
    assert status.release == "ball-v1"
    measured = {item.name: score(item.settings) for item in sim.trials() if item.state is TrialState.COMPLETED}
    assert max(measured, key=lambda name: measured[name]) == status.best.run
    assert all(run["status"]["phase"] in ("Succeeded", "Cancelled") for run in sim.runs.values())


def test_pruning_saves_more_than_half_of_the_steps_and_keeps_the_winner() -> None:
    full, pruned = finished(pruning="none"), finished(pruning="halving")
    assert full.status.steps is not None
    assert full.status.steps.done == 12 * STEPS
    assert pruned.status.steps is not None
    assert pruned.status.steps.full == 12 * STEPS
    assert pruned.status.steps.done <= full.status.steps.done / 2
    assert pruned.status.trials is not None
    assert pruned.status.trials.pruned >= 6
    assert full.status.best is not None
    assert pruned.status.best is not None
    assert float(pruned.status.best.ap50) >= float(full.status.best.ap50) - 0.01


@pytest.mark.parametrize("pruning", ["halving", "median"])
def test_a_measurement_that_says_nothing_ends_no_trial(pruning: str) -> None:
    values = [{"name": "learningRate", "values": ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03"]}]
    values += [{"name": "width", "values": ["0.5", "1.0"]}]
    spec = sweep_document(parameters=values, algorithm="grid", pruning=pruning)
    sim = SweepSimulation(spec, silent_steps=STEPS // 9)
    sim.finish()
    ended = [trial for trial in sim.trials() if trial.state is TrialState.PRUNED]
    assert ended
    assert all(trial.steps >= STEPS * 2 // 9 for trial in ended)
    assert sim.status.best is not None
    assert sim.status.best.parameters == {"learningRate": "0.003", "width": "1.0"}
    assert sim.status.steps is not None
    assert sim.status.steps.done <= sim.status.steps.full * (1 / 2 if pruning == "halving" else 2 / 3)


def test_the_median_prunes_too() -> None:
    status = finished(pruning="median").status
    assert status.steps is not None
    assert status.trials is not None
    assert status.trials.pruned > 0
    assert status.steps.done < status.steps.full


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_O59_killed_between_any_two_writes_it_comes_to_the_same_runs_and_one_release(
    algorithm: str, parallelism: int
) -> None:
    spec = {"algorithm": algorithm, "parallelism": parallelism, "trials": 8}
    whole = finished(**spec)
    for seed in range(5):
        sim = SweepSimulation(sweep_document(**spec), kill=killer(seed))
        sim.finish()
        assert settings_of(sim) == settings_of(whole)
        assert sim.releases == whole.releases
        assert len(sim.created) == len(set(sim.created))


def test_a_grid_has_each_combination_once() -> None:
    values = [{"name": "learningRate", "values": ["0.001", "0.004"]}, {"name": "width", "values": ["0.5", "1.0"]}]
    sim = finished(algorithm="grid", parameters=values, pruning="none")
    tried = settings_of(sim).values()
    assert len(tried) == 4
    assert {(item["learningRate"], item["width"]) for item in tried} == {
        (rate, width) for rate in ("0.001", "0.004") for width in ("0.5", "1.0")
    }
    assert sim.status.best is not None
    assert sim.status.best.parameters == {"learningRate": "0.004", "width": "1.0"}


def test_a_small_space_is_not_tried_twice() -> None:
    sim = finished(
        parameters=[{"name": "learningRate", "values": ["0.001", "0.004"]}, {"name": "width", "values": ["1.0"]}]
    )
    assert len(sim.runs) == 2
    assert sim.status.trials is not None
    assert sim.status.trials.display == "2/2"


def test_no_more_trials_are_at_work_than_allowed() -> None:
    sim = SweepSimulation(sweep_document(parallelism=3))
    most = 0
    for _ in range(400):
        if sim.reconcile().status.is_terminal:
            break
        most = max(most, sum(trial.state is TrialState.RUNNING for trial in sim.trials()))
        sim.tick()
    assert most == 3


def test_repeats_with_other_seeds_tell_how_sure_the_result_is() -> None:
    sim = finished(repeats=3, trials=4)
    status = sim.status
    assert status.confidence is not None
    assert status.confidence.runs == 3
    assert float(status.confidence.low) < float(status.confidence.mean) < float(status.confidence.high)
    seeds = [run["spec"]["training"].get("seed", 0) for name, run in sim.runs.items() if "-s" in name]
    assert sorted(seeds) == [1, 2]
    # The later seeds are a little better in the simulation.
    assert sim.releases == [next(name for name in sim.runs if name.endswith("-s2"))]


def test_a_cancelled_sweep_cancels_its_runs_and_publishes_nothing() -> None:
    sim = SweepSimulation(sweep_document(parallelism=2))
    for _ in range(10):
        sim.reconcile()
        sim.tick()
    sim.sweep["spec"]["cancel"] = True
    assert sim.finish().phase is SweepPhase.CANCELLED
    assert {run["status"]["phase"] for run in sim.runs.values()} == {"Cancelled"}
    assert sim.releases == []


def test_a_suspended_sweep_suspends_its_runs_and_goes_on() -> None:
    sim = SweepSimulation(sweep_document(trials=3))
    for _ in range(4):
        sim.reconcile()
        sim.tick()
    sim.sweep["spec"]["suspend"] = True
    sim.reconcile()
    sim.tick()
    assert sim.reconcile().status.phase is SweepPhase.SUSPENDED
    assert sim.runs["ball-t00"]["status"]["phase"] == "Suspended"
    before = len(sim.runs)
    for _ in range(5):
        sim.tick()
        sim.reconcile()
    assert len(sim.runs) == before
    sim.sweep["spec"]["suspend"] = False
    assert sim.finish().phase is SweepPhase.SUCCEEDED


def test_three_trials_that_fail_end_the_sweep_with_their_reason() -> None:
    failing = {f"ball-t{number:02d}": Reason.DATASET_NOT_FOUND for number in range(12)}
    sim = SweepSimulation(failing=failing)
    status = sim.finish()
    assert (status.phase, status.reason) == (SweepPhase.FAILED, Reason.DATASET_NOT_FOUND)
    assert "ball-t02" in status.message
    assert len(sim.runs) == 3


def test_one_trial_that_fails_does_not_end_the_sweep() -> None:
    sim = SweepSimulation(failing={"ball-t01": Reason.OUT_OF_MEMORY})
    status = sim.finish()
    assert status.phase is SweepPhase.SUCCEEDED
    assert status.trials is not None
    assert status.trials.failed == 1


def test_where_no_trial_passes_its_gate_nothing_is_published() -> None:
    failing = {f"ball-t{number:02d}": Reason.QUALITY_GATE_FAILED for number in range(3)}
    sim = SweepSimulation(sweep_document(trials=3), failing=failing)
    status = sim.finish()
    assert (status.phase, status.reason) == (SweepPhase.FAILED, Reason.QUALITY_GATE_FAILED)
    assert sim.releases == []


def test_a_template_that_is_changed_ends_the_sweep() -> None:
    sim = SweepSimulation()
    sim.reconcile()
    sim.tick()
    sim.sweep["spec"]["template"]["spec"]["training"]["steps"] = 7
    status = sim.finish()
    assert (status.phase, status.reason) == (SweepPhase.FAILED, Reason.INVALID_SPEC)
    assert "spec.template was changed" in status.message


def test_a_run_that_only_bears_the_labels_is_no_trial() -> None:
    sim = SweepSimulation()
    sim.reconcile()
    stranger = json.loads(json.dumps(sim.runs["ball-t00"]))
    stranger["metadata"]["name"] = "ball-t01"
    stranger["metadata"]["ownerReferences"][0]["uid"] = "another"
    sim.runs["ball-t01"] = stranger
    assert [trial.name for trial in sim.trials()] == ["ball-t00"]


def test_settings_that_were_changed_by_hand_count_for_nothing() -> None:
    sim = SweepSimulation(sweep_document(trials=4))
    sim.reconcile()
    sim.runs["ball-t00"]["metadata"]["annotations"]["atoll.dev/parameters"] = '{"width": "7", "learningRate": "0.004"}'
    assert sim.finish().phase is SweepPhase.SUCCEEDED


def test_the_conditions_tell_where_it_is() -> None:
    sim = SweepSimulation(sweep_document(trials=2))
    sim.reconcile()
    assert {item.type: item.status for item in sim.status.conditions} == {"Succeeded": "Unknown", "Reconciling": "True"}
    sim.finish()
    assert {item.type: item.status for item in sim.status.conditions} == {"Succeeded": "True"}
