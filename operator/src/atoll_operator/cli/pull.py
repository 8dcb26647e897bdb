"""`atoll pull`: a release's files from the bucket, checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import click

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.manifest import Manifest, ManifestFile, Role
from atoll_contract.signatures import verify
from atoll_contract.store import ObjectNotFound, Store
from atoll_operator.cli.bucket import bucket_of, endpoint_option, explained, fetched
from atoll_operator.cli.cluster_access import Where, either_options, local_folder
from atoll_operator.cli.local_store import opened_store
from atoll_operator.local.runfile import DEFAULT_NAMESPACE

_RELEASE = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)-v([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Origin:
    """Where a release lies. `sha256` is that of its manifest, where a ModelRelease tells it."""

    store: Store
    namespace: str
    model: str
    version: int
    sha256: str | None = None


@click.command(name="pull", short_help="Fetch a release from the bucket.")
@click.argument("release", metavar="RELEASE")
@either_options
@endpoint_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to put the files; by default a folder with the release's name.",
)
@click.option("--all", "everything", is_flag=True, help="Every file of the release, not only model.tar.gz.")
@click.option(
    "--public-key",
    "public_keys",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="PEM",
    help="Fetch only what this key (or one of several) has signed.",
)
def command(
    release: str,
    store: Path | None,
    where: Where,
    endpoint: str | None,
    output: Path | None,
    everything: bool,
    public_keys: tuple[Path, ...],
) -> None:
    """Fetch RELEASE, as note-v3, from the bucket with your own credentials; every file's sha256 is checked."""
    named = _RELEASE.fullmatch(release)
    if named is None:
        raise SpecError(f"{release!r} is no release; write <model>-v<number>, as note-v3 (see atoll releases)")
    folder = local_folder(store, where, by_namespace=True)
    model, version = named.group(1), int(named.group(3))
    with explained(endpoint=endpoint):
        if folder is not None:
            origin = Origin(opened_store(folder, ()), where.namespace or DEFAULT_NAMESPACE, model, version)
        else:
            origin = _on_cluster(release, where, endpoint)
        manifest = _manifest(origin, [path.read_bytes() for path in public_keys])
        for file in _wanted(manifest, everything=everything):
            target = (output or Path(release)) / _plain_name(file)
            click.echo(str(fetched(origin.store, file.key, target, sha256=file.sha256, size=file.size)))


def _on_cluster(release: str, where: Where, endpoint: str | None) -> Origin:
    from atoll_operator.cluster import RELEASES

    access = where.connect()
    found = access.cluster.read(RELEASES, access.namespace, release)
    if found is None:
        raise SpecError(f"there is no ModelRelease {release} in namespace {access.namespace} (see atoll releases)")
    spec, status = found["spec"], found.get("status") or {}
    if not status.get("published"):
        raise SpecError(f"{release} is reserved by run {spec['runRef']['name']} and not published")
    store = bucket_of(access, spec["objectStoreRef"]["name"], endpoint=endpoint)
    return Origin(store, access.namespace, spec["model"], spec["version"], status["manifest"]["sha256"])


def _manifest(origin: Origin, public_keys: list[bytes]) -> Manifest:
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
        return from_json(Manifest, data)
    except DecodeError as error:
        raise IntegrityError(f"{origin.store.url}: {key}: {error}") from None


def _wanted(manifest: Manifest, *, everything: bool) -> list[ManifestFile]:
    wanted = [file for file in manifest.files if everything or file.role is Role.BUNDLE]
    if not wanted:
        raise IntegrityError(f"the manifest of {manifest.release} names no bundle")
    return wanted


def _plain_name(file: ManifestFile) -> str:
    """Whoever can write the bucket chose the name; it must not choose a place."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", file.name):
        raise IntegrityError(f"the manifest names a file {file.name!r}, which is no plain name")
    return file.name
