"""Successive halving: how many steps it takes, whom it keeps, and what a trial that waits says, whoever is killed."""

import itertools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from atoll_contract.errors import Reason
from atoll_operator.api.sweep import SweepPhase
from atoll_operator.sweeps.trials import Trial, TrialState
from support.sweep_simulation import STEPS, SweepSimulation, killer, sweep_document

RATES = [f"0.{number:03d}" for number in range(1, 13)]


def halving(
    score: Callable[[Mapping[str, str]], float] | None = None, *, trials: int = 12, **spec: Any
) -> SweepSimulation:
    """A sweep over as many rates as trials; a higher rate is better unless `score` says otherwise."""
    values = [{"name": "learningRate", "values": RATES[:trials]}]
    document = sweep_document(**{"parameters": values, "algorithm": "grid", "pruning": "halving"} | spec)
    return SweepSimulation(document, score or (lambda settings: 50 * float(settings["learningRate"])))


def by_state(sim: SweepSimulation, state: TrialState) -> list[Trial]:
    return [trial for trial in sim.trials() if trial.state is state]


@pytest.mark.parametrize("parallelism", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_twelve_trials_in_any_order_take_less_than_half_of_the_steps_and_find_the_best(
    parallelism: int, seed: int
) -> None:
    sim = halving(parallelism=parallelism, seed=seed)
    status = sim.finish()
    assert status.phase is SweepPhase.SUCCEEDED
    assert status.best is not None
    assert status.best.parameters == {"learningRate": RATES[-1]}
    assert sim.releases == [status.best.run]
    assert sum(sim.steps.values()) == 12 * STEPS // 3 + 4 * STEPS // 6 + 2 * STEPS // 2
    assert status.steps is not None
    assert (status.steps.done, status.steps.full) == (sum(sim.steps.values()), 12 * STEPS)
    assert status.trials is not None
    assert (status.trials.completed, status.trials.pruned, status.trials.waiting) == (2, 10, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_of_four_trials_two_are_trained_to_the_end_whatever_their_order(order: tuple[int, ...]) -> None:
    rank = dict(zip(RATES[:4], order, strict=True))
    sim = halving(lambda settings: 0.2 + 0.2 * rank[settings["learningRate"]], trials=4)
    sim.finish()
    finalists = {rank[trial.settings["learningRate"]] for trial in by_state(sim, TrialState.COMPLETED)}
    assert finalists == {2, 3}


@pytest.mark.parametrize("trials", [1, 2])
def test_where_there_is_nothing_to_halve_every_trial_is_trained_whole_and_none_waits(trials: int) -> None:
    sim = halving(trials=trials)
    for _ in range(200):
        if sim.reconcile().status.is_terminal:
            break
        assert by_state(sim, TrialState.WAITING) == []
        sim.tick()
    assert list(sim.steps.values()) == [STEPS] * trials
    assert sim.status.phase is SweepPhase.SUCCEEDED


def test_a_tie_in_whole_points_goes_by_what_is_less_and_then_by_the_number() -> None:
    # At the first rung all but the last two have the same whole points; of these, all but one the same figure.
    figures = dict(zip(RATES, [0.6] * 7 + [0.603] + [0.6] * 2 + [0.2] * 2, strict=True))
    sim = halving(lambda settings: figures[settings["learningRate"]])
    sim.finish()
    kept = {trial.number for trial in sim.trials() if trial.steps > STEPS // 3}
    finer = next(trial.number for trial in sim.trials() if trial.settings["learningRate"] == RATES[7])
    tied = [trial.number for trial in sim.trials() if figures[trial.settings["learningRate"]] == 0.6]
    assert kept == {finer, *[number for number in tied if number != finer][:3]}


def test_a_trial_that_finds_nothing_at_the_first_rung_is_ended_there() -> None:
    sim = halving(lambda settings: 0.0 if settings["learningRate"] < RATES[6] else 0.5)
    sim.finish()
    silent = [trial for trial in sim.trials() if trial.settings["learningRate"] < RATES[6]]
    assert {(trial.state, sim.steps[trial.name]) for trial in silent} == {(TrialState.PRUNED, STEPS // 3)}


def test_where_no_trial_finds_anything_at_the_first_rung_the_second_decides() -> None:
    sim = halving()
    sim.silent_steps = STEPS // 3
    status = sim.finish()
    assert status.best is not None
    assert status.best.parameters == {"learningRate": RATES[-1]}
    assert sorted(sim.steps.values()) == [STEPS // 2] * 10 + [STEPS] * 2


def test_a_trial_whose_curve_stands_still_is_at_the_rung_although_its_suspended_run_tells_no_step() -> None:
    sim = halving(lambda settings: 0.5 if settings["learningRate"] != RATES[0] else 0.0, trials=6)
    sim.finish()
    still = next(trial for trial in sim.trials() if trial.settings["learningRate"] == RATES[0])
    assert still.steps < STEPS // 3
    assert sim.steps[still.name] == STEPS // 3


def test_what_a_trial_waits_for_stands_in_its_run_and_in_the_sweep() -> None:
    sim = halving(parallelism=2)
    until(sim, lambda: bool(by_state(sim, TrialState.WAITING)))
    trial = by_state(sim, TrialState.WAITING)[0]
    reason = "waits at step 300 of 900: the sweep compares its trials there, and then resumes or ends it"
    assert trial.status.message == reason
    sim.reconcile()
    assert f"; waiting: {trial.name}" in sim.status.message
    assert sim.status.trials is not None
    assert sim.status.trials.waiting == len(by_state(sim, TrialState.WAITING))


def test_a_trial_that_was_chosen_says_that_it_waits_for_a_place() -> None:
    sim = halving()
    until(sim, lambda: len(by_state(sim, TrialState.PRUNED)) == 8)
    sim.tick()
    reasons = {trial.suspend_reason for trial in by_state(sim, TrialState.WAITING)}
    assert reasons == {"waits for a place: the sweep trains 1 at a time"}


def test_a_trial_that_waits_goes_on_waiting_after_it_was_resumed_by_hand() -> None:
    sim = halving(parallelism=2)
    until(sim, lambda: bool(by_state(sim, TrialState.WAITING)))
    name = by_state(sim, TrialState.WAITING)[0].name
    sim.runs[name]["spec"]["suspend"] = False
    assert [change.run for change in sim.reconcile().change if change.spec.get("suspend")] == [name]
    assert sim.steps[name] == STEPS // 3


def test_a_trial_that_was_suspended_by_hand_goes_on() -> None:
    sim = halving(trials=4)
    sim.reconcile()
    sim.tick()
    sim.runs["ball-t00"]["spec"]["suspend"] = True
    sim.tick()
    assert sim.trials()[0].state is TrialState.WAITING
    assert [change.spec for change in sim.reconcile().change] == [{"suspend": False}]
    assert sim.finish().phase is SweepPhase.SUCCEEDED


def test_a_sweep_that_is_suspended_and_resumed_wakes_none_that_waits_at_a_rung() -> None:
    sim = halving(parallelism=2)
    until(sim, lambda: len(by_state(sim, TrialState.WAITING)) >= 3)
    waiting = {trial.name for trial in by_state(sim, TrialState.WAITING)}
    for suspend in (True, False):
        sim.sweep["spec"]["suspend"] = suspend
        for _ in range(3):
            sim.reconcile()
            sim.tick()
    assert {sim.steps[name] for name in waiting} == {STEPS // 3}
    sim.finish()
    assert sum(sim.steps.values()) == 12 * STEPS // 3 + 4 * STEPS // 6 + 2 * STEPS // 2


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_trial_that_is_lost_on_the_way_is_passed_over(state: str) -> None:
    best = len(RATES) - 1
    sim = halving(trials=12)
    name = f"ball-t{next(n for n in range(12) if rate_of(sim, n) == RATES[best]):02d}"
    if state == "failed":
        sim.failing = {name: Reason.OUT_OF_MEMORY}
    else:
        until(sim, lambda: sim.steps.get(name, 0) >= STEPS // 3 and bool(by_state(sim, TrialState.WAITING)))
        sim.runs[name]["spec"]["cancel"] = True
    status = sim.finish()
    assert status.phase is SweepPhase.SUCCEEDED
    assert status.best is not None
    assert status.best.parameters == {"learningRate": RATES[best - 1]}
    assert len(by_state(sim, TrialState.COMPLETED)) == 2


def test_trials_that_fail_while_others_wait_do_not_end_the_sweep() -> None:
    sim = halving(trials=6)
    sim.failing = {f"ball-t{number:02d}": Reason.OUT_OF_MEMORY for number in (1, 2, 3)}
    assert sim.finish().phase is SweepPhase.SUCCEEDED


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("algorithm", ["tpe", "grid"])
@pytest.mark.parametrize("seed", range(4))
def test_O59_killed_between_any_two_writes_the_same_trials_wait_go_on_and_end(
    algorithm: str, parallelism: int, seed: int
) -> None:
    whole, killed = (halving(algorithm=algorithm, parallelism=parallelism) for _ in range(2))
    whole.finish()
    killed.kill = killer(seed)
    killed.finish()
    assert {trial.name: (trial.settings, trial.state) for trial in killed.trials()} == {
        trial.name: (trial.settings, trial.state) for trial in whole.trials()
    }
    assert killed.steps == whole.steps
    assert killed.releases == whole.releases


def test_steps_that_the_training_chooses_by_itself_count_although_a_suspended_run_forgets_them() -> None:
    sim = halving()
    del sim.sweep["spec"]["template"]["spec"]["training"]["steps"]
    status = sim.finish()
    assert status.best is not None
    assert status.best.parameters == {"learningRate": RATES[-1]}
    assert sum(sim.steps.values()) == 12 * STEPS // 3 + 4 * STEPS // 6 + 2 * STEPS // 2


def test_rungs_are_points_at_which_the_training_is_evaluated() -> None:
    sim = halving()
    del sim.sweep["spec"]["template"]["spec"]["training"]["evalEverySteps"]
    sim.finish()
    assert sorted(set(sim.steps.values())) == [300, 450, 900]
    sim = halving()
    sim.sweep["spec"]["template"]["spec"]["training"]["evalEverySteps"] = 200
    sim.finish()
    assert sorted(set(sim.steps.values())) == [200, 400, 900]


def test_a_sweep_that_an_earlier_operator_began_under_the_former_name_ends() -> None:
    sim = halving(pruning="asha")
    chance = random.Random(1)
    until(sim, lambda: len(sim.runs) == 4)
    # That operator trained the first trials to the end, or ended them before the first rung.
    for name in sorted(sim.runs):
        if chance.random() < 0.5:
            sim.runs[name]["spec"] |= {"suspend": False, "cancel": True}
            continue
        while not any(trial.name == name and trial.has_ended for trial in sim.trials()):
            sim.runs[name]["spec"]["suspend"] = False
            sim.runs[name]["status"] = sim.next_status(sim.runs[name])
    status = sim.finish()
    assert status.phase is SweepPhase.SUCCEEDED
    assert len(sim.runs) == 12


def rate_of(sim: SweepSimulation, number: int) -> str:
    """The rate of a trial of a grid, from a run of the same sweep."""
    other = SweepSimulation(json.loads(json.dumps({**sim.sweep, "status": {}})), sim.score)
    until(other, lambda: f"ball-t{number:02d}" in other.runs)
    return str(
        json.loads(other.runs[f"ball-t{number:02d}"]["metadata"]["annotations"]["atoll.dev/parameters"])["learningRate"]
    )


def until(sim: SweepSimulation, condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        plan = sim.reconcile()
        if not (plan.create or plan.change):
            sim.tick()
    raise AssertionError(sim.sweep["status"])
