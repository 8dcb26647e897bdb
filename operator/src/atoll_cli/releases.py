"""The releases that a store holds: manifests and the channels that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.release import Channel, Manifest, release_parts
from atoll_contract.store.base import ObjectNotFound, Store

_MANIFEST = re.compile(r"([a-z0-9-]+)/v[1-9][0-9]{0,8}/manifest\.json")

_CHANNEL = re.compile(r"([a-z0-9-]+)/channels/([^/]+)\.json")


@dataclass(frozen=True)
class Release:
    """A published version, and the channels that name it."""

    manifest: Manifest
    channels: tuple[str, ...]


def releases(store: Store, namespace: str, model: str | None = None) -> list[Release]:
    """Every release of the namespace (and model), ascending.

    Raises:
        IntegrityError: a manifest or pointer cannot be read.
    """
    root = f"models/{namespace}/"
    prefix = keys.model_prefix(namespace, model) if model else root
    names = [info.key for info in store.list(prefix)]
    channels = list(_channels(store, root, names))
    manifests = [_read(Manifest, store, key) for key in names if _MANIFEST.fullmatch(key, len(root))]
    ordered = sorted(manifests, key=lambda item: (item.model, item.version))
    return [Release(item, _naming(channels, item)) for item in ordered]


def read_manifest(store: Store, namespace: str, release: str) -> Manifest:
    """The manifest of the release `<model>-v<number>`.

    Raises:
        SpecError: there is no such release.
        IntegrityError: its manifest cannot be read.
    """
    model, version = release_parts(release)
    try:
        manifest: Manifest = _read(Manifest, store, keys.manifest(namespace, model, version))
    except ObjectNotFound:
        raise SpecError(f"there is no release {release} in {store.url}; see atoll releases") from None
    return manifest


def _naming(channels: list[Channel], manifest: Manifest) -> tuple[str, ...]:
    own = (item for item in channels if item.model == manifest.model and item.version == manifest.version)
    return tuple(sorted(item.channel for item in own))


def _channels(store: Store, root: str, names: list[str]) -> Iterator[Channel]:
    return (_read(Channel, store, key) for key in names if _CHANNEL.fullmatch(key, len(root)))


def _read(cls: type[Any], store: Store, key: str) -> Any:
    try:
        return from_json(cls, store.get(key))
    except DecodeError as error:
        raise IntegrityError(f"{store.url}: {key}: {error}") from None
