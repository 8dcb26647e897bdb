"""A lease on a key: one holder at a time, between threads and processes, over a folder and over a bucket."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll_contract.document import from_json, to_json
from atoll_contract.errors import Reason
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectInfo, Store, StoreError
from atoll_contract.store.directory import DirStore
from atoll_contract.store.lease import Lease, LeaseRecord
from atoll_contract.store_spec import StoreSpec, StoreType
from support.polling import wait_until
from support.store_writers import hold_lease

KEY = "cache/team/datasets/9c/lease.json"


def spec_of(store: Store, request: pytest.FixtureRequest) -> StoreSpec:
    if isinstance(store, DirStore):
        return StoreSpec(StoreType.DIRECTORY, path=store.url)
    spec: StoreSpec = request.getfixturevalue("s3_spec")
    return spec


def lease(store: Store, holder: str, *, waits: Callable[[str], None] = lambda _: None, lost_after: float = 30) -> Lease:
    return Lease(store, KEY, holder, waits=waits, lost_after=lost_after, poll=0.02)


def holder_of(store: Store) -> str | None:
    return from_json(LeaseRecord, store.get(KEY)).holder


def test_a_lease_has_its_holder_and_none_afterwards(store: Store) -> None:
    for holder in ("one", "other"):
        with lease(store, holder).held():
            assert holder_of(store) == holder
        assert holder_of(store) is None


def test_who_asks_second_waits_for_the_first(store: Store) -> None:
    waited: list[str] = []
    order: list[str] = []
    entered, asked = threading.Event(), threading.Event()

    def second() -> None:
        entered.wait(20)

        def waits(holder: str) -> None:
            waited.append(holder)
            asked.set()

        with lease(store, "second", waits=waits).held():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with lease(store, "first").held():
        entered.set()
        assert asked.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    assert set(waited) == {"first"}


def test_what_the_wait_raises_ends_it(store: Store) -> None:
    class Stopped(Exception):
        pass

    def stop(_: str) -> None:
        raise Stopped

    with lease(store, "first").held():
        with pytest.raises(Stopped), lease(store, "second", waits=stop).held():
            pytest.fail("the lease has two holders")
        assert holder_of(store) == "first"


def test_only_one_process_at_a_time_holds_it(store: Store, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = [(spec_of(store, request), KEY, f"run-{number}", str(tmp_path)) for number in range(3)]
    workers = [context.Process(target=hold_lease, args=(*item, False)) for item in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.glob("held-*"))) == 3


def test_a_killed_holder_loses_it_and_a_working_one_does_not(
    store: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (spec_of(store, request), KEY, "first", str(tmp_path), True)
    worker = context.Process(target=hold_lease, args=arguments, daemon=True)
    worker.start()
    wait_until(lambda: (tmp_path / "held-first").exists(), what="the first holder", timeout_seconds=40)
    begun = from_json(LeaseRecord, store.get(KEY)).renewals
    # Longer than it takes to lose it: the holder renews it.
    wait_until(lambda: from_json(LeaseRecord, store.get(KEY)).renewals > begun + 5, what="renewals", timeout_seconds=40)
    assert holder_of(store) == "first"
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(20)
    waited: list[str] = []
    with lease(store, "second", waits=waited.append, lost_after=1).held():
        assert holder_of(store) == "second"
    assert set(waited) == {"first"}


def test_the_next_attempt_of_the_holder_does_not_wait(store: Store) -> None:
    store.put(KEY, to_json(LeaseRecord("run", 7)))
    with lease(store, "run", waits=lambda _: pytest.fail("it waits for itself")).held():
        assert holder_of(store) == "run"


def test_an_object_that_is_no_lease_is_written_anew(store: Store) -> None:
    store.put(KEY, b"<html>")
    with lease(store, "run").held():
        assert holder_of(store) == "run"


def test_a_holder_that_lost_it_leaves_the_new_one_alone(store: Store) -> None:
    with lease(store, "old").held():
        store.put(KEY, to_json(LeaseRecord("new", 99)))
    assert holder_of(store) == "new"


def test_a_store_without_conditional_writes_lets_everybody_work(tmp_path: Path) -> None:
    class Unsuitable(DirStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
            raise StoreError(Reason.STORE_UNSUITABLE, "501 NotImplemented")

    worked = []
    store = Unsuitable(tmp_path)
    with lease(store, "one").held(), lease(store, "other").held():
        worked.append(True)
    assert worked == [True]
    assert open_store(StoreSpec(StoreType.DIRECTORY, path=store.url)).head(KEY) is None
