"""The object store: `open_store` returns the implementation, a folder (`DirStore`) or S3 (`S3Store`)."""

from pathlib import Path

from atoll_contract.store.base import Store
from atoll_contract.store.outage import OnOutage
from atoll_contract.store_spec import StoreSpec, StoreType


def directory_store(path: Path) -> StoreSpec:
    """The spec of a store in a folder."""
    return StoreSpec(type=StoreType.DIRECTORY, path=str(path))


def open_store(spec: StoreSpec, on_outage: OnOutage | None = None) -> Store:
    """The store that `spec` names. With `on_outage` the first failed try of an outage is logged and told at once, and
    not only after all tries.

    Raises:
        SpecError: the spec lacks a path or bucket.
    """
    if spec.type is StoreType.DIRECTORY:
        from atoll_contract.store.directory import DirStore

        return DirStore.from_spec(spec)
    from atoll_contract.store.s3 import S3Store

    return S3Store.from_spec(spec, on_outage)
