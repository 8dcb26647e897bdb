"""S8 on the chart's own store: versitygw answers an access key that it does not know with HTTP 404, and HEAD without a
word. A stage, a device and a store say that the key is wrong, and never that the bucket is empty."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_contract.document import from_json, replace, to_json
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.release import DeviceReport
from atoll_contract.stage import ENV_TERMINATION_LOG
from atoll_contract.stage_result import parse_result
from atoll_contract.store.base import StoreError
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from atoll_contract.tool_reports import StoreCheck
from atoll_edge.config import Verify
from atoll_edge.models.download import ReleaseDownloader
from atoll_edge.models.poller import PollSchedule, ReleasePoller
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from atoll_stages.store_check import main as store_check
from support.faulted_store import Clock
from support.s3 import bucket_spec, write_credentials
from support.stage_process import run_stage_process
from support.versitygw import VersityServer

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def server() -> Iterator[VersityServer]:
    with VersityServer() as started:
        yield started


@pytest.fixture
def spec(server: VersityServer, tmp_path: Path) -> StoreSpec:
    return bucket_spec(server, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")


@pytest.fixture
def unknown(spec: StoreSpec, tmp_path: Path) -> StoreSpec:
    """The same bucket, with an access key that the server does not know."""
    S3Store(spec).put("models/a", b"there")
    return replace(spec, credentials_dir=str(write_credentials(tmp_path / "unknown", "nobody", "secret")))


OPERATIONS: dict[str, Callable[[S3Store], object]] = {
    "head": lambda store: store.head("models/a"),
    "head-missing": lambda store: store.head("models/none"),
    "get": lambda store: store.get("models/a"),
    "poll": lambda store: store.get_if_changed("models/a", None),
    "list": lambda store: list(store.list("")),
    "put": lambda store: store.put("models/b", b""),
    "delete": lambda store: store.delete("models/a"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_S8_an_unknown_key_is_forbidden_whatever_is_asked(unknown: StoreSpec, name: str) -> None:
    clock = Clock()
    with pytest.raises(StoreError, match="XAdminUserNotFound") as caught:
        OPERATIONS[name](S3Store(unknown, backoff=clock.backoff()))
    assert caught.value.reason is Reason.STORAGE_FORBIDDEN
    assert "AWS_ACCESS_KEY_ID" in caught.value.message
    assert len(clock.slept) == 1


def test_S8_a_wrong_secret_is_forbidden(server: VersityServer, spec: StoreSpec, tmp_path: Path) -> None:
    wrong = replace(spec, credentials_dir=str(write_credentials(tmp_path / "wrong", server.access_key, "other")))
    for operation in OPERATIONS.values():
        with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
            operation(S3Store(wrong, backoff=Clock().backoff()))
        assert caught.value.reason is Reason.STORAGE_FORBIDDEN


def test_a_missing_object_and_a_missing_bucket_are_still_told_apart(spec: StoreSpec) -> None:
    assert S3Store(spec).head("models/none") is None
    with pytest.raises(StoreError) as caught:
        S3Store(replace(spec, bucket="test-none")).head("models/none")
    assert caught.value.reason is Reason.BUCKET_NOT_FOUND


@pytest.mark.timeout(180)
def test_S8_a_stage_with_an_unknown_key_ends_as_forbidden(unknown: StoreSpec, tmp_path: Path) -> None:
    code, output, message = run_stage_process(unknown, tmp_path, "ok")
    assert code == ExitCode.STORAGE_FORBIDDEN, output
    result = parse_result(message)
    assert result.reason is Reason.STORAGE_FORBIDDEN
    assert "XAdminUserNotFound" in result.message


def test_the_check_of_a_bucket_leaves_nothing_in_it(
    spec: StoreSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_TERMINATION_LOG, str(tmp_path / "log"))
    assert store_check([to_json(spec).decode(), "team"]) == 0
    report = from_json(StoreCheck, capsys.readouterr().out)
    assert report == from_json(StoreCheck, (tmp_path / "log").read_bytes())
    assert report.reason is Reason.COMPLETED
    assert report.clock_skew is not None
    assert abs(report.clock_skew) < 60
    assert list(S3Store(spec).list("")) == []


def test_S8_the_check_of_a_bucket_finds_an_unknown_key(unknown: StoreSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_check([to_json(unknown).decode(), "team"]) == ExitCode.STORAGE_FORBIDDEN
    report = from_json(StoreCheck, capsys.readouterr().out)
    assert report.reason is Reason.STORAGE_FORBIDDEN
    assert "XAdminUserNotFound" in report.message


def test_S8_a_device_with_an_unknown_key_says_so_and_counts_no_success(unknown: StoreSpec, tmp_path: Path) -> None:
    device = ReleaseStore(tmp_path / "device")
    device.lock()
    try:
        store = S3Store(unknown, backoff=Clock().backoff())
        downloader = ReleaseDownloader(store, device, ExpectedRelease("local", "note", Verify.DIGEST_ONLY), "stable")
        report = DeviceReport("local", "note", "pi", "NoModel", "1970-01-01T00:00:00Z", "stable")
        poller = ReleasePoller(downloader, PollSchedule(30.0), report=lambda: report, report_seconds=60.0)
        poller.step(0.0)
    finally:
        device.unlock()
    assert "XAdminUserNotFound" in (poller.status.last_result or "")
    assert poller.status.succeeded_at is None
