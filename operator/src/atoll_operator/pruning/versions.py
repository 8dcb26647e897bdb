"""Which versions of a model stay. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.manifest import Manifest
from atoll_contract.store import ObjectInfo
from atoll_operator.pruning.group import RELEASE_AGE_SECONDS, Group, Kind, Limits, days, group, newest


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
