"""Folders and buckets to publish into."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_contract.store_spec import StoreSpec, StoreType
from support.minio import MinioServer
from support.s3 import bucket_spec


@pytest.fixture(scope="session")
def minio() -> Iterator[MinioServer]:
    with MinioServer() as server:
        yield server


@pytest.fixture
def folder_spec(tmp_path: Path) -> StoreSpec:
    return StoreSpec(StoreType.DIRECTORY, path=str(tmp_path / "store"))


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.api)])
def store_spec(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSpec:
    if request.param == "folder":
        spec: StoreSpec = request.getfixturevalue("folder_spec")
        return spec
    server: MinioServer = request.getfixturevalue("minio")
    return bucket_spec(server, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")
