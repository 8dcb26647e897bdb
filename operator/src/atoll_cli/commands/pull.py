"""`atoll pull`: a release's files from the bucket, checked."""

from __future__ import annotations

from pathlib import Path

import click

from atoll_cli.options import Where, either_options
from atoll_cli.release_files import published
from atoll_cli.store_access import endpoint_option, explained
from atoll_contract.errors import IntegrityError
from atoll_contract.release import Manifest, ManifestFile, Role


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
def pull_command(
    release: str,
    store: Path | None,
    where: Where,
    endpoint: str | None,
    output: Path | None,
    everything: bool,
    public_keys: tuple[Path, ...],
) -> None:
    """Fetch RELEASE, as note-v3, from the bucket with your own credentials; every file's sha256 is checked."""
    with explained(endpoint=endpoint):
        signers = [path.read_bytes() for path in public_keys]
        found = published(release, store, where, endpoint=endpoint, public_keys=signers)
        for path in found.fetch(_wanted(found.manifest, everything=everything), output or Path(release)):
            click.echo(str(path))


def _wanted(manifest: Manifest, *, everything: bool) -> list[ManifestFile]:
    wanted = [file for file in manifest.files if everything or file.role is Role.BUNDLE]
    if not wanted:
        raise IntegrityError(f"the manifest of {manifest.release} names no bundle")
    return wanted
