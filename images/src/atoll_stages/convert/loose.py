"""A dataset that lies in a store as loose files below a prefix: fetched into a folder, one file at a time."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from atoll_contract.archive_meter import size
from atoll_contract.archive_names import safe_name, shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import DatasetLimits
from atoll_contract.store import Store


def fetch_files(store: Store, prefix: str, folder: Path, *, limits: DatasetLimits, tick: Callable[[int], None]) -> str:
    """Download every file below `prefix`; the hex digest of their names and contents.

    Raises:
        DatasetError: DatasetUnsafe, a key leads outside the folder; DatasetTooLarge.
    """
    digest, total = hashlib.sha256(), 0
    for number, info in enumerate(store.list(prefix), start=1):
        name = safe_name(info.key.removeprefix(prefix).encode(), number=number, limits=limits)
        total += info.size
        if number > limits.members or total > limits.expanded_bytes or info.size > limits.member_bytes:
            raise DatasetError(
                Reason.DATASET_TOO_LARGE,
                f"{shown(prefix)} at file {number} {shown(name)}: {size(total)} so far; limits are {limits.members} "
                f"files, {size(limits.expanded_bytes)}, and {size(limits.member_bytes)} for each",
            )
        if not name:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fetched = store.download(info.key, path, etag=info.etag, transferred=tick)
        digest.update(f"{fetched.sha256}  {name}\n".encode())
    return digest.hexdigest()
