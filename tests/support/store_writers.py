"""Competing writers, as functions that a child process can import."""

from pathlib import Path

from atoll_contract.stage import StoreSpec
from atoll_contract.store import open_store
from atoll_contract.store.base import PreconditionFailed
from atoll_contract.store.s3 import S3Store


def increment(spec: StoreSpec, times: int, key: str = "counter") -> None:
    """Add one to the number at `key`, `times` times, by compare and swap."""
    store = open_store(spec)
    for _ in range(times):
        while True:
            found = store.get_if_changed(key, None)
            assert found is not None
            try:
                store.put(key, str(int(found[0]) + 1).encode(), if_match=found[1])
                break
            except PreconditionFailed:
                continue


def upload_file(spec: StoreSpec, key: str, path: str, part_bytes: int) -> None:
    """Upload in parts of `part_bytes`."""
    S3Store(spec, part_bytes=part_bytes).upload(key, Path(path))
