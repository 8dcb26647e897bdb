"""The operator's time is the API server's: its node's clock may be wrong or jump (fault O16)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase
from atoll_operator.kube.clock import ServerClock
from support.run_simulation import RunSimulation, run_view

SERVER = datetime(2027, 1, 9, 18, 0, tzinfo=UTC)


@dataclass
class Times:
    """The true time, the node's own clock and the monotonic one."""

    true: datetime = SERVER
    own_skew: float = 0.0
    monotonic: float = 1000.0

    def __post_init__(self) -> None:
        self.clock = ServerClock(own=lambda: self.true.timestamp() + self.own_skew, monotonic=lambda: self.monotonic)

    def pass_time(self, seconds: float) -> None:
        self.true += timedelta(seconds=seconds)
        self.monotonic += seconds

    def answer(self, *, after: float = 0.05) -> None:
        """An answer of the server, so many seconds after the question."""
        asked = self.monotonic
        self.pass_time(after)
        self.clock.observe(format_datetime(self.true.replace(microsecond=0), usegmt=True), requested_at=asked)

    @property
    def error(self) -> float:
        return (self.clock() - self.true).total_seconds()


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_O16_the_servers_time_counts_and_the_nodes_clock_is_named(
    skew: float, caplog: pytest.LogCaptureFixture
) -> None:
    times = Times(own_skew=skew)
    assert times.error == skew
    times.answer()
    assert abs(times.error) <= 1.0
    times.pass_time(250.4)
    assert abs(times.error) <= 1.0
    for _ in range(50):
        times.pass_time(7.3)
        times.answer()
    assert -0.2 <= times.error <= 0.2
    text = "3600 s ahead of" if skew > 0 else "3600 s behind"
    # Told at once, and again after ten minutes.
    assert [text in record.message for record in caplog.records] == [True, True]


def test_O16_a_clock_that_jumps_moves_no_deadline() -> None:
    times = Times()
    times.answer()
    sim = RunSimulation(run=run_view(active_deadline_seconds=600))
    begin = times.clock()
    sim.now = begin
    sim.to_stage(Stage.TRAIN)
    sim.start()
    times.own_skew = 7200.0
    times.pass_time(60)
    times.answer()
    sim.now = times.clock()
    sim.settle()
    assert sim.read().phase is Phase.TRAINING
    times.own_skew = -7200.0
    times.pass_time(541)
    times.answer()
    sim.now = times.clock()
    sim.settle()
    assert sim.read().phase is Phase.FAILED


def test_slow_and_undated_answers_do_no_harm() -> None:
    times = Times()
    times.answer()
    times.answer(after=29.0)
    assert abs(times.error) <= 1.0
    for date in (None, "", "tomorrow"):
        times.clock.observe(date, requested_at=times.monotonic)
    assert abs(times.error) <= 1.0


def test_a_servers_clock_that_is_set_is_followed() -> None:
    times = Times()
    times.answer()
    times.true += timedelta(hours=2)
    times.answer()
    assert abs(times.error) <= 1.0
