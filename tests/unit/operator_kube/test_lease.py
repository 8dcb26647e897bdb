"""One writer: the Lease is held by one process, judged by local clocks, and given up in order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import AlreadyExists, ClusterError, Conflict, Unavailable
from atoll_operator.kube.lease import Lease, LeaseTiming, NotLeader

TIMING = LeaseTiming(duration=30, renew_deadline=20, retry=4)


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Stored:
    """The Lease object with the API server's rules for versions."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.error: ClusterError | None = None

    def read_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        assert (namespace, name) == ("atoll-system", "atoll-operator")
        self._answer()
        return None if self.lease is None else {"metadata": dict(self.lease["metadata"]), "spec": dict(self.spec)}

    def write_lease(self, namespace: str, lease: dict[str, Any]) -> dict[str, Any]:
        self._answer()
        version = lease["metadata"].get("resourceVersion")
        if version is None and self.lease is not None:
            raise AlreadyExists("create leases", "exists", status=409)
        if version not in (None, str(self.version)):
            raise Conflict("update leases", "stale", status=409)
        return self._store(lease["spec"])

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        return dict(self.lease["spec"])

    def _answer(self) -> None:
        if self.error:
            raise self.error

    def _store(self, spec: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(spec)}
        return self.lease


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def process(stored: Stored, clock: Clock, name: str, *, timing: LeaseTiming = TIMING) -> Lease:
    cluster = cast(Cluster, stored)
    return Lease(cluster, "atoll-system", "atoll-operator", identity=name, timing=timing, clock=clock)


def test_the_first_process_gets_it_and_the_second_is_told_who_has_it(stored: Stored, clock: Clock) -> None:
    first, second = process(stored, clock, "first"), process(stored, clock, "second")
    first.attempt()
    second.attempt()
    first.require()
    with pytest.raises(NotLeader, match="not leader: held by first"):
        second.require()


def test_a_holder_that_cannot_renew_stops_before_another_may_start(stored: Stored, clock: Clock) -> None:
    holder = process(stored, clock, "holder")
    holder.attempt()
    stored.error = Unavailable("get leases", "no answer")
    for _ in range(5):
        clock.now += 4
        holder.attempt()
    assert clock.now == 20
    assert not holder.held


def test_a_lease_whose_holder_died_is_taken_over_after_its_duration(stored: Stored, clock: Clock) -> None:
    process(stored, clock, "dead").attempt()
    heir = process(stored, clock, "heir")
    heir.attempt()
    clock.now += 30
    heir.attempt()
    held = [heir.held]
    clock.now += 1
    heir.attempt()
    held.append(heir.held)
    assert held == [False, True]
    assert (stored.spec["holderIdentity"], stored.spec["leaseTransitions"]) == ("heir", 2)


def test_clocks_of_two_machines_are_never_compared(stored: Stored) -> None:
    holder_clock, other_clock = Clock(0), Clock(1_000_000)
    holder, other = process(stored, holder_clock, "holder"), process(stored, other_clock, "other")
    for _ in range(20):
        holder.attempt()
        other.attempt()
        holder_clock.now += 4
        other_clock.now += 4
    assert holder.held
    assert not other.held


def test_a_lease_given_up_is_taken_at_once(stored: Stored, clock: Clock) -> None:
    first, second = process(stored, clock, "first"), process(stored, clock, "second")
    first.attempt()
    first.release()
    second.attempt()
    assert (first.held, second.held) == (False, True)


def test_the_same_pod_restarted_goes_on_at_once(stored: Stored, clock: Clock) -> None:
    process(stored, clock, "pod").attempt()
    again = process(stored, clock, "pod")
    again.attempt()
    assert again.held
    assert stored.spec["leaseTransitions"] == 1


def test_releasing_leaves_a_successors_lease_alone(stored: Stored, clock: Clock) -> None:
    first, second = process(stored, clock, "first"), process(stored, clock, "second")
    first.attempt()
    stored._store(stored.spec | {"holderIdentity": ""})
    second.attempt()
    first.release()
    assert stored.spec["holderIdentity"] == "second"


def test_a_slow_answer_does_not_make_the_lease_younger(stored: Stored, clock: Clock) -> None:
    holder = process(stored, clock, "holder")
    write = stored.write_lease

    def slow(namespace: str, lease: dict[str, Any]) -> dict[str, Any]:
        written = write(namespace, lease)
        clock.now += 19
        return written

    stored.write_lease = slow  # type: ignore[method-assign]
    holder.attempt()
    held = [holder.held]
    clock.now += 1
    held.append(holder.held)
    assert held == [True, False]


class SlowServer(Stored):
    """Each call takes as long as fault O17 says; notes whether the holder might write while it waited."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.holder: Lease | None = None
        self.might_write: list[bool] = []

    def _answer(self) -> None:
        super()._answer()
        for _ in range(5):
            self._clock.now += 1
            if self.holder is not None:
                self.might_write.append(self.holder.held)


def test_O17_a_holder_keeps_its_lease_at_five_seconds_a_call(clock: Clock) -> None:
    server = SlowServer(clock)
    holder = process(server, clock, "holder")
    holder.attempt()
    server.holder = holder
    for _ in range(20):
        for _ in range(4):
            clock.now += 1
            server.might_write.append(holder.held)
        holder.attempt()
    assert len(server.might_write) >= 180
    assert all(server.might_write)


def test_a_renewal_that_somebody_came_before_is_none(stored: Stored, clock: Clock) -> None:
    holder, thief = process(stored, clock, "holder"), process(stored, clock, "thief")
    holder.attempt()
    thief.attempt()
    clock.now += 31
    thief.attempt()
    clock.now -= 20  # as for a holder that slept on its own clock
    holder.attempt()
    assert not holder.held
    holder.attempt()
    assert not holder.held
    assert stored.spec["holderIdentity"] == "thief"


def test_gain_and_loss_are_reported_once_each(stored: Stored, clock: Clock) -> None:
    changes: list[bool] = []

    async def scenario() -> None:
        lease = process(stored, clock, "me", timing=LeaseTiming(duration=3, renew_deadline=2, retry=0.01))
        keeping = asyncio.ensure_future(lease.keep(changes.append))
        while changes != [True]:
            await asyncio.sleep(0.01)
        stored.error = Unavailable("get leases", "no answer")
        clock.now += 2
        while changes != [True, False]:
            await asyncio.sleep(0.01)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert changes == [True, False]


def test_timings_that_let_two_act_are_refused() -> None:
    with pytest.raises(ValueError, match="retry < renew deadline < duration"):
        LeaseTiming(duration=10, renew_deadline=15, retry=2)


def test_P23_only_a_holder_that_was_seen_at_work_is_stood_by_for(stored: Stored, clock: Clock) -> None:
    holder, second = process(stored, clock, "holder"), process(stored, clock, "second")
    holder.attempt()
    second.attempt()
    # It may be what a process left that is gone.
    seen = [second.stands_by]
    clock.now += 4
    holder.attempt()
    second.attempt()
    seen.append(second.stands_by)
    clock.now += 30
    seen.append(second.stands_by)
    clock.now += 1
    seen.append(second.stands_by)
    second.attempt()
    seen.append(second.held)
    assert seen == [False, True, True, False, True]
    assert (holder.held, holder.stands_by) == (False, False)


def test_P23_after_a_loss_the_old_sight_of_another_counts_no_more(stored: Stored, clock: Clock) -> None:
    first, second = process(stored, clock, "first"), process(stored, clock, "second")
    first.attempt()
    second.attempt()
    clock.now += 4
    first.attempt()
    second.attempt()
    first.release()
    second.attempt()
    assert (second.held, second.stands_by) == (True, False)
