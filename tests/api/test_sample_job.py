"""What the quick start's Job does, against a real S3 server: bucket and file are there whenever that comes up."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.store import open_store
from atoll_contract.store.base import StoreForbidden, StoreUnavailable
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_stages.sample.__main__ import main
from atoll_stages.sample.put import put_sample
from support.minio import MinioServer

pytestmark = pytest.mark.api

KEY = "datasets/local/sample.tar"


@pytest.fixture
def server() -> Iterator[MinioServer]:
    with MinioServer() as running:
        yield running


def spec_of(server: MinioServer, folder: Path, *, secret: str = "") -> StoreSpec:
    (folder / "AWS_ACCESS_KEY_ID").write_text(server.access_key, encoding="utf-8")
    (folder / "AWS_SECRET_ACCESS_KEY").write_text(secret or server.secret_key, encoding="utf-8")
    return StoreSpec(type=StoreType.S3, bucket="atoll", endpoint=server.endpoint, credentials_dir=str(folder))


def test_bucket_and_file_are_made_once(server: MinioServer, tmp_path: Path) -> None:
    spec, file = spec_of(server, tmp_path), tmp_path / "sample.tar"
    file.write_bytes(b"pictures")
    assert put_sample(spec, key=KEY, draw=lambda: file, wait_seconds=30).startswith("put 8 bytes")
    file.write_bytes(b"other pictures")
    assert put_sample(spec, key=KEY, draw=lambda: file, wait_seconds=30).endswith("is there already")
    assert open_store(spec).get(KEY) == b"pictures"


def test_it_waits_for_a_server_that_is_still_starting(server: MinioServer, tmp_path: Path) -> None:
    spec, file = spec_of(server, tmp_path), tmp_path / "sample.tar"
    file.write_bytes(b"pictures")
    server.stop()
    start = threading.Timer(1.0, server.start)
    start.start()
    try:
        assert put_sample(spec, key=KEY, draw=lambda: file, wait_seconds=50).startswith("put")
    finally:
        start.join()


def test_a_server_that_never_comes_is_named(server: MinioServer, tmp_path: Path) -> None:
    spec = spec_of(server, tmp_path)
    server.stop()
    with pytest.raises(StoreUnavailable, match=server.endpoint):
        put_sample(spec, key=KEY, draw=lambda: tmp_path / "none", wait_seconds=0)


def test_wrong_keys_end_it_at_once_and_are_not_shown(server: MinioServer, tmp_path: Path) -> None:
    spec = spec_of(server, tmp_path, secret="canary-4711")
    with pytest.raises(StoreForbidden, match="atoll") as refused:
        put_sample(spec, key=KEY, draw=lambda: tmp_path / "none", wait_seconds=30)
    assert "canary-4711" not in refused.value.message


def test_the_job_draws_what_it_puts(server: MinioServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(server, tmp_path)
    command = ["put", f"--endpoint={server.endpoint}", "--bucket=atoll", f"--key={KEY}", f"--credentials={tmp_path}"]
    assert main([*command, "--pictures=3", "--size", "96", "72"]) == 0
    assert capsys.readouterr().out.startswith("put ")
    with tarfile.open(fileobj=io.BytesIO(open_store(spec).get(KEY))) as archive:
        assert sum("/img/" in name for name in archive.getnames()) == 3
    server.stop()
    assert main([*command, "--wait-seconds=0"]) == 1
    assert server.endpoint in capsys.readouterr().err
