"""Reading the bucket: which objects are reports, which are read again, which are ignored; and the age of a report."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from atoll_contract.store.base import StoreForbidden
from atoll_contract.store.directory import DirStore
from atoll_operator.devices import bucket as bucket_module
from atoll_operator.devices import reports
from atoll_operator.devices.bucket import ChannelReader
from atoll_operator.devices.reports import MAX_REPORT_BYTES, READERS, ReportAges, ReportReader, StoredReport
from support.device_reports import MODEL, NAMESPACE, REPORT, REPORTED, Clock, DeviceBucket


class CountingStore(DirStore):
    """A folder that records the reads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []

    def get(self, key: str, *, limit: int = 2**24) -> bytes:
        self.reads.append(key)
        return super().get(key, limit=limit)


@pytest.fixture
def bucket(tmp_path: Path) -> DeviceBucket:
    return DeviceBucket(tmp_path)


def test_each_device_is_found_with_the_buckets_time(bucket: DeviceBucket) -> None:
    bucket.report()
    bucket.report(device="pi-rear", at=REPORTED + 5)
    bucket.report(namespace="team-254", device="theirs")
    found = ReportReader(bucket.store, NAMESPACE).read()
    assert {stored.device: stored.modified_at for stored in found.by_device.values()} == {
        "pi-front": REPORTED,
        "pi-rear": REPORTED + 5,
    }
    assert found.by_device["pi-front"].report == REPORT
    assert found.complete


def test_an_empty_bucket_has_no_devices(bucket: DeviceBucket) -> None:
    bucket.folder.mkdir(exist_ok=True)
    assert ReportReader(bucket.store, NAMESPACE).read().by_device == {}


def test_only_changed_reports_are_read_again(bucket: DeviceBucket) -> None:
    first, second = bucket.report(), bucket.report(device="pi-rear")
    store = CountingStore(bucket.folder)
    reader = ReportReader(store, NAMESPACE)
    reader.read()
    assert sorted(store.reads) == sorted([first, second])
    store.reads.clear()
    bucket.report(device="pi-rear", state="RolledBack", at=REPORTED + 60)
    found = reader.read()
    assert store.reads == [second]
    report = found.by_device["pi-rear"].report
    assert report is not None
    assert report.state == "RolledBack"


def test_reports_are_read_side_by_side(bucket: DeviceBucket) -> None:
    for number in range(READERS):
        bucket.report(device=f"pi-{number}")
    together = threading.Barrier(READERS, timeout=20)

    class Slow(DirStore):
        def get(self, key: str, *, limit: int = 2**24) -> bytes:
            # Passed only when all of them are here at once.
            together.wait()
            return super().get(key, limit=limit)

    assert len(ReportReader(Slow(bucket.folder), NAMESPACE).read().by_device) == READERS


def test_a_bucket_that_fails_is_not_asked_for_all_the_rest(bucket: DeviceBucket) -> None:
    for number in range(10 * READERS):
        bucket.report(device=f"pi-{number}")
    asked = []

    class Broken(DirStore):
        def get(self, key: str, *, limit: int = 2**24) -> bytes:
            asked.append(key)
            time.sleep(0.02)
            raise StoreForbidden("no")

    with pytest.raises(StoreForbidden):
        ReportReader(Broken(bucket.folder), NAMESPACE).read()
    assert len(asked) <= 5 * READERS


def test_a_removed_report_is_gone(bucket: DeviceBucket) -> None:
    key = bucket.report()
    reader = ReportReader(bucket.store, NAMESPACE)
    reader.read()
    bucket.store.delete(key)
    assert reader.read().by_device == {}


def test_an_invalid_report_is_a_problem_of_its_device(bucket: DeviceBucket) -> None:
    bucket.report()
    bucket.raw(f"devices/{NAMESPACE}/{MODEL}/broken.json", b"{")
    bucket.raw(f"devices/{NAMESPACE}/{MODEL}/huge.json", b" " * (MAX_REPORT_BYTES + 1))
    found = ReportReader(bucket.store, NAMESPACE).read().by_device
    assert found["pi-front"].problem is None
    assert f"devices/{NAMESPACE}/{MODEL}/broken.json" in str(found["broken"].problem)
    assert str(MAX_REPORT_BYTES) in str(found["huge"].problem)


@pytest.mark.parametrize(
    "name", ["note/UPPER.json", "note/pi.txt", "note/deep/pi.json", "pi.json", f"{'m' * 41}/pi.json"]
)
def test_keys_that_name_no_device_are_ignored(bucket: DeviceBucket, name: str) -> None:
    key = bucket.raw(f"devices/{NAMESPACE}/{name}", b"{}")
    found = ReportReader(bucket.store, NAMESPACE).read()
    assert (found.by_device, found.ignored) == ({}, (key,))


def test_a_device_that_changed_its_model_is_shown_by_its_newest_report(bucket: DeviceBucket) -> None:
    bucket.report(model="apple", at=REPORTED + 10)
    bucket.report(model="zebra", at=REPORTED)
    assert ReportReader(bucket.store, NAMESPACE).read().by_device["pi-front"].model == "apple"


def test_no_more_reports_are_read_than_the_bound(bucket: DeviceBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_REPORTS", 2)
    for number in range(3):
        bucket.report(device=f"pi-{number}")
    found = ReportReader(bucket.store, NAMESPACE).read()
    assert sorted(found.by_device) == ["pi-0", "pi-1"]
    assert not found.complete


def test_a_channels_pointer_is_read_once_a_reconcile(bucket: DeviceBucket) -> None:
    bucket.channel(4)
    reader = ChannelReader(bucket.store)
    reader.begin()
    assert reader.newest(NAMESPACE, MODEL, "stable") == 4
    bucket.channel(5)
    assert reader.newest(NAMESPACE, MODEL, "stable") == 4
    reader.begin()
    assert reader.newest(NAMESPACE, MODEL, "stable") == 5
    assert reader.newest(NAMESPACE, MODEL, "beta") is None


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"version":1}'])
def test_a_damaged_pointer_gives_no_version(bucket: DeviceBucket, data: bytes) -> None:
    bucket.raw(f"models/{NAMESPACE}/{MODEL}/channels/stable.json", data)
    reader = ChannelReader(bucket.store)
    reader.begin()
    assert reader.newest(NAMESPACE, MODEL, "stable") is None


def test_a_pointer_that_may_not_be_read_gives_no_version(bucket: DeviceBucket) -> None:
    class Closed(DirStore):
        def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
            raise StoreForbidden("no")

    reader = ChannelReader(Closed(bucket.folder))
    reader.begin()
    assert reader.newest(NAMESPACE, MODEL, "stable") is None


def test_no_more_channels_are_read_than_the_bound(bucket: DeviceBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "MAX_CHANNELS", 1)
    bucket.channel(4)
    reader = ChannelReader(bucket.store)
    reader.begin()
    assert reader.newest(NAMESPACE, MODEL, "first") is None
    assert reader.newest(NAMESPACE, MODEL, "stable") is None


def stored(etag: str, modified_at: float) -> StoredReport:
    return StoredReport("pi", MODEL, etag, modified_at)


def test_a_report_ages_by_the_local_monotonic_clock() -> None:
    wall, clock = Clock(1000.0), Clock()
    ages = ReportAges(wall=wall, clock=clock)
    assert ages.age(stored("a", 940.0)) == 60.0
    clock.now, wall.now = 30.0, -5.0
    assert ages.age(stored("a", 940.0)) == 90.0
    assert ages.age(stored("b", 941.0)) == 0.0


def test_a_device_ages_although_the_buckets_clock_is_ahead() -> None:
    clock = Clock()
    ages = ReportAges(wall=Clock(1000.0), clock=clock)
    assert ages.age(stored("a", 99_000.0)) == 0.0
    clock.now = 400.0
    assert ages.age(stored("a", 99_000.0)) == 400.0


def test_a_changed_report_is_new_although_the_buckets_clock_is_behind() -> None:
    ages = ReportAges(wall=Clock(99_000.0), clock=Clock())
    assert ages.age(stored("a", 1000.0)) == 98_000.0
    assert ages.age(stored("b", 1060.0)) == 0.0
