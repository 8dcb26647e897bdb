"""Scans a store for what may be removed, and checks each group again right before it is removed.

Only keys of one namespace are considered, except for blobs: those are shared, and stay while a manifest of any
namespace names them. What cannot be read is noted in `notes`, and everything that would depend on it stays.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from atoll_cli.local.state import known_runs, read_record
from atoll_cli.pruning.groups import (
    Group,
    Kind,
    KnownRun,
    ModelUse,
    RetentionPolicy,
    Version,
    blobs_of,
    conversion_group,
    datasets_of,
    format_days,
    known_run,
    make_group,
    run_group,
    version_groups,
    waits_to_convert,
)
from atoll_cli.store_access import StoreAccess
from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError
from atoll_contract.keys import RunRef
from atoll_contract.release import Channel, DeviceReport, Manifest
from atoll_contract.store.base import BLOB_GRACE_SECONDS, ObjectInfo, ObjectNotFound, Store, StoreForbidden
from atoll_contract.store.s3 import S3Store

# How long runs and manifests that were read count as current. A publisher writes a blob anew before its manifest, and
# the time of each object is read right before it is removed.
FRESH_SECONDS = 10.0


def scan_store(access: StoreAccess, policy: RetentionPolicy) -> Scan:
    """A scan of the store that knows the runs of its engine."""

    def read_runs() -> Iterator[KnownRun]:
        bodies = access.cluster.runs() if access.cluster else _local_runs(access.folder, access.namespace)
        return (known_run(body) for body in bodies)

    return Scan(access.store, access.namespace, policy, read_runs=read_runs)


def _local_runs(folder: Path | None, namespace: str) -> Iterator[Mapping[str, Any]]:
    assert folder is not None
    for run in known_runs(folder.resolve()):
        record = read_record(run) if run.namespace == namespace else None
        if record is not None:
            yield record.manifest


class Scan:
    """A scan of one namespace. `read_runs` reads the runs of the engine; `clock` is a parameter for tests."""

    def __init__(
        self,
        store: Store,
        namespace: str,
        policy: RetentionPolicy,
        *,
        read_runs: Callable[[], Iterable[KnownRun]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._policy = policy
        self._read_runs = read_runs
        self._clock = clock
        self._runs: Mapping[str, KnownRun] = {}
        self._runs_read = float("-inf")
        self._named: frozenset[str] | None = None
        self._named_read = float("-inf")
        self._inventory = ReleaseInventory(store)
        self.notes: list[str] = []

    def groups(self) -> Iterator[Group]:
        """Everything that may be removed now, in the order of removal."""
        versions = self._version_groups()
        yield from versions
        for uid, objects in self._folders(keys.runs_prefix(self._namespace)).items():
            yield from _optional(self._run_group(uid, objects))
        conversions = self._folders(keys.cached_datasets_prefix(self._namespace))
        if conversions and waits_to_convert(self._known().values()):
            self._note("conversions stay: a run has yet to convert, and may find its own among them")
        for digest, objects in conversions.items():
            yield from _optional(self._conversion_group(keys.cached_dataset(self._namespace, digest), objects))
        yield from self._blob_groups({name for item in versions for name in item.keys})
        for device, objects in self._folders(keys.harvests_prefix(self._namespace)).items():
            yield from _optional(self._harvest_group(keys.harvest_prefix(self._namespace, device), objects))
        yield from self._uploads()

    def recheck(self, found: Group) -> Group | None:
        """The group as it is now; None if it may not be removed any more."""
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
        classify = self._conversion_group if found.kind is Kind.CONVERSION else self._harvest_group
        return classify(found.name, objects)

    def _run_group(self, uid: str, objects: list[ObjectInfo]) -> Group | None:
        run = RunRef(self._namespace, "", uid)
        return run_group(run, objects, known=self._known(), policy=self._policy, now=self._clock())

    def _conversion_group(self, prefix: str, objects: list[ObjectInfo]) -> Group | None:
        try:
            released = datasets_of(self._inventory.versions(self._store.list(keys.models_prefix(self._namespace))))
        except UnreadableDocument as error:
            self._note(f"conversions stay: {error.message}")
            return None
        known = list(self._known().values())
        return conversion_group(prefix, objects, known=known, released=released, policy=self._policy, now=self._clock())

    def _harvest_group(self, prefix: str, objects: list[ObjectInfo]) -> Group | None:
        """The old files; a device keeps adding to its folder. Notes (.json) are removed before their images."""
        old = [info for info in objects if self._age(info) >= self._policy.older_than]
        if not old:
            return None
        why = f"harvested more than {format_days(self._policy.older_than)} ago"
        return make_group(Kind.HARVEST, prefix, why, old, first=".json")

    def _version_groups(self) -> list[Group]:
        if self._policy.keep is None:
            return []
        starts = frozenset(run.starts_from for run in self._known().values() if not run.is_over)
        groups: list[Group] = []
        try:
            for versions, use in self._inventory.models(self._namespace, starts):
                groups += version_groups(versions, use, policy=self._policy, now=self._clock())
        except UnreadableDocument as error:
            self._note(f"versions stay: {error.message}")
            return []
        return groups

    def _blob_groups(self, removed: Iterable[str]) -> Iterator[Group]:
        named = self._named_blobs(frozenset(removed))
        if named is not None:
            for info in self._store.list(keys.BLOBS):
                yield from _optional(self._blob_group(info, named))

    def _blob_group(self, info: ObjectInfo, named: frozenset[str]) -> Group | None:
        age = self._age(info)
        if info.key in named or age < max(self._policy.older_than, BLOB_GRACE_SECONDS):
            return None
        return make_group(Kind.BLOB, info.key, f"no manifest names it, {format_days(age)} old", [info])

    def _named_blobs(self, removed: frozenset[str]) -> frozenset[str] | None:
        """What the manifests of all namespaces name, except those in `removed`; None if one cannot be read."""
        try:
            listed = [info for info in self._store.list(keys.MODELS) if info.key not in removed]
            return blobs_of(self._inventory.versions(listed))
        except (StoreForbidden, UnreadableDocument) as error:
            self._note(f"blobs stay: {error.message}")
            return None

    def _uploads(self) -> Iterator[Group]:
        if not isinstance(self._store, S3Store):
            return  # a folder store removes those of killed writers when it is opened
        own = (*keys.own_prefixes(self._namespace), keys.BLOBS, keys.weights(""))
        for upload in self._store.unfinished():
            age = self._clock() - upload.begun
            if upload.key.startswith(own) and age >= BLOB_GRACE_SECONDS:
                why = f"an upload that broke off {format_days(age)} ago"
                yield Group(Kind.UPLOAD, upload.key, why, (upload.upload_id,), 0)

    def _folders(self, prefix: str) -> dict[str, list[ObjectInfo]]:
        """The objects below the prefix, by the next part of their keys."""
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


def _optional(found: Group | None) -> Iterator[Group]:
    return iter(() if found is None else (found,))


class UnreadableDocument(IntegrityError):
    """A document that may need other objects cannot be read, so that nobody knows which."""


class ReleaseInventory:
    """Reads the released versions of a store, and each manifest once: it never changes, and there may be many."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # By key and ETag.
        self._manifests: dict[tuple[str, str], Manifest] = {}

    def models(self, namespace: str, starts: frozenset[str]) -> Iterator[tuple[list[Version], ModelUse]]:
        """The versions of each model of the namespace, and what uses them; runs start from the releases `starts`.

        Raises:
            UnreadableDocument: a manifest, a channel or a device's report cannot be read.
        """
        listed = list(self._store.list(keys.models_prefix(namespace)))
        by_model: dict[str, list[Version]] = defaultdict(list)
        for version in self.versions(listed):
            by_model[version.manifest.model].append(version)
        for model, versions in sorted(by_model.items()):
            channels = self._documents(Channel, listed, f"{keys.model_prefix(namespace, model)}channels/")
            folder = f"{keys.device_reports_prefix(namespace)}{model}/"
            reports = self._documents(DeviceReport, self._store.list(folder), folder)
            devices = {number for report in reports for number in (report.version, report.desired_version) if number}
            yield versions, ModelUse({item.channel: item.version for item in channels}, frozenset(devices), starts)

    def versions(self, listed: Iterable[ObjectInfo]) -> list[Version]:
        """The versions whose manifests are among these objects.

        Raises:
            UnreadableDocument: a manifest cannot be read.
        """
        folders: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in listed:
            folders[info.key.rpartition("/")[0]].append(info)
        found = []
        for objects in folders.values():
            manifest = next((info for info in objects if info.key.endswith("/manifest.json")), None)
            if manifest is not None and (read := self._manifest(manifest)) is not None:
                found.append(Version(read, tuple(objects)))
        return found

    def _manifest(self, info: ObjectInfo) -> Manifest | None:
        known = (info.key, info.etag)
        if known not in self._manifests:
            read = self._read(Manifest, info.key)
            if read is None:
                return None
            self._manifests[known] = read
        return self._manifests[known]

    def _documents(self, cls: type[Any], listed: Iterable[ObjectInfo], prefix: str) -> list[Any]:
        chosen = [info.key for info in listed if info.key.startswith(prefix) and info.key.endswith(".json")]
        return [read for key in chosen if (read := self._read(cls, key)) is not None]

    def _read(self, cls: type[Any], key: str) -> Any:
        """The document; None if it was removed meanwhile."""
        try:
            return from_json(cls, self._store.get(key))
        except ObjectNotFound:
            return None
        except DecodeError as error:
            raise UnreadableDocument(f"{self._store.url}: {key}: {error}") from None


def remove(store: Store, found: Group) -> None:
    """Delete the objects of the group; one that is gone already is not an error."""
    for key in found.keys:
        if found.kind is Kind.UPLOAD:
            assert isinstance(store, S3Store)
            store.abort(found.name, key)
        else:
            store.delete(key)
