"""Competing writers, as functions that a child process can import."""

import time
from pathlib import Path

from atoll_contract.store import open_store
from atoll_contract.store.base import PreconditionFailed
from atoll_contract.store.lease import Lease
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec


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


def hold_lease(spec: StoreSpec, key: str, holder: str, folder: str, forever: bool) -> None:
    """Hold a lease for a moment, or until this process is killed; fail where another process holds it, too."""
    alone = Path(folder) / "alone"
    lease = Lease(open_store(spec), key, holder, waits=lambda _: None, lost_after=1 if forever else 30, poll=0.05)
    with lease.held():
        # Exclusive creation: fails while another holder has its file.
        with alone.open("x"):
            (Path(folder) / f"held-{holder}").touch()
            time.sleep(600 if forever else 0.3)
        alone.unlink()
