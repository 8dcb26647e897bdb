"""A real S3 server behind a proxy that injects faults, and a store that sees only the proxy."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.store.s3 import S3Store
from support.faulted_store import Bench, Clock
from support.faultproxy import FaultProxy
from support.minio import MinioServer
from support.s3 import bucket_spec


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def bench(minio: MinioServer, tmp_path: Path) -> Iterator[Bench]:
    direct = bucket_spec(minio, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")
    with FaultProxy(minio.endpoint) as proxy:
        yield Bench(proxy, direct, Clock(), tmp_path)


@pytest.fixture
def store(bench: Bench) -> S3Store:
    return bench.open()
