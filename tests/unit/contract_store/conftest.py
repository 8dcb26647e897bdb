"""The two stores under one contract: a folder, and a bucket of a real MinIO."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.store.base import Store
from atoll_contract.store.directory import DirStore
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from support.minio import MinioServer
from support.s3 import bucket_spec

# Small, so that tests of uploads in parts need no large files; S3's own least.
PART_BYTES = 5 * 2**20


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def s3_spec(minio: MinioServer, tmp_path: Path) -> StoreSpec:
    """A bucket of the test's own, with the credentials as files."""
    return bucket_spec(minio, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.api)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return DirStore(tmp_path / "store")
    spec: StoreSpec = request.getfixturevalue("s3_spec")
    return S3Store(spec, backoff=Backoff(total=20), part_bytes=PART_BYTES)
