"""A published release and its files, wherever it lies: in a local store or in the bucket of a cluster; all checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import Where, local_folder, opened_store
from atoll_cli.store_access import bucket_of, fetched
from atoll_contract import keys
from atoll_contract.dataset import DATASET_NAME, LABEL_MAP_NAME, Dataset
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.release import Manifest, ManifestFile, Role
from atoll_contract.signing import verify
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.tool_reports import PictureSource

MANIFEST_NAME = "manifest.json"
_RELEASE = re.compile(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-v([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Origin:
    """Where a release lies. `sha256` is that of its manifest, where a ModelRelease tells it."""

    store: Store
    namespace: str
    model: str
    version: int
    sha256: str | None = None


@dataclass(frozen=True)
class PublishedRelease:
    """A release's manifest, and the bytes of it that were checked."""

    origin: Origin
    manifest: Manifest
    data: bytes

    def fetch(self, files: Iterable[ManifestFile], folder: Path) -> Iterator[Path]:
        """The files one after the other, put into `folder` under their names after their sha256 was checked.

        Raises:
            IntegrityError: bytes or a name are not what they should be.
            StoreError: the store does not answer, or does not allow it.
        """
        for file in files:
            path = folder / _plain_name(file)
            yield fetched(self.origin.store, file.key, path, sha256=file.sha256, size=file.size)

    def fetch_model(self, folder: Path) -> Path:
        """`folder`, with the int8 model, the label map and the manifest. Raises as `fetch` does."""
        if self.manifest.file(Role.MODEL_INT8) is None:
            raise IntegrityError(f"the manifest of {self.manifest.release} names no int8 model")
        wanted = [file for file in self.manifest.files if file.role in (Role.MODEL_INT8, Role.LABELS)]
        for _ in self.fetch(wanted, folder):
            pass
        (folder / MANIFEST_NAME).write_bytes(self.data)
        return folder


def is_release_name(text: str) -> bool:
    """Whether `text` is written as the name of a release: `note-v3`."""
    return _RELEASE.fullmatch(text) is not None


def published(
    release: str, store: Path | None, where: Where, *, endpoint: str | None = None, public_keys: Sequence[bytes] = ()
) -> PublishedRelease:
    """The release `<model>-v<number>` of the local store or the cluster that is meant (see `local_folder`).

    Raises:
        SpecError: there is no such release, or it is not published or not signed.
        IntegrityError: its manifest is not the one that the ModelRelease names, or not signed by one of the keys.
        StoreError, ClusterError: the world does not answer, or does not allow it.
    """
    named = _RELEASE.fullmatch(release)
    if named is None:
        raise SpecError(f"{release!r} is no release; write <model>-v<number>, as note-v3 (see atoll releases)")
    folder = local_folder(store, where, by_namespace=True)
    if folder is not None:
        namespace = where.namespace or DEFAULT_NAMESPACE
        origin = Origin(opened_store(folder, ()), namespace, named.group(1), int(named.group(2)))
    else:
        origin = _on_cluster(release, where, endpoint)
    return _read(origin, public_keys)


def _on_cluster(release: str, where: Where, endpoint: str | None) -> Origin:
    from atoll_operator.kube.objects import RELEASES

    access = where.connect()
    found = access.cluster.read(RELEASES, access.namespace, release)
    if found is None:
        raise SpecError(f"there is no ModelRelease {release} in namespace {access.namespace} (see atoll releases)")
    spec, status = found["spec"], found.get("status") or {}
    if not status.get("published"):
        raise SpecError(f"{release} is reserved by run {spec['runRef']['name']} and not published")
    store = bucket_of(access, spec["objectStoreRef"]["name"], endpoint=endpoint)
    return Origin(store, access.namespace, spec["model"], spec["version"], status["manifest"]["sha256"])


def _read(origin: Origin, public_keys: Sequence[bytes]) -> PublishedRelease:
    key = keys.manifest(origin.namespace, origin.model, origin.version)
    try:
        data = origin.store.get(key)
        if public_keys:
            envelope = origin.store.get(keys.signature(origin.namespace, origin.model, origin.version))
            verify(envelope, data, public_keys)
    except ObjectNotFound as error:
        raise SpecError(f"{error.message}: the release is not there, or not signed") from None
    digest = hashlib.sha256(data).hexdigest()
    if origin.sha256 is not None and digest != origin.sha256.removeprefix("sha256:"):
        raise IntegrityError(f"{origin.store.url}: {key} has sha256 {digest}, its ModelRelease says {origin.sha256}")
    try:
        manifest = from_json(Manifest, data)
    except DecodeError as error:
        raise IntegrityError(f"{origin.store.url}: {key}: {error}") from None
    # A signature says who made a manifest, not where it belongs: that of another release would pass.
    if (manifest.namespace, manifest.model, manifest.version) != (origin.namespace, origin.model, origin.version):
        raise IntegrityError(f"{origin.store.url}: {key} is the manifest of {manifest.namespace}/{manifest.release}")
    return PublishedRelease(origin, manifest, data)


def _plain_name(file: ManifestFile) -> str:
    """Whoever can write the bucket chose the name; it must not choose a place."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", file.name):
        raise IntegrityError(f"the manifest names a file {file.name!r}, which is no plain name")
    return file.name


ADVICE = "run the TrainingRun again, which converts them anew, or give labelled pictures with --data ARCHIVE"


class ReleasePictures:
    """The converted dataset of a release's run, fetched into `folder` as far as it is asked for."""

    def __init__(self, release: PublishedRelease, folder: Path) -> None:
        self._release = release
        self._folder = folder

    @property
    def name(self) -> str:
        return self._release.manifest.release

    @property
    def digest(self) -> str:
        """The digest of the converted dataset.

        Raises:
            SpecError: the manifest does not name it.
        """
        found = self._release.manifest.provenance.get("datasetDigest")
        if not found:
            raise SpecError(f"the manifest of {self.name} does not name its dataset; {ADVICE}")
        return found

    def evaluation(self, names: str) -> PictureSource:
        """The pictures that the run reports its figures on.

        Raises:
            SpecError: the store does not have them any more.
        """
        part = self._dataset.evaluation_split
        labels = self._fetch(self._dataset.label_map, LABEL_MAP_NAME)
        shards = self._part(part)
        return PictureSource(f"evaluation pictures of {names} ({part})", shards=shards, labels=str(labels))

    def training(self) -> tuple[str, ...] | None:
        """The shards that the model was trained on; None where the store does not have them, or never did."""
        try:
            return self._part("train")
        except SpecError:
            return None

    @cached_property
    def _dataset(self) -> Dataset:
        key = keys.cached_dataset(self._release.manifest.run.namespace, self.digest) + DATASET_NAME
        store = self._release.origin.store
        try:
            return from_json(Dataset, store.get(key))
        except ObjectNotFound:
            raise self._gone(key) from None
        except DecodeError as error:
            raise IntegrityError(f"{store.url}: {key}: {error}") from None

    def _part(self, name: str) -> tuple[str, ...]:
        return tuple(str(self._fetch(shard, f"{shard.sha256}.tfrecord")) for shard in self._dataset.splits[name].shards)

    def _fetch(self, artifact: Artifact, name: str) -> Path:
        path = self._folder / self.digest / name
        if path.exists():
            return path
        try:
            store = self._release.origin.store
            return fetched(store, artifact.key, path, sha256=artifact.sha256, size=artifact.size)
        except ObjectNotFound:
            raise self._gone(artifact.key) from None

    def _gone(self, key: str) -> SpecError:
        url = self._release.origin.store.url
        return SpecError(f"the pictures of {self.name} are gone: {url} has no {key}; {ADVICE}")
