"""A bucket in a folder, a device's store, a signing key, and a fetcher between them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll_contract.signing import KeyPair, generate_key, sign
from atoll_contract.store.directory import DirStore
from atoll_edge.config import Verify
from atoll_edge.models.download import ReleaseFetcher
from atoll_edge.models.release_store import DeviceStore
from atoll_edge.models.verify import Expectation
from support.edge_release import CHANNEL, MODEL, NAMESPACE


@pytest.fixture
def bucket(tmp_path: Path) -> DirStore:
    return DirStore(tmp_path / "bucket")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceStore]:
    store = DeviceStore(tmp_path / "device")
    store.hold()
    yield store
    store.release_hold()


@pytest.fixture(scope="session")
def key() -> KeyPair:
    return generate_key()


@pytest.fixture
def signed(key: KeyPair) -> Callable[[bytes], bytes]:
    return lambda data: sign(data, key.private_pem)


@pytest.fixture
def fetcher(bucket: DirStore, device: DeviceStore, key: KeyPair) -> ReleaseFetcher:
    expected = Expectation(NAMESPACE, MODEL, Verify.REQUIRED, lambda: (key.public_pem,))
    return ReleaseFetcher(bucket, device, expected, CHANNEL)
