"""The object store: `open_store` returns the implementation, a folder (`DirStore`) or S3 (`S3Store`)."""

from pathlib import Path

from atoll_contract.stage import StoreSpec, StoreType
from atoll_contract.store.base import Store


def directory_store(path: Path) -> StoreSpec:
    """The spec of a store in a folder."""
    return StoreSpec(type=StoreType.DIRECTORY, path=str(path))


def open_store(spec: StoreSpec) -> Store:
    """The store that `spec` names.

    Raises:
        SpecError: the spec lacks a path or bucket.
    """
    if spec.type is StoreType.DIRECTORY:
        from atoll_contract.store.directory import DirStore

        return DirStore.from_spec(spec)
    from atoll_contract.store.s3 import S3Store

    return S3Store.from_spec(spec)
