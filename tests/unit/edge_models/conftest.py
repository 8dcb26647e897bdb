"""A bucket in a folder, a device's releases, a signing key, and a downloader between them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_contract.store.directory import DirStore
from atoll_edge.config import Verify
from atoll_edge.models.download import ReleaseDownloader
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.verify import ExpectedRelease
from support.edge_release import CHANNEL, MODEL, NAMESPACE


@pytest.fixture
def bucket(tmp_path: Path) -> DirStore:
    return DirStore(tmp_path / "bucket")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[ReleaseStore]:
    store = ReleaseStore(tmp_path / "device")
    store.lock()
    yield store
    store.unlock()


@pytest.fixture(scope="session")
def key() -> KeyPair:
    return generate_key()


@pytest.fixture
def signed(key: KeyPair) -> Callable[[bytes], bytes]:
    return lambda data: sign(data, key.private_pem)


@pytest.fixture
def fetcher(bucket: DirStore, device: ReleaseStore, key: KeyPair) -> ReleaseDownloader:
    expected = ExpectedRelease(NAMESPACE, MODEL, Verify.REQUIRED, lambda: (key.public_pem,))
    return ReleaseDownloader(bucket, device, expected, CHANNEL)
