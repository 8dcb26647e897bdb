"""What makes two runs of one name the same: their settings, their stores, and what the keys of their data sets hold.

Paths are no part of it, so that a store may be moved or copied, and `--data` may be left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll_cli.local.runfile import RunFile
from atoll_cli.local.state import RunRecord
from atoll_cli.local.uploads import Upload
from atoll_contract.document import replace, to_dict
from atoll_contract.files import file_sha256
from atoll_contract.store import open_store
from atoll_contract.store.base import Store, StoreError
from atoll_operator.api.decode import object_store
from atoll_operator.api.object_store import ObjectStoreSpec
from atoll_operator.api.validation import check
from atoll_operator.jobs.build_inputs import MUTABLE
from atoll_operator.jobs.stage_input import relative_key, store_spec

# By `<ObjectStore>/<key>`: `sha256:<hex>`, or `etag:<ETag>` of an object of a bucket whose sha256 is not known there.
Inputs = Mapping[str, str]

_MAX_SHOWN = 5
_MAX_VALUE = 60
# Data sets may lie in other buckets, and the run itself tells what is wrong with those.
_RETRY_TIMEOUT = 5.0
_NOTHING = "nothing"


def read_inputs(file: RunFile) -> dict[str, str]:
    """The digests of what the keys of the run's data sets hold now. A key that holds nothing, or cannot be read, is
    left out."""
    found: dict[str, str] = {}
    for name, key in _sources(file):
        spec = replace(store_spec(file.stores[name]), patience_seconds=_RETRY_TIMEOUT)
        try:
            store = open_store(spec)
            names = [info.key for info in store.list(key)] if key.endswith("/") else [key]
            for item in names:
                if digest := _digest(store, item, file.stores[name].directory):
                    found[f"{name}/{item}"] = digest
        except StoreError:
            continue
    return found


def merged_inputs(known: Inputs | None, now: Inputs, file: RunFile) -> Inputs:
    """The inputs of a run that goes on: those it began with, and of a data set that held nothing then, what is there
    now."""
    if known is None:
        return now
    empty = [source for source in _sources(file) if not any(_is_of(name, source) for name in known)]
    return {**known, **{name: digest for name, digest in now.items() if any(_is_of(name, item) for item in empty)}}


def changes(known: RunRecord, file: RunFile, now: Inputs, uploads: Sequence[Upload]) -> list[str]:
    """What distinguishes the run in `file` from the known one, as `field: old → new`; empty if they are the same.

    `now` is what the keys hold, and `uploads` what `--data` is about to put there.
    """
    return [
        *differences("spec", _fixed_spec(known.document), _fixed_spec(file.document)),
        *_moved_stores(known, file),
        *_changed_data(known.inputs, file, now, uploads),
    ]


def describe_changes(found: Sequence[str]) -> str:
    """The first few changes, and how many more there are."""
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    return ", ".join(found[:_MAX_SHOWN]) + more


def _fixed_spec(document: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without what may change on a run, and with the defaults of this version: a field that is new in it is no
    difference."""
    plain = {**to_dict(document), "metadata": {"name": document["metadata"]["name"]}}
    checked = check(plain)
    spec = (plain if checked.problems else checked.value)["spec"]
    return {name: value for name, value in spec.items() if name not in MUTABLE}


def _sources(file: RunFile) -> Iterator[tuple[str, str]]:
    """The ObjectStore and the key of each data set."""
    for number, dataset in enumerate(file.spec.datasets):
        name = dataset.object_store or file.spec.object_store
        field = f"spec.datasets[{number}].key"
        yield name, relative_key(dataset.key, store=store_spec(file.stores[name]), field=field)


def _is_of(name: str, source: tuple[str, str]) -> bool:
    """Whether the input is the data set, or below its folder."""
    path = "/".join(source)
    return name == path or (path.endswith("/") and name.startswith(path))


def _digest(store: Store, key: str, directory: Path | None) -> str | None:
    info = store.head(key)
    if info is None:
        return None
    if directory is not None:
        return f"sha256:{file_sha256(directory / key)}"
    return f"sha256:{info.sha256}" if info.sha256 is not None else f"etag:{info.etag}"


def differences(path: str, old: Any, new: Any) -> Iterator[str]:
    """Where two values differ, as `field: old → new`; `path` is the field that holds them."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from differences(f"{path}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(f"{path}[{number}]", before, after)
    elif old != new:
        yield f"{path}: {_shown(old)} → {_shown(new)}"


def _shown(value: Any) -> str:
    if value is None:
        return _NOTHING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _moved_stores(known: RunRecord, file: RunFile) -> Iterator[str]:
    """A record of an earlier version does not have its stores."""
    for name, store in file.stores.items():
        if known.stores is None:
            return
        document = known.stores.get(name)
        old = _location(object_store(document)) if document is not None else _FOLDER
        if old != _location(store):
            yield f"ObjectStore {name}: {old} → {_location(store)}"


_FOLDER = "a folder"


def _location(store: ObjectStoreSpec) -> str:
    """Where the objects are, without what may differ between machines: paths, endpoints and credentials."""
    return _FOLDER if store.directory is not None else f"bucket {store.bucket}/{store.prefix}"


def _changed_data(known: Inputs | None, file: RunFile, now: Inputs, uploads: Sequence[Upload]) -> Iterator[str]:
    own = file.spec.object_store
    after = dict(now)
    for upload in uploads:
        name = f"{own}/{relative_key(upload.key, store=store_spec(file.own_store), field='--data')}"
        if not upload.is_stored:
            after[name] = f"sha256:{upload.sha256}"
        # A record of an earlier version has no digests: the store holds what the run read.
        sources = [source for source in _sources(file) if _is_of(name, source)]
        is_new = known is not None and name not in known
        if is_new and any(_is_of(item, source) for source in sources for item in known or ()):
            yield f"{upload.key}: {_NOTHING} → {_short(after[name])}"
    before = now if known is None else known
    for name, digest in before.items():
        if name in after and after[name] != digest:
            yield f"what {name.partition('/')[2]} holds: {_short(digest)} → {_short(after[name])}"


def _short(digest: str) -> str:
    """`sha256 0123456789ab`: enough to tell two from each other."""
    kind, _, value = digest.partition(":")
    return f"{kind} {value[:12]}"
