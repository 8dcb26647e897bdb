"""Objects that go together, and the limits by which they do. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll_contract import keys
from atoll_contract.dataset import DATASET_NAME
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import Channel, DeviceReport, Manifest
from atoll_contract.stage import Stage
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, Store
from atoll_operator.api.status import DONE, Phase, parse_time, read_status
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION
from atoll_operator.lifecycle.retry import MAX_VALUE

DAY = 86400.0
# What no option shortens: a device may still be on its way to a release (fault E14).
RELEASE_AGE_SECONDS = 30 * DAY


class Kind(StrEnum):
    """In the order in which they go: what names other objects goes before them."""

    VERSION = "version"
    RUN = "run"
    CONVERSION = "conversion"
    BLOB = "blob"
    HARVEST = "harvest"
    UPLOAD = "upload"


@dataclass(frozen=True)
class Limits:
    """`older_than` in seconds. `keep` is how many versions of each model stay in any case; None: all of them."""

    older_than: float
    keep: int | None = None


@dataclass(frozen=True)
class Group:
    """`keys` in the order in which they go, so that what is left of a group half gone is never taken for whole."""

    kind: Kind
    name: str
    why: str
    keys: tuple[str, ...]
    size: int
    # When the last of them was written, in seconds since 1970.
    newest: float


def group(kind: Kind, name: str, why: str, objects: Sequence[ObjectInfo], *, first: str = "") -> Group:
    """A group of these objects; the one whose key ends with `first` goes before the others."""
    ordered = sorted((info.key for info in objects), key=lambda key: (not key.endswith(first), key))
    return Group(kind, name, why, tuple(ordered), sum(info.size for info in objects), newest(objects))


def newest(objects: Sequence[ObjectInfo]) -> float:
    """When the last of the objects was written. One whose time nobody knows is never old."""
    return max(math.inf if info.modified_at is None else info.modified_at for info in objects)


def days(seconds: float) -> str:
    """`1 day`, `40 days`."""
    count = int(seconds // DAY)
    return f"{count} day" if count == 1 else f"{count} days"


@dataclass(frozen=True)
class Version:
    """A published version and the objects in its folder, which are the manifest and its signature."""

    manifest: Manifest
    objects: tuple[ObjectInfo, ...]

    @property
    def number(self) -> int:
        return self.manifest.version


@dataclass(frozen=True)
class InUse:
    """What is known of a model's use: the version that each channel's pointer names, and those that devices name."""

    pointers: Mapping[str, int]
    devices: frozenset[int]
    # Releases that runs start from.
    starts: frozenset[str]


def version_groups(versions: Sequence[Version], in_use: InUse, *, limits: Limits, now: float) -> list[Group]:
    """The versions of one model that may go."""
    if limits.keep is None:
        return []
    kept = _kept(versions, in_use, keep=limits.keep)
    least = max(limits.older_than, RELEASE_AGE_SECONDS)
    groups = []
    for item in versions:
        age = now - newest(item.objects)
        if item.number in kept or item.manifest.release in in_use.starts or age < least:
            continue
        prefix = keys.manifest(item.manifest.namespace, item.manifest.model, item.number).rpartition("/")[0] + "/"
        why = f"version {item.number}, {days(age)} old, no channel's current or previous one"
        # The manifest goes last: while it is there, the next turn finds what is left.
        groups.append(group(Kind.VERSION, prefix, why, item.objects, first="/manifest.dsse.json"))
    return groups


def _kept(versions: Sequence[Version], in_use: InUse, *, keep: int) -> set[int]:
    numbers = sorted((item.number for item in versions), reverse=True)
    # The highest one is where the next number comes from.
    kept = set(numbers[: max(keep, 1)]) | in_use.devices
    for channel in {item.manifest.channel for item in versions} | set(in_use.pointers):
        published = [number for number in numbers if any(_is(item, number, channel) for item in versions)]
        current = in_use.pointers.get(channel, published[0] if published else 0)
        kept |= {current, *published[:2], *[number for number in published if number < current][:1]}
    return kept


def _is(item: Version, number: int, channel: str) -> bool:
    return item.number == number and item.manifest.channel == channel


def datasets_of(versions: Iterable[Version]) -> frozenset[str]:
    """The digests of the converted datasets that the manifests name."""
    return frozenset(item.manifest.provenance.get("datasetDigest", "") for item in versions)


def blobs_of(versions: Iterable[Version]) -> frozenset[str]:
    """Every key that the manifests name."""
    return frozenset(file.key for item in versions for file in item.manifest.files)


@dataclass(frozen=True)
class KnownRun:
    """A run that the engine has. `ended` in seconds since 1970, None while it is not over or asked to start again."""

    uid: str
    ended: float | None
    has_converted: bool
    # What its stages put out, and what it starts from.
    outputs: frozenset[str]
    starts_from: str = ""

    @property
    def is_over(self) -> bool:
        return self.ended is not None


def known_run(body: Mapping[str, Any]) -> KnownRun:
    """The run as its object shows it.

    Raises:
        SpecError: its status cannot be read, so that nobody knows what it needs.
    """
    metadata, start = body["metadata"], (body["spec"].get("training") or {}).get("initFrom") or {}
    try:
        status = read_status(body.get("status"))
    except DecodeError as error:
        raise SpecError(f"the status of run {metadata['name']} cannot be read: {error}; nothing is removed") from None
    starts_from = (start.get("checkpoint") or {}).get("key") or (start.get("releaseRef") or {}).get("name") or ""
    if status is None:
        return KnownRun(metadata["uid"], None, has_converted=False, outputs=frozenset(), starts_from=starts_from)
    asked = (metadata.get("annotations") or {}).get(RETRY_ANNOTATION) or ""
    restarts = status.phase is Phase.FAILED and asked and asked[:MAX_VALUE] != status.last_handled_retry
    is_over = status.is_terminal and not restarts
    ended = parse_time(status.completion_time or metadata["creationTimestamp"]).timestamp() if is_over else None
    done = any(item.name is Stage.CONVERT and item.phase in DONE for item in status.stages)
    outputs = frozenset(artifact.key for item in status.stages for artifact in item.outputs)
    return KnownRun(metadata["uid"], ended, done, outputs, starts_from)


def run_group(
    namespace: str,
    uid: str,
    objects: Sequence[ObjectInfo],
    *,
    known: Mapping[str, KnownRun],
    limits: Limits,
    now: float,
) -> Group | None:
    """The files of a run, where they may go."""
    prefix = keys.run_prefix(RunRef(namespace, "", uid))
    age = now - newest(objects)
    if age < limits.older_than or any(not run.is_over and prefix in run.starts_from for run in known.values()):
        return None
    run = known.get(uid)
    if run is None:
        return group(Kind.RUN, prefix, f"its run is gone, the last file {days(age)} old", objects)
    if run.ended is None or now - run.ended < limits.older_than:
        return None
    return group(Kind.RUN, prefix, f"its run ended {days(now - run.ended)} ago", objects)


def conversion_group(
    prefix: str,
    objects: Sequence[ObjectInfo],
    *,
    known: Iterable[KnownRun],
    released: Collection[str],
    limits: Limits,
    now: float,
) -> Group | None:
    """A converted dataset, where no run has used it or may be about to, and no release names it: `atoll compare` looks
    at the pictures there. `released` has the digests."""
    runs = list(known)
    age = now - newest(objects)
    used = any(key.startswith(prefix) for run in runs for key in run.outputs)
    if age < limits.older_than or used or waits_to_convert(runs) or prefix.split("/")[-2] in released:
        return None
    return group(
        Kind.CONVERSION, prefix, f"no run or release uses it, {days(age)} old", objects, first=f"/{DATASET_NAME}"
    )


def waits_to_convert(runs: Iterable[KnownRun]) -> bool:
    """Whether a run has yet to convert, or to find that the conversion is there."""
    return any(not run.is_over and not run.has_converted for run in runs)


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
