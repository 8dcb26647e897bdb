"""Publishing while processes die, compete and are watched."""

import multiprocessing
import secrets
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll_contract import keys
from atoll_contract.document import from_json
from atoll_contract.errors import Reason
from atoll_contract.release import Channel, Manifest
from atoll_contract.signing import generate_key, verify
from atoll_contract.store import open_store
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.store_spec import StoreSpec, StoreType
from support.interrupting_store import InterruptingStore, in_child, kill_at
from support.publishing import exported_run, publish_once, publish_until_done, with_version

KEY = generate_key()
PROCESSES = 32


def state_of(store: Store) -> dict[str, bytes]:
    return {item.key: store.get(item.key) for item in store.list("") if item.key.startswith(("models/", "blobs/"))}


def stable_state_of(store: Store) -> dict[str, bytes]:
    """Without the one thing that may differ: when the pointer was moved."""
    return {key: data for key, data in state_of(store).items() if "/channels/" not in key}


def require_sound(store: Store) -> None:
    """Every manifest has its blobs and every pointer its manifest."""
    for item in store.list("models/"):
        if item.key.endswith("/manifest.json"):
            manifest = from_json(Manifest, store.get(item.key))
            for file in manifest.files:
                info = store.head(file.key)
                assert info is not None, f"{item.key} names {file.key}, which is not there"
                assert info.size == file.size
        if "/channels/" in item.key:
            pointer = from_json(Channel, store.get(item.key))
            assert from_json(Manifest, store.get(pointer.manifest.key)).version == pointer.version


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_step_and_repeated_it_is_the_same_release(tmp_path: Path, moment: str) -> None:
    (tmp_path / "key.pem").write_bytes(KEY.private_pem)

    spec = StoreSpec(StoreType.DIRECTORY, path=str(tmp_path / "store"))
    store = open_store(spec)
    run = exported_run(store, spec, signing_key_path=str(tmp_path / "key.pem"))
    shutil.copytree(tmp_path / "store", tmp_path / "exported")
    counting = InterruptingStore(store)
    publish_once(run, counting, tmp_path / "work")
    undisturbed = stable_state_of(store)
    assert counting.operations > 20
    for step in range(counting.operations):
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / "exported", tmp_path / "store")
        disturbed = InterruptingStore(store, **{moment: kill_at(step)})
        assert in_child(lambda: publish_once(run, disturbed, tmp_path / "work")) == -9  # noqa: B023
        require_sound(store)
        key = keys.manifest("local", "note", 1)
        written = store.get(key) if store.head(key) else None
        shutil.rmtree(tmp_path / "work")
        assert publish_once(run, store, tmp_path / "work").reason is Reason.COMPLETED
        require_sound(store)
        manifest = store.get(key)
        assert written in (None, manifest)
        assert verify(store.get(keys.signature("local", "note", 1)), manifest, [KEY.public_pem])
        assert stable_state_of(store).keys() == undisturbed.keys(), f"killed {moment} operation {step}"


class Turnstile:
    """Lets one of several threads do one store operation at a time, in an order drawn beforehand."""

    def __init__(self, order: list[int], threads: int) -> None:
        self._order = order
        self._waiting: set[int] = set()
        self._running = set(range(threads))
        self._turn: int | None = None
        self._changed = threading.Condition()

    def wait(self, thread: int) -> None:
        with self._changed:
            self._waiting.add(thread)
            self._choose()
            while self._turn != thread:
                assert self._changed.wait(30), "the others are stuck"
            self._waiting.discard(thread)
            self._turn = None

    def leave(self, thread: int) -> None:
        with self._changed:
            self._running.discard(thread)
            self._choose()

    def _choose(self) -> None:
        """With everybody at the turnstile or gone, the next of the order goes through."""
        if self._turn is None and self._waiting == self._running and self._waiting:
            ready = sorted(self._waiting)
            self._turn = ready[(self._order.pop(0) if self._order else 0) % len(ready)]
            self._changed.notify_all()


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.lists(st.integers(0, 2), max_size=150))
def test_in_any_order_of_steps_each_run_gets_a_version_of_its_own(tmp_path: Path, order: list[int]) -> None:
    folder = tmp_path / secrets.token_hex(8)
    spec = StoreSpec(StoreType.DIRECTORY, path=str(folder / "store"))
    store = open_store(spec)
    turnstile = Turnstile(list(order), 3)
    got: dict[int, int] = {}
    (tmp_path / "key.pem").write_bytes(KEY.private_pem)
    runs = [exported_run(store, spec, uid=f"run-{i}", signing_key_path=str(tmp_path / "key.pem")) for i in range(3)]

    def publisher(number: int) -> None:
        slow = InterruptingStore(store, before=lambda *_: turnstile.wait(number))
        run = runs[number]
        try:
            for attempt in range(10):
                outcome = publish_once(run, slow, folder / f"work-{number}-{attempt}")
                if outcome.reason is Reason.COMPLETED:
                    got[number] = int(outcome.summary["version"])
                    return
                run = with_version(run, int(outcome.summary["nextVersion"]))
        finally:
            turnstile.leave(number)

    threads = [threading.Thread(target=publisher, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sorted(got) == [0, 1, 2]
    assert len(set(got.values())) == 3
    require_sound(store)
    for number, version in got.items():
        manifest = store.get(keys.manifest("local", "note", version))
        assert from_json(Manifest, manifest).run.uid == f"run-{number}"
        assert verify(store.get(keys.signature("local", "note", version)), manifest, [KEY.public_pem])
    assert from_json(Channel, store.get(keys.channel("local", "note", "stable"))).version == max(got.values())
    shutil.rmtree(folder)


class Poller:
    """Reads as a device does, all the time, and keeps what it found wrong."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.problems: list[str] = []
        self.seen: list[int] = []

    def __enter__(self) -> "Poller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._poll()
            except ObjectNotFound as error:
                self.problems.append(str(error))
            self._stop.wait(0.02)

    def _poll(self) -> None:
        if self._store.head(keys.channel("local", "note", "stable")) is None:
            return
        pointer = from_json(Channel, self._store.get(keys.channel("local", "note", "stable")))
        manifest = from_json(Manifest, self._store.get(pointer.manifest.key))
        if self.seen and pointer.version < self.seen[-1]:
            self.problems.append(f"the pointer went from {self.seen[-1]} back to {pointer.version}")
        for file in manifest.files:
            if self._store.head(file.key) is None:
                self.problems.append(f"{file.key} is missing")
        self.seen.append(pointer.version)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_of_many_processes_each_gets_a_version_and_the_channel_the_highest(store_spec: StoreSpec) -> None:
    store = open_store(store_spec)
    runs = [exported_run(store, store_spec, uid=f"run-{number}", small=True) for number in range(PROCESSES)]
    # Not `fork`: a client of boto3 does not survive it. The fork server has imported, but not connected.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "atoll_contract.store.s3", "support.publishing"])
    with context.Pool(PROCESSES) as pool, Poller(store) as poller:
        got = pool.map(publish_until_done, runs, chunksize=1)
    assert sorted(got) == list(range(1, PROCESSES + 1))
    for run, version in zip(runs, got, strict=True):
        assert from_json(Manifest, store.get(keys.manifest("local", "note", version))).run == run.run
    assert from_json(Channel, store.get(keys.channel("local", "note", "stable"))).version == PROCESSES
    require_sound(store)
    assert poller.problems == []
    assert poller.seen
