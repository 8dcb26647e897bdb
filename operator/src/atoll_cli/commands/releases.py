"""`atoll releases` and `atoll pull`: the releases of a cluster or a store, listed or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.console import print_json, print_view, text_table
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.releases import Release, list_releases, load_release
from atoll_cli.store_access import explain_store_errors, open_local_store
from atoll_contract.errors import IntegrityError
from atoll_contract.release import Manifest, Role
from atoll_operator.kube.objects import RELEASES


@click.command(name="releases", short_help="List the releases of a cluster or in a store.")
@click.argument("model", required=False)
@engine_options()
@click.option(
    "-f", "--filename", "paths", multiple=True, type=click.Path(path_type=Path), help="File with an ObjectStore."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def releases_command(model: str | None, engine: EngineOptions, paths: tuple[Path, ...], as_json: bool) -> None:
    """List what is published, of one MODEL or of all: the cluster's ModelReleases, or what lies in a local store.

    With -f it is what lies in the ObjectStore of that file, under namespace -n (default: local).
    """
    folder = (engine.store or DEFAULT_STORE) if paths else engine.local_folder(by_namespace=True)
    if folder is None:
        _list_on_cluster(connect_engine(engine), model, as_json=as_json)
        return
    found = list_releases(open_local_store(folder, paths), engine.cluster.namespace or DEFAULT_NAMESPACE, model)
    if as_json:
        print_json([_document(item) for item in found])
        return
    rows = []
    for item in found:
        manifest, ap50 = item.manifest, _ap50(item.manifest)
        shown = "" if ap50 is None else f"{ap50:.2f}"
        labels, channels = ", ".join(manifest.labels), ", ".join(item.channels)
        rows.append((manifest.release, channels, shown, _tpu(manifest), labels, manifest.created_at))
    print_view(text_table(("RELEASE", "CHANNELS", "AP50", "TPU", "LABELS", "CREATED"), rows))


def _list_on_cluster(access: ClusterAccess, model: str | None, *, as_json: bool) -> None:
    """Print the ModelReleases by model and version; with `as_json` the objects as they are."""
    bodies = access.cluster.list_all(RELEASES, access.namespace)
    found = sorted((item for item in bodies if model in (None, item["spec"]["model"])), key=_by_version)
    if as_json:
        print_json(found)
        return
    rows = []
    for item in found:
        spec, status, metadata = item["spec"], item.get("status") or {}, item["metadata"]
        published = "yes" if status.get("published") else "no"
        figures = (status.get("ap50", ""), status.get("tpu", ""))
        run, created = spec["runRef"]["name"], metadata["creationTimestamp"]
        rows.append((metadata["name"], spec["channel"], *figures, published, run, created))
    print_view(text_table(("RELEASE", "CHANNEL", "AP50", "TPU", "PUBLISHED", "RUN", "CREATED"), rows))


def _by_version(release: Body) -> tuple[str, int]:
    return str(release["spec"]["model"]), int(release["spec"]["version"])


def _document(item: Release) -> dict[str, Any]:
    manifest = item.manifest
    return {
        "release": manifest.release,
        "model": manifest.model,
        "version": manifest.version,
        "channels": list(item.channels),
        "ap50": _ap50(manifest),
        "tpu": _tpu(manifest),
        "labels": list(manifest.labels),
        "createdAt": manifest.created_at,
        "run": manifest.run.name,
    }


def _ap50(manifest: Manifest) -> float | None:
    int8 = manifest.metrics.get("int8")
    value = int8.get("ap50") if isinstance(int8, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _tpu(manifest: Manifest) -> str:
    if not manifest.edgetpu.compiled:
        return "not compiled"
    mapped = manifest.edgetpu.mapped_percent
    return "compiled" if mapped is None else f"{mapped:.0f}%"


@click.command(name="pull", short_help="Fetch a release from the bucket.")
@click.argument("release", metavar="RELEASE")
@engine_options(endpoint=True)
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
    release: str, engine: EngineOptions, output: Path | None, everything: bool, public_keys: tuple[Path, ...]
) -> None:
    """Fetch RELEASE, as note-v3, from the bucket with your own credentials; every file's sha256 is checked."""
    with explain_store_errors(endpoint=engine.endpoint):
        found = load_release(release, engine, public_keys=[path.read_bytes() for path in public_keys])
        wanted = [file for file in found.manifest.files if everything or file.role is Role.BUNDLE]
        if not wanted:
            raise IntegrityError(f"the manifest of {found.manifest.release} names no bundle")
        for path in found.fetch(wanted, output or Path(release)):
            click.echo(str(path))
