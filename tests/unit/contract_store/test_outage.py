"""A store that does not answer is told with the first failed try, and once."""

import logging
from pathlib import Path

import pytest

from atoll_contract.document import from_json
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.stage_result import StageResult, parse_line
from atoll_contract.store import open_store
from atoll_contract.store.base import StoreForbidden, StoreUnavailable
from atoll_contract.store.outage import OutageNotice
from atoll_contract.store.retry import Backoff, Retryable
from atoll_contract.store_spec import StoreSpec, StoreType
from support.s3 import write_credentials
from support.stage_process import run_stage_process
from support.stub_server import stub_server


@pytest.fixture
def unreachable(tmp_path: Path) -> StoreSpec:
    """A bucket at a port that nobody listens on."""
    with stub_server(200) as gone:
        pass
    folder = write_credentials(tmp_path / "keys", "AKIDEXAMPLE", "secret")
    return StoreSpec(StoreType.S3, bucket="frc", endpoint=gone.url, credentials_dir=str(folder), patience_seconds=15)


def test_O39_the_first_failed_try_is_told_before_the_last(
    unreachable: StoreSpec, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str | None] = []
    with pytest.raises(StoreUnavailable, match="tries in"):
        open_store(unreachable, told.append).get("models/a")
    assert len(told) == 1
    assert f"at {unreachable.endpoint}: cannot read 'models/a'" in (told[0] or "")
    assert (told[0] or "").endswith("; trying again for up to 15 s")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str | None] = []
    notice = OutageNotice(told.append, retry_timeout=180)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    backoff = Backoff(
        sleep=sleep, clock=lambda: clock[0], total=30, on_failure=notice.failed, on_success=notice.answered
    )

    def down() -> None:
        raise Retryable(StoreUnavailable("no route to host"))

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            backoff.call(down)
    assert told == ["no route to host; trying again for up to 180 s"]
    backoff.call(lambda: None)
    backoff.call(lambda: None)
    assert told[1:] == [None]
    with pytest.raises(StoreUnavailable):
        backoff.call(down)
    assert len(told) == 3
    assert len(caplog.records) == 3


def test_what_ends_after_few_tries_is_no_outage() -> None:
    told: list[str | None] = []
    OutageNotice(told.append, retry_timeout=180).failed(StoreForbidden("403"))
    assert told == []


@pytest.mark.timeout(180)
def test_O39_a_stage_says_in_log_and_progress_that_its_bucket_does_not_answer(
    unreachable: StoreSpec, tmp_path: Path
) -> None:
    code, output, message = run_stage_process(unreachable, tmp_path, "ok")
    assert code == ExitCode.STORAGE_UNAVAILABLE, output
    assert from_json(StageResult, message).reason is Reason.STORAGE_UNAVAILABLE
    lines = output.splitlines()
    warned = [line for line in lines if "WARNING atoll_contract.store.outage" in line]
    assert len(warned) == 1
    assert "trying again for up to 15 s" in warned[0]
    waits = [progress.waiting for line in lines if (progress := parse_line(line)) is not None]
    assert len(waits) == 1
    assert (waits[0] or "").startswith("s3://frc/")
