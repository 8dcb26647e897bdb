"""The releases of a store as their manifests, channel pointers and devices' reports show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.errors import IntegrityError
from atoll_contract.manifest import Channel, DeviceReport, Manifest
from atoll_contract.store import ObjectInfo, ObjectNotFound, Store
from atoll_operator.pruning.versions import InUse, Version


class Unreadable(IntegrityError):
    """A document that may hold on to something cannot be read, so that nobody knows what it needs."""


class Catalog:
    """Reads each manifest once: it never changes, and there may be many."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # By key and ETag.
        self._manifests: dict[tuple[str, str], Manifest] = {}

    def models(self, namespace: str, starts: frozenset[str]) -> Iterator[tuple[list[Version], InUse]]:
        """The versions of each model of the namespace, and what holds on to them.

        Raises:
            Unreadable: a manifest, a pointer or a report.
        """
        listed = list(self._store.list(keys.models_prefix(namespace)))
        by_model: dict[str, list[Version]] = defaultdict(list)
        for version in self.versions(listed):
            by_model[version.manifest.model].append(version)
        for model, versions in sorted(by_model.items()):
            pointers = self._documents(Channel, listed, f"{keys.model_prefix(namespace, model)}channels/")
            folder = f"{keys.device_reports_prefix(namespace)}{model}/"
            reports = self._documents(DeviceReport, self._store.list(folder), folder)
            devices = {number for report in reports for number in (report.version, report.desired_version) if number}
            current = {pointer.channel: pointer.version for pointer in pointers}
            yield versions, InUse(current, frozenset(devices), starts)

    def versions(self, listed: Iterable[ObjectInfo]) -> list[Version]:
        """The versions whose manifests are among these objects.

        Raises:
            Unreadable: a manifest.
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
        """The document; None where it was removed meanwhile."""
        try:
            return from_json(cls, self._store.get(key))
        except ObjectNotFound:
            return None
        except DecodeError as error:
            raise Unreadable(f"{self._store.url}: {key}: {error}") from None
