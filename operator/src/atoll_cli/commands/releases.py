"""`atoll releases` and `atoll pull`: the releases of a cluster or a store, listed or fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.console import print_view, text_table
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option, output_options
from atoll_cli.param_types import InputPath
from atoll_cli.releases import PublishedRelease, Release, list_releases, load_release
from atoll_cli.runtime_files import RUNTIMES, resize_warning, write_runtime_files
from atoll_cli.store_access import explain_store_errors, open_local_store
from atoll_contract.errors import IntegrityError
from atoll_contract.release import EDGETPU, Manifest, Role
from atoll_operator.kube.objects import RELEASES


@click.command(name="releases", short_help="List the releases of a cluster or in a store.")
@click.argument("model", required=False)
@engine_options(all_namespaces=True)
@click.option(
    "-f", "--filename", "paths", multiple=True, type=InputPath(folders=True), help="File with an ObjectStore."
)
@output_option
def releases_command(model: str | None, engine: EngineOptions, paths: tuple[Path, ...], output: Output) -> None:
    """List what is published, of one MODEL or of all: the cluster's ModelReleases, or what lies in a local store.

    With -f it is what lies in the ObjectStore of that file, under namespace -n (default: local).
    """
    everywhere = engine.cluster.all_namespaces
    if paths and everywhere:
        raise click.UsageError("-A lists a cluster, -f a store of one namespace; give one of them")
    folder = (engine.store or DEFAULT_STORE) if paths else engine.local_folder(by_namespace=True)
    if folder is None:
        _list_on_cluster(connect_engine(engine), model, output, everywhere=everywhere)
        return
    found = list_releases(open_local_store(folder, paths), engine.cluster.namespace or DEFAULT_NAMESPACE, model)
    if not output.is_text:
        output.print([_document(item) for item in found], [item.manifest.release for item in found])
        return
    rows = []
    for item in found:
        manifest, ap50 = item.manifest, _ap50(item.manifest)
        shown = "" if ap50 is None else f"{ap50:.2f}"
        labels, channels = ", ".join(manifest.labels), ", ".join(item.channels)
        row = (manifest.release, channels, shown, manifest.targets_text, manifest.run.name, manifest.created_at)
        rows.append((*row, labels) if output.is_wide else row)
    columns = (*_COLUMNS, "LABELS") if output.is_wide else _COLUMNS
    _print_table(columns, rows, output, where=str(folder), model=model)


# The same in a store and on a cluster; -o wide adds what only one of both knows.
_COLUMNS = ("RELEASE", "CHANNELS", "AP50", "TARGETS", "RUN", "CREATED")


def _list_on_cluster(access: ClusterAccess, model: str | None, output: Output, *, everywhere: bool) -> None:
    """Print the ModelReleases by model and version, of every namespace with `everywhere`; as a document the objects as
    they are."""
    bodies = access.cluster.list_all(RELEASES, None if everywhere else access.namespace)
    found = sorted((item for item in bodies if model in (None, item["spec"]["model"])), key=_by_version)
    if not output.is_text:
        output.print(found, [item["metadata"]["name"] for item in found])
        return
    rows = []
    for item in found:
        spec, status, metadata = item["spec"], item.get("status") or {}, item["metadata"]
        published = "yes" if status.get("published") else "no"
        figures = (status.get("ap50", ""), status.get("targets") or status.get("tpu", ""))
        run, created = spec["runRef"]["name"], metadata["creationTimestamp"]
        row = [metadata["name"], spec["channel"], *figures, run, created]
        rows.append([*([metadata["namespace"]] if everywhere else []), *row, *([published] if output.is_wide else [])])
    columns = [*(["NAMESPACE"] if everywhere else []), *_COLUMNS, *(["PUBLISHED"] if output.is_wide else [])]
    _print_table(
        columns, rows, output, where="any namespace" if everywhere else f"namespace {access.namespace}", model=model
    )


def _print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], output: Output, *, where: str, model: str | None
) -> None:
    if rows:
        print_view(text_table(columns, rows), wide=output.is_wide)
    else:
        click.echo(f"no releases{f' of model {model}' if model else ''} in {where}", err=True)


def _by_version(release: Body) -> tuple[str, str, int]:
    return str(release["metadata"]["namespace"]), str(release["spec"]["model"]), int(release["spec"]["version"])


def _document(item: Release) -> dict[str, Any]:
    manifest = item.manifest
    return {
        "release": manifest.release,
        "model": manifest.model,
        "version": manifest.version,
        "channels": list(item.channels),
        "ap50": _ap50(manifest),
        "tpu": _tpu(manifest),
        **({"targets": manifest.targets_text} if manifest.targets is not None else {}),
        "labels": list(manifest.labels),
        "createdAt": manifest.created_at,
        "run": manifest.run.name,
    }


def _ap50(manifest: Manifest) -> float | None:
    int8 = manifest.metrics.get("int8")
    value = int8.get("ap50") if isinstance(int8, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _tpu(manifest: Manifest) -> str:
    return next((item.text for item in manifest.results if item.target == EDGETPU), "not compiled")


@click.command(name="pull", short_help="Fetch a release from the bucket.")
@click.argument("release", metavar="RELEASE")
@engine_options(endpoint=True)
@output_options(folder="Where to put the files; by default a folder with the release's name.")
@click.option("--all", "everything", is_flag=True, help="Every file of the release, not only model.tar.gz.")
@click.option(
    "--for",
    "runtime",
    type=click.Choice(RUNTIMES),
    help="Only what this program needs, under the names that it asks for (atoll help runtimes).",
)
@click.option(
    "--public-key",
    "public_keys",
    type=InputPath(),
    multiple=True,
    metavar="PEM",
    help="Fetch only what this key (or one of several) has signed.",
)
def pull_command(
    release: str,
    engine: EngineOptions,
    output: Output,
    to: Path | None,
    everything: bool,
    runtime: str | None,
    public_keys: tuple[Path, ...],
) -> None:
    """Fetch RELEASE, as note-v3, from the bucket with your own credentials; every file's sha256 is checked."""
    if runtime and everything:
        raise click.UsageError("--all fetches every file, --for what one program needs; give one of them")
    with explain_store_errors(endpoint=engine.endpoint):
        found = load_release(release, engine, public_keys=[path.read_bytes() for path in public_keys])
        folder, paths = to or Path(release), []
        fetched = (
            write_runtime_files(found, runtime, folder) if runtime else _fetch(found, folder, everything=everything)
        )
        for path in fetched:
            paths.append(str(path))
            if output.is_text:
                click.echo(str(path))
    warning = resize_warning(found.manifest, runtime) if runtime else None
    if warning:
        click.echo(f"warning: {warning}", err=True)
    if not output.is_text:
        output.print({"release": found.manifest.release, "files": paths}, paths)


def _fetch(release: PublishedRelease, folder: Path, everything: bool) -> Iterator[Path]:
    wanted = [file for file in release.manifest.files if everything or file.role is Role.BUNDLE]
    if not wanted:
        raise IntegrityError(f"the manifest of {release.manifest.release} names no bundle")
    return release.fetch(wanted, folder)
