"""Looks through a store for what may go, and looks again right before it goes.

Only keys of one namespace are judged, but for blobs: those are shared, and stay while a manifest of any namespace names
them. What cannot be read is said in `notes`, and what would depend on it stays.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from atoll_cli.pruning.groups import (
    Catalog,
    Group,
    Kind,
    KnownRun,
    Limits,
    Unreadable,
    blobs_of,
    conversion_group,
    datasets_of,
    days,
    group,
    run_group,
    version_groups,
    waits_to_convert,
)
from atoll_contract import keys
from atoll_contract.store.base import BLOB_GRACE_SECONDS, ObjectInfo, Store, StoreForbidden
from atoll_contract.store.s3 import S3Store

# How long runs and manifests count as just read. A publisher writes a blob anew before its manifest, and the time of
# each object is looked at right before it goes.
FRESH_SECONDS = 10.0


class Survey:
    """One store and namespace. `read_runs` asks the engine for its runs; `clock` is a parameter for tests."""

    def __init__(
        self,
        store: Store,
        namespace: str,
        limits: Limits,
        *,
        read_runs: Callable[[], Iterable[KnownRun]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._limits = limits
        self._read_runs = read_runs
        self._clock = clock
        self._runs: Mapping[str, KnownRun] = {}
        self._runs_read = float("-inf")
        self._named: frozenset[str] | None = None
        self._named_read = float("-inf")
        self._catalog = Catalog(store)
        self.notes: list[str] = []

    def groups(self) -> Iterator[Group]:
        """All that may go now, in the order in which it may."""
        versions = self._version_groups()
        yield from versions
        for uid, objects in self._folders(keys.runs_prefix(self._namespace)).items():
            yield from _given(self._run_group(uid, objects))
        conversions = self._folders(keys.cached_datasets_prefix(self._namespace))
        if conversions and waits_to_convert(self._known().values()):
            self._note("conversions stay: a run has yet to convert, and may find its own among them")
        for digest, objects in conversions.items():
            yield from _given(self._conversion_group(keys.cached_dataset(self._namespace, digest), objects))
        yield from self._blob_groups({name for item in versions for name in item.keys})
        for device, objects in self._folders(keys.harvests_prefix(self._namespace)).items():
            yield from _given(self._harvest_group(keys.harvest_prefix(self._namespace, device), objects))
        yield from self._uploads()

    def again(self, found: Group) -> Group | None:
        """The group as it is now; None where it may not go any more."""
        if found.kind is Kind.VERSION:
            return next((item for item in self._version_groups() if item.name == found.name), None)
        if found.kind is Kind.BLOB:
            objects = [info for info in self._store.list(found.name) if info.key == found.name]
            if time.monotonic() - self._named_read > FRESH_SECONDS:
                self._named, self._named_read = self._named_blobs(frozenset()), time.monotonic()
            return self._blob_group(objects[0], self._named) if objects and self._named is not None else None
        if found.kind is Kind.UPLOAD:
            return found
        objects = list(self._store.list(found.name))
        if not objects:
            return None
        if found.kind is Kind.RUN:
            return self._run_group(found.name.split("/")[-2], objects)
        judge = self._conversion_group if found.kind is Kind.CONVERSION else self._harvest_group
        return judge(found.name, objects)

    def _run_group(self, uid: str, objects: list[ObjectInfo]) -> Group | None:
        return run_group(self._namespace, uid, objects, known=self._known(), limits=self._limits, now=self._clock())

    def _conversion_group(self, prefix: str, objects: list[ObjectInfo]) -> Group | None:
        try:
            released = datasets_of(self._catalog.versions(self._store.list(keys.models_prefix(self._namespace))))
        except Unreadable as error:
            self._note(f"conversions stay: {error.message}")
            return None
        known = self._known().values()
        return conversion_group(prefix, objects, known=known, released=released, limits=self._limits, now=self._clock())

    def _harvest_group(self, prefix: str, objects: list[ObjectInfo]) -> Group | None:
        """Those that are old: a device goes on adding to its folder. Notes (.json) go before their pictures."""
        old = [info for info in objects if self._age(info) >= self._limits.older_than]
        if not old:
            return None
        why = f"harvested more than {days(self._limits.older_than)} ago"
        return group(Kind.HARVEST, prefix, why, old, first=".json")

    def _version_groups(self) -> list[Group]:
        if self._limits.keep is None:
            return []
        starts = frozenset(run.starts_from for run in self._known().values() if not run.is_over)
        groups: list[Group] = []
        try:
            for versions, in_use in self._catalog.models(self._namespace, starts):
                groups += version_groups(versions, in_use, limits=self._limits, now=self._clock())
        except Unreadable as error:
            self._note(f"versions stay: {error.message}")
            return []
        return groups

    def _blob_groups(self, going: Iterable[str]) -> Iterator[Group]:
        named = self._named_blobs(frozenset(going))
        if named is not None:
            for info in self._store.list(keys.BLOBS):
                yield from _given(self._blob_group(info, named))

    def _blob_group(self, info: ObjectInfo, named: frozenset[str]) -> Group | None:
        age = self._age(info)
        if info.key in named or age < max(self._limits.older_than, BLOB_GRACE_SECONDS):
            return None
        return group(Kind.BLOB, info.key, f"no manifest names it, {days(age)} old", [info])

    def _named_blobs(self, going: frozenset[str]) -> frozenset[str] | None:
        """What the manifests of all namespaces name, but those in `going`; None where not all can be read."""
        try:
            listed = [info for info in self._store.list(keys.MODELS) if info.key not in going]
            return blobs_of(self._catalog.versions(listed))
        except (StoreForbidden, Unreadable) as error:
            self._note(f"blobs stay: {error.message}")
            return None

    def _uploads(self) -> Iterator[Group]:
        if not isinstance(self._store, S3Store):
            return  # a folder store forgets those of killed writers when it is opened
        own = (*keys.own_prefixes(self._namespace), keys.BLOBS, keys.weights(""))
        for upload in self._store.unfinished():
            age = self._clock() - upload.begun
            if upload.key.startswith(own) and age >= BLOB_GRACE_SECONDS:
                why = f"an upload that broke off {days(age)} ago"
                yield Group(Kind.UPLOAD, upload.key, why, (upload.upload_id,), 0, upload.begun)

    def _folders(self, prefix: str) -> dict[str, list[ObjectInfo]]:
        """What lies below the prefix, by the next part of the key."""
        folders: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in self._store.list(prefix):
            name, slash, _ = info.key.removeprefix(prefix).partition("/")
            if slash:
                folders[name].append(info)
        return folders

    def _known(self) -> Mapping[str, KnownRun]:
        now = time.monotonic()
        if now - self._runs_read > FRESH_SECONDS:
            self._runs = {run.uid: run for run in self._read_runs()}
            self._runs_read = now
        return self._runs

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _age(self, info: ObjectInfo) -> float:
        return self._clock() - (info.modified_at or self._clock())


def _given(found: Group | None) -> Iterator[Group]:
    return iter(() if found is None else (found,))


def remove(store: Store, found: Group) -> None:
    """Delete what is in the group; what is gone already is fine."""
    for key in found.keys:
        if found.kind is Kind.UPLOAD:
            assert isinstance(store, S3Store)
            store.abort(found.name, key)
        else:
            store.delete(key)
