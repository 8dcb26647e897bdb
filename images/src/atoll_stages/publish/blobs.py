"""Content-addressed files in the store: written once, and read back before anything names them."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from atoll_contract import keys
from atoll_contract.errors import IntegrityError
from atoll_contract.store import BLOB_GRACE_SECONDS, ObjectInfo, ObjectNotFound, Store
from atoll_stages.publish.files import ReleaseFile

logger = logging.getLogger(__name__)


def put_blobs(store: Store, files: Iterable[ReleaseFile], *, scratch: Path) -> None:
    """Put every file at the key of its digest, and read each back.

    Raises:
        IntegrityError: the store keeps giving other bytes than it was given.
    """
    for file in files:
        if _is_there(store, file, scratch=scratch):
            logger.info("%s is in the store already: %s", file.name, file.sha256)
            continue
        store.upload(keys.blob(file.sha256), file.path)
        _read_back(store, file, scratch=scratch)


def _is_there(store: Store, file: ReleaseFile, *, scratch: Path) -> bool:
    key = keys.blob(file.sha256)
    info = next((item for item in store.list(key) if item.key == key), None)
    if info is None or info.size != file.size or _may_be_pruned(info):
        return False
    try:
        _read_back(store, file, scratch=scratch)
    except (IntegrityError, ObjectNotFound) as error:
        logger.warning("the blob of %s is damaged and is written anew: %s", file.name, error)
        return False
    return True


def _may_be_pruned(info: ObjectInfo) -> bool:
    """Whether `atoll prune` may take the blob for a forgotten one before the manifest names it."""
    age = datetime.now(UTC).timestamp() - (info.modified_at or 0.0)
    return age > BLOB_GRACE_SECONDS / 2


def _read_back(store: Store, file: ReleaseFile, *, scratch: Path) -> None:
    # Not every server checks what it is sent: what devices will read is what counts.
    copy = scratch / "read-back"
    try:
        store.download(keys.blob(file.sha256), copy, sha256=file.sha256)
    finally:
        copy.unlink(missing_ok=True)
