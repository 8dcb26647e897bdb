"""What is removed and what stays, in a folder and in a bucket of a real MinIO."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from atoll_cli.pruning.groups import DAY, Group, Kind, KnownRun, RetentionPolicy, known_run
from atoll_cli.pruning.scan import Scan, remove
from atoll_contract import keys
from atoll_contract.document import from_json, replace, rfc3339, to_json
from atoll_contract.keys import RunRef
from atoll_contract.release import Channel, DeviceReport, EdgeTpu, Manifest, ManifestFile, ManifestRef, ModelInput, Role
from atoll_contract.stage import Stage
from atoll_contract.store.base import Store
from atoll_contract.store.directory import DirStore
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec, StoreType
from support.interrupting_store import InterruptingStore
from support.minio import MinioServer
from support.publishing import exported_run, publish_once
from support.s3 import bucket_spec, raw_client

NOW = time.time()
OLDER = RetentionPolicy(30 * DAY)


@pytest.fixture(scope="module")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.api)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return DirStore(tmp_path / "store")
    server: MinioServer = request.getfixturevalue("minio")
    return S3Store(bucket_spec(server, f"test-{secrets.token_hex(6)}", tmp_path / "credentials"))


def run(uid: str, *, ended_days_ago: float | None = None, converted: bool = True, **more: Any) -> KnownRun:
    ended = None if ended_days_ago is None else NOW - ended_days_ago * DAY
    return KnownRun(uid, ended, converted, **{"outputs": frozenset[str](), **more})


def scan(store: Store, runs: Iterable[KnownRun] = (), *, later: float = 40.0, policy: RetentionPolicy = OLDER) -> Scan:
    """The namespace `team`, scanned `later` days from now, when all that the test has just written is so old."""
    return Scan(store, "team", policy, read_runs=lambda: list(runs), clock=lambda: NOW + later * DAY)


def put(store: Store, *names: str) -> None:
    for name in names:
        store.put(name, b"12345")


def manifest(namespace: str, version: int, blob: str, *, channel: str = "stable") -> Manifest:
    return Manifest(
        namespace=namespace,
        model="note",
        version=version,
        sequence=version,
        created_at="2027-01-09T19:12:00Z",
        run=RunRef(namespace, "note", "uid"),
        input=ModelInput(320, 320),
        labels=("note",),
        thresholds=(0.5,),
        files=(ManifestFile(Role.BUNDLE, "model.tar.gz", keys.blob(blob), blob, 5),),
        edgetpu=EdgeTpu(compiled=False),
        channel=channel,
    )


def release(store: Store, namespace: str, version: int, *, channel: str = "stable") -> str:
    """A version with a blob of its own; the blob's key."""
    blob = f"{namespace}-{version}"
    put(store, keys.blob(blob), keys.signature(namespace, "note", version))
    store.put(keys.manifest(namespace, "note", version), to_json(manifest(namespace, version, blob, channel=channel)))
    return keys.blob(blob)


def listed(store: Store) -> set[str]:
    return {info.key for info in store.list("")}


def names(found: Scan) -> set[tuple[str, str]]:
    return {(str(item.kind), item.name) for item in found.groups()}


def prune(found: Scan, store: Store) -> None:
    for item in list(found.groups()):
        now = found.recheck(item)
        if now is not None:
            remove(store, now)


def test_unneeded_files_are_removed_and_all_others_stay(store: Store) -> None:
    put(store, "runs/team/gone/train/a1-x/result.json", "runs/team/gone/logs/train-a1-x/00000.log")
    put(store, "runs/team/over/export/a1-x/report", "runs/team/lately/export/a1-x/report")
    put(store, "runs/team/active/train/checkpoints/best", "runs/other/gone/train/a1-x/result.json")
    put(store, "runs/team/start/train/checkpoints/best")
    put(store, "cache/team/datasets/aa/dataset.json", "cache/team/datasets/aa/train-0")
    put(store, "cache/team/datasets/bb/dataset.json", "cache/other/datasets/cc/dataset.json")
    put(store, "datasets/team/a.tar", "weights/w.h5", "devices/team/note/pi.json", keys.blob("orphan"))
    put(store, "harvest/team/pi/1.jpg", "harvest/team/pi/1.json", "harvest/other/pi/1.jpg")
    mine, theirs = release(store, "team", 1), release(store, "other", 1)
    before = listed(store)
    runs = [
        run("over", ended_days_ago=-1),
        run("lately", ended_days_ago=-20),
        run("active", outputs=frozenset({"cache/team/datasets/bb/dataset.json"}), starts_from="runs/team/start/x"),
    ]
    found = scan(store, runs)
    assert names(found) == {
        ("run", "runs/team/gone/"),
        ("run", "runs/team/over/"),
        ("conversion", "cache/team/datasets/aa/"),
        ("blob", keys.blob("orphan")),
        ("harvest", "harvest/team/pi/"),
    }
    assert listed(store) == before
    prune(found, store)
    gone = ("runs/team/gone/", "runs/team/over/", "cache/team/datasets/aa/", keys.blob("orphan"), "harvest/team/")
    assert listed(store) == {key for key in before if not key.startswith(gone)}
    assert {mine, theirs} < listed(store)
    assert names(scan(store, runs)) == set()


def test_no_young_file_is_removed(store: Store) -> None:
    put(store, "runs/team/gone/train/a1-x/result.json", "cache/team/datasets/aa/dataset.json", keys.blob("orphan"))
    put(store, "harvest/team/pi/1.jpg")
    assert names(scan(store, later=29.9)) == set()
    # However short the limit: a publisher may be about to name the blob.
    assert ("blob", keys.blob("orphan")) not in names(scan(store, later=0.9, policy=RetentionPolicy(0.0)))


def test_a_conversion_stays_while_a_run_may_still_use_it(store: Store) -> None:
    put(store, "cache/team/datasets/aa/dataset.json")
    found = scan(store, [run("new", converted=False)])
    assert names(found) == set()
    assert "yet to convert" in found.notes[0]


def test_a_conversion_stays_while_a_release_names_it(store: Store) -> None:
    put(store, "cache/team/datasets/aa/dataset.json")
    named = replace(manifest("team", 1, "b"), provenance={"datasetDigest": "aa"})
    store.put(keys.manifest("team", "note", 1), to_json(named))
    assert names(scan(store)) == set()
    store.put(keys.manifest("team", "note", 1), b"{}")
    assert any(note.startswith("conversions stay") for note in notes_of(scan(store)))


def test_E14_of_versions_those_stay_that_somebody_may_need(store: Store) -> None:
    blobs = {
        version: release(store, "team", version, channel="beta" if version < 4 else "stable")
        for version in range(1, 11)
    }
    put_channel(store, "stable", 8)
    report = DeviceReport("team", "note", "pi", "running", "2027-01-09T19:12:00Z", "stable", version=5)
    store.put(keys.device_report("team", "note", "pi"), to_json(report))
    release(store, "other", 1)
    found = scan(store, [run("active", starts_from="note-v6")], policy=RetentionPolicy(DAY, keep=1))
    prune(found, store)
    # beta's two; 5 on a device; 6 a run's start; 8 stable's pointer and 7 below it; 10 the newest, 9 before it.
    left = {int(key.split("/")[3][1:]) for key in listed(store) if key.startswith("models/team/note/v")}
    assert left == {2, 3, 5, 6, 7, 8, 9, 10}
    assert {version for version, key in blobs.items() if key not in listed(store)} == {1, 4}
    assert keys.manifest("other", "note", 1) in listed(store)


def test_no_version_goes_unasked_or_within_30_days(store: Store) -> None:
    for version in range(1, 6):
        release(store, "team", version)
    assert names(scan(store, policy=RetentionPolicy(DAY))) == set()
    assert names(scan(store, later=29.9, policy=RetentionPolicy(DAY, keep=1))) == set()
    assert (
        len(names(scan(store, later=30.1, policy=RetentionPolicy(DAY, keep=1)))) == 6
    )  # three versions and their blobs


def put_channel(store: Store, name: str, version: int) -> None:
    pointer = Channel("team", "note", name, version, version, ManifestRef("k", "s", 1), "2027-01-09T19:12:01Z")
    store.put(keys.channel("team", "note", name), to_json(pointer))


def test_an_unreadable_manifest_keeps_everything_that_it_may_name(store: Store) -> None:
    put(store, keys.blob("orphan"))
    store.put(keys.manifest("other", "note", 1), b'{"made": "by a later version"}')
    found = scan(store, policy=RetentionPolicy(DAY, keep=1))
    assert names(found) == set()
    assert "blobs stay" in found.notes[0]
    store.put(keys.manifest("team", "note", 1), b"{}")
    assert any(note.startswith("versions stay") for note in notes_of(scan(store, policy=RetentionPolicy(DAY, keep=1))))


def notes_of(found: Scan) -> list[str]:
    assert list(found.groups()) == []
    return found.notes


def test_files_that_are_needed_meanwhile_stay(store: Store) -> None:
    put(store, keys.blob("team-7"), "runs/team/gone/a/b", "cache/team/datasets/aa/dataset.json")
    runs: list[KnownRun] = []
    found = scan(store, runs)
    planned = {item.kind: item for item in found.groups()}
    assert set(planned) == {Kind.BLOB, Kind.RUN, Kind.CONVERSION}
    store.put(keys.manifest("team", "note", 7), to_json(manifest("team", 7, "team-7")))
    runs.append(run("gone", converted=False))
    found = scan(store, runs)
    assert [found.recheck(item) for item in planned.values()] == [None, None, None]


@pytest.mark.parametrize("plan", ["made before", "made then"])
def test_a_release_is_whole_if_prune_runs_at_any_step_of_its_publication(tmp_path: Path, plan: str) -> None:
    folder = tmp_path / "store"
    store = DirStore(folder)
    given = exported_run(store, StoreSpec(StoreType.DIRECTORY, path=str(folder)), small=True)
    active = [KnownRun(given.run.uid, None, has_converted=True, outputs=frozenset())]
    publish_once(given, store, tmp_path / "first")
    step, operations = 0, 1
    while step < operations:
        forget_release(store, folder)
        planned = list(Scan(store, "local", RetentionPolicy(DAY), read_runs=lambda: active).groups())
        assert {item.kind for item in planned} == {Kind.BLOB}
        publisher = InterruptingStore(
            store, before=pruning_at(step, store, active, planned if plan == "made before" else [])
        )
        publish_once(given, publisher, tmp_path / f"work-{step}")
        published = from_json(Manifest, store.get(keys.manifest("local", "note", 1)))
        missing = [file.name for file in published.files if store.head(file.key) is None]
        assert not missing, f"pruned before operation {step} of {publisher.operations}"
        step, operations = step + 1, publisher.operations
    assert step > 12


def forget_release(store: Store, folder: Path) -> None:
    """As if somebody had removed the release by hand, long ago: its blobs are there, and nobody names them."""
    for info in list(store.list("models/")):
        store.delete(info.key)
    for info in list(store.list("blobs/")):
        os.utime(folder / info.key, (NOW - 90 * DAY, NOW - 90 * DAY))


def pruning_at(step: int, store: Store, runs: list[KnownRun], planned: list[Group]) -> Callable[..., None]:
    """Removes before that operation what was planned, or else what may go then."""

    def act(number: int, *_: object) -> None:
        if number == step:
            found = Scan(store, "local", RetentionPolicy(DAY), read_runs=lambda: runs)
            for item in planned or list(found.groups()):
                now = found.recheck(item)
                if now is not None:
                    remove(store, now)

    return act


@pytest.mark.api
def test_unfinished_uploads_are_aborted(minio: MinioServer, tmp_path: Path) -> None:
    spec = bucket_spec(minio, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")
    store, client = S3Store(spec), raw_client(spec)
    for key in ("runs/team/uid/x", "datasets/team/a.tar", "runs/other/uid/x", "somebody/else"):
        client.create_multipart_upload(Bucket=spec.bucket, Key=spec.prefix + key)
    client.create_multipart_upload(Bucket=spec.bucket, Key="outside")
    assert names(scan(store, later=0.5)) == set()
    found = scan(store, later=2)
    assert names(found) == {("upload", "runs/team/uid/x"), ("upload", "datasets/team/a.tar")}
    prune(found, store)
    assert {item.key for item in store.unfinished()} == {"runs/other/uid/x", "somebody/else"}
    store.abort("runs/team/uid/x", "never-was")


def test_a_known_run_is_read_from_its_object() -> None:
    ended, converted = datetime(2027, 1, 9, 19, 0, tzinfo=UTC), "cache/team/datasets/aa/dataset.json"
    status = {
        "phase": "Failed",
        "completionTime": rfc3339(ended),
        "stages": [{"name": "convert", "phase": "Succeeded", "outputs": [output(converted)]}],
    }
    start = {"type": "release", "releaseRef": {"name": "note-v1"}}
    body: dict[str, Any] = {
        "metadata": {"name": "note", "uid": "u", "creationTimestamp": "2027-01-09T18:00:00Z"},
        "spec": {"training": {"initFrom": start}},
        "status": status,
    }
    known = known_run(body)
    assert known == KnownRun(
        "u", ended.timestamp(), True, frozenset({"cache/team/datasets/aa/dataset.json"}), "note-v1"
    )
    # A retry that the operator has yet to see.
    body["metadata"]["annotations"] = {"atoll.dev/retry": "again"}
    assert not known_run(body).is_over
    assert not known_run({**body, "status": None}).is_over


def output(key: str) -> dict[str, Any]:
    return {"name": str(Stage.CONVERT), "key": key, "sha256": "a" * 64, "size": 1}
