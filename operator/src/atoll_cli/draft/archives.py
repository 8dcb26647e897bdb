"""Finds the archives that a draft is for: files on this disk, or objects in the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll_cli.folders import archive_file, did_you_mean, stored_name
from atoll_contract import keys
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.store.base import Store

_MAX_LISTED = 10


@dataclass(frozen=True)
class Archive:
    """`path` is the file or folder on this disk, `key` where a run will read it. `stored`: whether the store has it
    there."""

    path: Path
    key: str
    stored: bool


def find_archives(names: Sequence[str], store: Store | None, namespace: str, *, scratch: Path) -> list[Archive]:
    """The archives that the user named, else the only archive of the namespace. Those in the store are downloaded
    into `scratch`; without a store only files on this disk are found.

    Raises:
        DatasetError: DatasetNotFound, there is no such file or key.
        SpecError: nothing was named and the store holds several archives, or two archives have the same name.
    """
    if not names and store is not None:
        stored = _keys(store, namespace)
        if len(stored) != 1:
            raise SpecError(f"name an archive: in {store.url} {_listed(stored, namespace)}")
        return [_download(store, stored[0], scratch / "0")]
    found = [_find(name, store, namespace, scratch / str(number)) for number, name in enumerate(names)]
    archive_keys = [item.key for item in found]
    twice = next((key for key in archive_keys if archive_keys.count(key) > 1), None)
    if twice is not None:
        raise SpecError(f"two archives would both be {twice} in the store; rename one of them")
    return found


def _find(name: str, store: Store | None, namespace: str, scratch: Path) -> Archive:
    path = Path(name)
    if path.exists():
        key = keys.dataset(namespace, stored_name(path))
        head = store.head(key) if store is not None else None
        return Archive(path, key, stored=head is not None and head.size == _packed_size(path))
    assert store is not None
    candidates = [item for item in (name, keys.dataset(namespace, name)) if _is_key(item)]
    key = next((item for item in candidates if store.head(item) is not None), "")
    if not key:
        listed = _listed(_keys(store, namespace), namespace)
        stored = [item.rpartition("/")[2] for item in _keys(store, namespace)]
        similar = did_you_mean(name, stored)
        message = f"there is no file {name} here, nor in {store.url} {listed}{similar}"
        raise DatasetError(Reason.DATASET_NOT_FOUND, message)
    return _download(store, key, scratch)


def _packed_size(path: Path) -> int:
    with archive_file(path) as file:
        return file.stat().st_size


def _download(store: Store, key: str, scratch: Path) -> Archive:
    # The name of the file is for messages only: archives are recognised by their content.
    scratch.mkdir(parents=True)
    path = scratch / key.rpartition("/")[2]
    store.download(key, path)
    return Archive(path, key, stored=True)


def _listed(stored: Sequence[str], namespace: str) -> str:
    if not stored:
        return f"(there is none under {keys.datasets_prefix(namespace)}; see atoll push)"
    more = f" and {len(stored) - _MAX_LISTED} more" if len(stored) > _MAX_LISTED else ""
    return f"(there are {', '.join(stored[:_MAX_LISTED])}{more})"


def _keys(store: Store, namespace: str) -> list[str]:
    return [info.key for info in store.list(keys.datasets_prefix(namespace))]


def _is_key(text: str) -> bool:
    parts = text.split("/")
    return all(parts) and not {".", ".."} & set(parts)
