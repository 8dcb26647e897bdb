"""When the bucket is polled, by a clock that the test owns; and a week without a network."""

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from atoll_contract.release import DeviceReport
from atoll_contract.store.base import ObjectInfo, StoreUnavailable
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.config import EdgeConfig, ModelConfig, Verify
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.models.download import PollResult, ReleaseDownloader
from atoll_edge.models.manager import ReleaseManager
from atoll_edge.models.poller import JITTER, MAX_BACKOFF_SECONDS, PollSchedule, ReleasePoller
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.topics import MatchMonitor
from support.edge_release import CHANNEL, MODEL, NAMESPACE, publish
from support.polling import wait_until
from support.s3 import write_credentials
from support.stub_server import stub_server

WEEK = 7 * 24 * 3600


def test_E8_devices_do_not_ask_at_the_same_moment() -> None:
    schedules = [PollSchedule(30.0, Random(seed)) for seed in range(500)]
    for schedule in schedules:
        schedule.succeeded(0.0)
    times = sorted(schedule.next_at for schedule in schedules)
    assert times[0] >= 30.0 * (1 - JITTER)
    assert times[-1] <= 30.0 * (1 + JITTER)
    assert times[-1] - times[0] > 10.0


def test_failures_are_followed_by_longer_waits_up_to_the_cap() -> None:
    schedule, now, waits = PollSchedule(30.0), 0.0, []
    for _ in range(40):
        schedule.failed(now)
        waits.append(schedule.next_at - now)
        now = schedule.next_at
    assert waits[0] <= 30.0 * (1 + JITTER)
    assert waits[3] > 150.0
    assert max(waits) <= MAX_BACKOFF_SECONDS * (1 + JITTER)


def test_no_poll_is_due_during_a_match() -> None:
    schedule = PollSchedule(30.0)
    assert not schedule.due(1000.0, locked=True)
    assert schedule.due(1000.0, locked=False)


class Unreachable(DirStore):
    """A bucket whose network is gone until `back`; counts the requests."""

    back = False
    requests = 0

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        self.requests += 1
        if not self.back:
            raise StoreUnavailable("no route to host")
        return super().get_if_changed(key, etag)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        if not self.back:
            raise StoreUnavailable("no route to host")
        return super().put(key, data, if_absent=if_absent, if_match=if_match)


@pytest.fixture
def loop(device: ReleaseStore) -> tuple[ReleasePoller, Unreachable]:
    store = Unreachable(device.root.parent / "bucket")
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.DIGEST_ONLY)
    fetcher = ReleaseDownloader(store, device, expected, CHANNEL, canary=lambda *_, **__: None)
    report = DeviceReport(NAMESPACE, MODEL, "pi", "Active", "1970-01-01T00:00:00Z", CHANNEL)
    return ReleasePoller(fetcher, PollSchedule(30.0), report=lambda: report, report_seconds=60.0), store


def test_E7_after_a_week_offline_the_newest_release_comes_and_none_between(
    loop: tuple[ReleasePoller, Unreachable], bucket: DirStore, device: ReleaseStore
) -> None:
    turns, store = loop
    for version in range(1, 8):
        newest = publish(bucket, version)
    step = 60.0
    for number in range(int(WEEK / step)):
        turns.step(number * step)
    # Backed off: a request in five minutes at most, and no report kept for each that was not sent.
    assert store.requests <= WEEK / (MAX_BACKOFF_SECONDS * (1 - JITTER))
    assert turns.status.last_result == "no route to host"
    store.back = True
    pending = store.requests
    turns.step(WEEK + MAX_BACKOFF_SECONDS * 2)
    assert store.requests == pending + 1
    assert device.read().candidate == newest.sha256
    assert turns.status.last_result == PollResult.STAGED
    assert len(list((device.root / "blobs" / "sha256").iterdir())) == len(newest.manifest.files)
    assert bucket.head(f"devices/{NAMESPACE}/{MODEL}/pi.json") is not None


def test_O39_the_status_says_during_the_first_poll_that_the_bucket_does_not_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stub_server(200) as gone:
        pass
    keys = write_credentials(tmp_path / "keys", "AKIDEXAMPLE", "secret")
    store = StoreSpec(StoreType.S3, bucket="frc", endpoint=gone.url, credentials_dir=str(keys), patience_seconds=600)
    config = EdgeConfig(
        state_dir=str(tmp_path / "state"),
        model=ModelConfig(NAMESPACE, MODEL, store, verify=Verify.DIGEST_ONLY, match_lock=False),
    )
    detector, match = cast(DetectorManager, None), cast(MatchMonitor, None)
    manager = ReleaseManager(config, detector, match, cast(Metrics, SimpleNamespace(swaps=None, sync=None)))
    try:
        assert manager.poller is not None
        manager.poller.start()
        wait_until(lambda: manager.sync_status().last_result is not None, what="a word on the bucket")
        told = manager.sync_status()
        manager.poller.stop()
    finally:
        manager.device.unlock()
    assert "trying again for up to 600 s" in (told.last_result or "")
    assert gone.url in (told.last_result or "")
    assert told.seconds_since_success is None
    assert len([record for record in caplog.records if "trying again" in record.getMessage()]) == 1


def test_an_unchanged_channel_is_not_read_again(loop: tuple[ReleasePoller, Unreachable], bucket: DirStore) -> None:
    turns, store = loop
    store.back = True
    publish(bucket, 1)
    turns.step(0.0)
    turns.step(100.0)
    assert turns.status.last_result == PollResult.UNCHANGED
    assert turns.status.desired_sequence == 1
