"""Published releases of a local store or of the bucket of a cluster: lists them, and fetches and checks one."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from atoll_cli.cluster_access import connect_engine
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import EngineOptions
from atoll_cli.store_access import bucket_of, fetch, open_local_store
from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError, IntegrityError, SpecError
from atoll_contract.release import Channel, Manifest, ManifestFile, Role, release_parts
from atoll_contract.signing import verify
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.objects import RELEASES

MANIFEST_NAME = "manifest.json"

_NAME = re.compile(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-v([1-9][0-9]{0,8})")
_MANIFEST_KEY = re.compile(r"([a-z0-9-]+)/v[1-9][0-9]{0,8}/manifest\.json")
_CHANNEL_KEY = re.compile(r"([a-z0-9-]+)/channels/([^/]+)\.json")


@dataclass(frozen=True)
class Release:
    """A published version, and the channels that name it."""

    manifest: Manifest
    channels: tuple[str, ...]


def list_releases(store: Store, namespace: str, model: str | None = None) -> list[Release]:
    """The releases of the namespace, or of one model, ordered by model and version.

    Raises:
        IntegrityError: a manifest or a channel cannot be read.
    """
    root = f"models/{namespace}/"
    names = [info.key for info in store.list(keys.model_prefix(namespace, model) if model else root)]
    channels = [_read(Channel, store, key) for key in names if _CHANNEL_KEY.fullmatch(key, len(root))]
    manifests = [_read(Manifest, store, key) for key in names if _MANIFEST_KEY.fullmatch(key, len(root))]
    manifests.sort(key=lambda item: (item.model, item.version))
    by_version: dict[tuple[str, int], list[str]] = defaultdict(list)
    for channel in channels:
        by_version[channel.model, channel.version].append(channel.channel)
    return [Release(item, tuple(sorted(by_version[item.model, item.version]))) for item in manifests]


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


def _read(cls: type[Any], store: Store, key: str) -> Any:
    return _decode(cls, store.get(key), store, key)


def _decode(cls: type[Any], data: bytes, store: Store, key: str) -> Any:
    try:
        return from_json(cls, data)
    except DecodeError as error:
        raise IntegrityError(f"{store.url}: {key}: {error}") from None


@dataclass(frozen=True)
class Origin:
    """The location of a release. `sha256` is that of its manifest if a ModelRelease names it."""

    store: Store
    namespace: str
    model: str
    version: int
    sha256: str | None = None


@dataclass(frozen=True)
class PublishedRelease:
    """The manifest of a release, and the bytes of it that were checked."""

    origin: Origin
    manifest: Manifest
    data: bytes

    def fetch(self, files: Iterable[ManifestFile], folder: Path) -> Iterator[Path]:
        """Put the files into `folder`, one after the other, after their sha256 was checked; yields their paths.

        Raises:
            IntegrityError: the bytes or the name of a file are not what they should be.
            StoreError: the store does not answer, or does not allow it.
        """
        for file in files:
            # Whoever can write to the bucket can choose the name: it must not lead out of the folder.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", file.name):
                raise IntegrityError(f"the manifest names a file {file.name!r}, which is no plain name")
            yield fetch(self.origin.store, file.key, folder / file.name, sha256=file.sha256, size=file.size)

    def fetch_model(self, folder: Path) -> Path:
        """Put the int8 model, the label map and the manifest into `folder`; returns it. Raises as `fetch` does."""
        if self.manifest.file(Role.MODEL_INT8) is None:
            raise IntegrityError(f"the manifest of {self.manifest.release} names no int8 model")
        wanted = [file for file in self.manifest.files if file.role in (Role.MODEL_INT8, Role.LABELS)]
        for _ in self.fetch(wanted, folder):
            pass
        (folder / MANIFEST_NAME).write_bytes(self.data)
        return folder


def find_release(name: str, engine: EngineOptions) -> PublishedRelease | None:
    """The release `name`; None if it is a file or folder. Raises as `load_release` does.

    `atoll pull` makes a folder with the release's name, which has less than the release: the release comes first.
    """
    path, is_name = Path(name), _NAME.fullmatch(name) is not None
    if path.is_file() or (path.exists() and not is_name):
        return None
    if not is_name:
        raise SpecError(f"{name}: no such file or folder, and no release, which is written <model>-v<number>")
    if not path.exists():
        return load_release(name, engine)
    try:
        found = load_release(name, engine)
    except (AtollError, ClusterError, click.ClickException) as error:
        reason = getattr(error, "message", error)
        click.echo(f"{name} is the folder here; as a release it cannot be read: {reason}", err=True)
        return None
    click.echo(f"{name} is the release; write ./{name} for the folder of that name", err=True)
    return found


def load_release(name: str, engine: EngineOptions, *, public_keys: Sequence[bytes] = ()) -> PublishedRelease:
    """The release `<model>-v<number>` of the local store or of the cluster. With `public_keys` its manifest must be
    signed with one of them.

    Raises:
        SpecError: there is no such release, or it is not published or not signed.
        IntegrityError: its manifest is not the one that the ModelRelease names, or not signed with one of the keys.
        StoreError, ClusterError: the store or the API server does not answer, or does not allow it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SpecError(f"{name!r} is no release; write <model>-v<number>, as note-v3 (see atoll releases)")
    folder = engine.local_folder(by_namespace=True)
    if folder is not None:
        namespace = engine.cluster.namespace or DEFAULT_NAMESPACE
        origin = Origin(open_local_store(folder), namespace, found.group(1), int(found.group(2)))
    else:
        origin = _origin_on_cluster(name, engine)
    return _load(origin, public_keys)


def _origin_on_cluster(name: str, engine: EngineOptions) -> Origin:
    access = connect_engine(engine)
    found = access.cluster.read(RELEASES, access.namespace, name)
    if found is None:
        raise SpecError(f"there is no ModelRelease {name} in namespace {access.namespace} (see atoll releases)")
    spec, status = found["spec"], found.get("status") or {}
    if not status.get("published"):
        raise SpecError(f"{name} is reserved by run {spec['runRef']['name']} and not published")
    store = bucket_of(access, spec["objectStoreRef"]["name"], endpoint=engine.endpoint)
    return Origin(store, access.namespace, spec["model"], spec["version"], status["manifest"]["sha256"])


def _load(origin: Origin, public_keys: Sequence[bytes]) -> PublishedRelease:
    key = keys.manifest(origin.namespace, origin.model, origin.version)
    name = f"{origin.model}-v{origin.version}"
    try:
        data = origin.store.get(key)
    except ObjectNotFound:
        raise SpecError(f"there is no release {name} in {origin.store.url}; see atoll releases") from None
    if public_keys:
        try:
            envelope = origin.store.get(keys.signature(origin.namespace, origin.model, origin.version))
        except ObjectNotFound:
            raise SpecError(f"{name} in {origin.store.url} is not signed, and --public-key asks for it") from None
        verify(envelope, data, public_keys)
    digest = hashlib.sha256(data).hexdigest()
    if origin.sha256 is not None and digest != origin.sha256.removeprefix("sha256:"):
        raise IntegrityError(f"{origin.store.url}: {key} has sha256 {digest}, its ModelRelease says {origin.sha256}")
    manifest: Manifest = _decode(Manifest, data, origin.store, key)
    # A signature says who made a manifest, not where it belongs: that of another release would pass.
    if (manifest.namespace, manifest.model, manifest.version) != (origin.namespace, origin.model, origin.version):
        raise IntegrityError(f"{origin.store.url}: {key} is the manifest of {manifest.namespace}/{manifest.release}")
    return PublishedRelease(origin, manifest, data)
