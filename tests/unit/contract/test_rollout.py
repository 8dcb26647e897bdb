"""Which devices may take a version when: by a hash, a signed plan and a control object that can only delay."""

from collections import Counter

import pytest

from atoll_contract.rollout import (
    RolloutControl,
    RolloutPlan,
    RolloutState,
    RolloutStep,
    Turn,
    share_of,
    turn_of,
    wave_of,
)

PLAN = RolloutPlan((RolloutStep(10), RolloutStep(50, 3600), RolloutStep(100, 86400)))
RUNNING = RolloutControl("aa", RolloutState.RUNNING, "2027-01-09T19:00:00Z")


def control(state: RolloutState = RolloutState.RUNNING, delay: int = 0) -> RolloutControl:
    return RolloutControl("aa", state, "2027-01-09T19:00:00Z", delay_seconds=delay)


def test_the_place_of_a_device_is_the_same_everywhere_and_another_for_each_version() -> None:
    assert share_of("pi-front", "team-190", "note", 4) == pytest.approx(75.08, abs=0.01)
    assert share_of("pi-front", "team-190", "note", 5) == pytest.approx(45.82, abs=0.01)
    assert share_of("pi-front", "team-190", "cone", 4) != share_of("pi-front", "team-190", "note", 4)


def test_devices_are_spread_over_the_steps_by_their_percent() -> None:
    waves = Counter(wave_of(PLAN, share_of(f"pi-{number}", "team", "note", 4)) for number in range(10_000))
    assert [waves[number] / 100 for number in (1, 2, 3)] == pytest.approx([10, 40, 50], abs=1.5)


@pytest.mark.parametrize(
    ("share", "age", "turn", "wave", "left"),
    [
        (0.0, -600.0, Turn.DUE, 1, None),
        (9.99, 0.0, Turn.DUE, 1, None),
        (10.0, 0.0, Turn.WAITING, 2, 3600.0),
        (10.0, 3599.0, Turn.WAITING, 2, 1.0),
        (10.0, 3600.0, Turn.DUE, 2, None),
        (99.9, 3600.0, Turn.WAITING, 3, 82800.0),
        (99.9, 86400.0, Turn.DUE, 3, None),
    ],
)
def test_a_step_begins_at_its_time(share: float, age: float, turn: Turn, wave: int, left: float | None) -> None:
    found = turn_of(PLAN, share, age_seconds=age, control=RUNNING)
    assert (found.turn, found.wave, found.seconds_left) == (turn, wave, left)
    assert turn_of(PLAN, share, age_seconds=age, control=None) == found


def test_whom_no_step_reaches_waits_for_a_promotion() -> None:
    found = turn_of(RolloutPlan((RolloutStep(10),)), 10.0, age_seconds=1e9, control=None)
    assert (found.turn, found.wave, found.seconds_left) == (Turn.WAITING, 2, None)


def test_E22_the_control_object_delays_and_never_brings_forward() -> None:
    for share in (5.0, 30.0, 90.0):
        for age in (0.0, 3600.0, 86400.0, 90000.0):
            free = turn_of(PLAN, share, age_seconds=age, control=None)
            for delay in (-86400, 0, 60, 10**9):
                held = turn_of(PLAN, share, age_seconds=age, control=control(delay=delay))
                assert held.turn is free.turn or held.turn is Turn.WAITING
                assert (held.seconds_left or 0) >= (free.seconds_left or 0)
            assert turn_of(PLAN, share, age_seconds=age, control=control(RolloutState.PAUSED)).turn is Turn.PAUSED
            assert turn_of(PLAN, share, age_seconds=age, control=control(RolloutState.HALTED)).turn is Turn.HALTED
