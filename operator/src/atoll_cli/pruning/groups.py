"""Groups the objects of a store that are removed together, by the retention policy. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from atoll_cli.cluster_runs import retry_is_pending
from atoll_contract import keys
from atoll_contract.dataset import DATASET_NAME
from atoll_contract.document import DecodeError
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.release import Manifest
from atoll_contract.stage import Stage
from atoll_contract.store.base import ObjectInfo
from atoll_operator.api.status import DONE, parse_time
from atoll_operator.api.status_codec import read_status

DAY = 86400.0
# No option shortens it: a device may still be on its way to a release (fault E14).
RELEASE_AGE_SECONDS = 30 * DAY


class Kind(StrEnum):
    """In the order of removal: what names other objects is removed before them."""

    TRAINING_RUN = "trainingrun"
    VERSION = "version"
    RUN = "run"
    CONVERSION = "conversion"
    BLOB = "blob"
    HARVEST = "harvest"
    UPLOAD = "upload"


@dataclass(frozen=True)
class RetentionPolicy:
    """`older_than`: seconds that everything is kept. `keep`: how many versions of each model are kept in any case;
    None keeps them all."""

    older_than: float
    keep: int | None = None


@dataclass(frozen=True)
class Group:
    """`keys` are in the order of removal: the rest of a partly removed group must not look like a whole one."""

    kind: Kind
    name: str
    why: str
    keys: tuple[str, ...]
    size: int


def make_group(kind: Kind, name: str, why: str, objects: Sequence[ObjectInfo], *, first: str = "") -> Group:
    """A group of these objects; one whose key ends with `first` is removed before the others."""
    ordered = sorted((info.key for info in objects), key=lambda key: (not key.endswith(first), key))
    return Group(kind, name, why, tuple(ordered), sum(info.size for info in objects))


def last_modified(objects: Sequence[ObjectInfo]) -> float:
    """When the last of the objects was written; infinity, which is never old, if that is unknown for one of them."""
    return max(math.inf if info.modified_at is None else info.modified_at for info in objects)


def format_days(seconds: float) -> str:
    """`1 day`, `40 days`."""
    count = int(seconds // DAY)
    return f"{count} day" if count == 1 else f"{count} days"


@dataclass(frozen=True)
class KnownRun:
    """A run that the engine has. `ended` is in seconds since 1970; None while it is not over or is to start again."""

    uid: str
    ended: float | None
    has_converted: bool
    # The keys that its stages wrote, and the key or release that it starts from.
    outputs: frozenset[str]
    starts_from: str = ""

    @property
    def is_over(self) -> bool:
        return self.ended is not None


def known_run(body: Mapping[str, Any]) -> KnownRun:
    """The run that a TrainingRun object describes.

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
    is_over = status.is_terminal and not retry_is_pending(body, status)
    ended = parse_time(status.completion_time or metadata["creationTimestamp"]).timestamp() if is_over else None
    done = any(item.name is Stage.CONVERT and item.phase in DONE for item in status.stages)
    outputs = frozenset(artifact.key for item in status.stages for artifact in item.outputs)
    return KnownRun(metadata["uid"], ended, done, outputs, starts_from)


def run_group(
    run: RunRef, objects: Sequence[ObjectInfo], *, known: Mapping[str, KnownRun], policy: RetentionPolicy, now: float
) -> Group | None:
    """The files of a run, if they may be removed. Of `run` only namespace and UID are read; `known` is by UID."""
    prefix = keys.run_prefix(run)
    age = now - last_modified(objects)
    if age < policy.older_than or any(not item.is_over and prefix in item.starts_from for item in known.values()):
        return None
    found = known.get(run.uid)
    if found is None:
        return make_group(Kind.RUN, prefix, f"its run is gone, the last file {format_days(age)} old", objects)
    if found.ended is None or now - found.ended < policy.older_than:
        return None
    return make_group(Kind.RUN, prefix, f"its run ended {format_days(now - found.ended)} ago", objects)


def conversion_group(
    prefix: str,
    objects: Sequence[ObjectInfo],
    *,
    known: Collection[KnownRun],
    released: Collection[str],
    policy: RetentionPolicy,
    now: float,
) -> Group | None:
    """A converted dataset, if no run has used it or may be about to, and no release names it: `atoll compare` shows
    its images. `released` has the digests of the datasets that releases name."""
    age = now - last_modified(objects)
    used = any(key.startswith(prefix) for run in known for key in run.outputs)
    if age < policy.older_than or used or waits_to_convert(known) or prefix.split("/")[-2] in released:
        return None
    why = f"no run or release uses it, {format_days(age)} old"
    return make_group(Kind.CONVERSION, prefix, why, objects, first=f"/{DATASET_NAME}")


def waits_to_convert(runs: Iterable[KnownRun]) -> bool:
    """Whether a run has yet to convert, or to find that the conversion is there."""
    return any(not run.is_over and not run.has_converted for run in runs)


@dataclass(frozen=True)
class Version:
    """A published version and the objects in its folder, which are the manifest and its signature."""

    manifest: Manifest
    objects: tuple[ObjectInfo, ...]

    @property
    def number(self) -> int:
        return self.manifest.version


@dataclass(frozen=True)
class ModelUse:
    """What uses a model: the version that each channel names, those that devices report, and the releases that runs
    start from."""

    channels: Mapping[str, int]
    devices: frozenset[int]
    starts: frozenset[str]


def version_groups(versions: Sequence[Version], use: ModelUse, *, policy: RetentionPolicy, now: float) -> list[Group]:
    """The versions of one model that may be removed."""
    if policy.keep is None:
        return []
    kept = _kept(versions, use, keep=policy.keep)
    min_age = max(policy.older_than, RELEASE_AGE_SECONDS)
    groups = []
    for item in versions:
        age = now - last_modified(item.objects)
        if item.number in kept or item.manifest.release in use.starts or age < min_age:
            continue
        prefix = keys.manifest(item.manifest.namespace, item.manifest.model, item.number).rpartition("/")[0] + "/"
        why = f"version {item.number}, {format_days(age)} old, no channel's current or previous one"
        # The manifest is removed last: while it is there, the next scan finds what is left.
        groups.append(make_group(Kind.VERSION, prefix, why, item.objects, first="/manifest.dsse.json"))
    return groups


def _kept(versions: Sequence[Version], use: ModelUse, *, keep: int) -> set[int]:
    numbers = sorted((item.number for item in versions), reverse=True)
    # The highest number is kept even for keep=0: the next version's number follows from it.
    kept = set(numbers[: max(keep, 1)]) | use.devices
    channel_of = {item.number: item.manifest.channel for item in versions}
    for channel in {*channel_of.values(), *use.channels}:
        published = [number for number in numbers if channel_of[number] == channel]
        current = use.channels.get(channel, published[0] if published else 0)
        kept |= {current, *published[:2], *[number for number in published if number < current][:1]}
    return kept


def datasets_of(versions: Iterable[Version]) -> frozenset[str]:
    """The digests of the converted datasets that the manifests name."""
    return frozenset(item.manifest.provenance.get("datasetDigest", "") for item in versions)


def blobs_of(versions: Iterable[Version]) -> frozenset[str]:
    """Every key that the manifests name."""
    return frozenset(file.key for item in versions for file in item.manifest.files)
