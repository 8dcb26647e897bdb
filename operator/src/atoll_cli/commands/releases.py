"""`atoll releases`: the releases of a cluster's namespace or of a store, as a table or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import Access, Where, either_options, local_folder, opened_store
from atoll_cli.releases import Release, releases
from atoll_contract.release import Manifest

Body = dict[str, Any]


@click.command(name="releases", short_help="List the releases of a cluster or in a store.")
@click.argument("model", required=False)
@either_options
@click.option(
    "-f", "--filename", "paths", multiple=True, type=click.Path(path_type=Path), help="File with an ObjectStore."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def releases_command(
    model: str | None, store: Path | None, where: Where, paths: tuple[Path, ...], as_json: bool
) -> None:
    """List what is published, of one MODEL or of all: the cluster's ModelReleases, or what lies in a local store.

    With -f it is what lies in the ObjectStore of that file, under namespace -n (default: local).
    """
    folder = (store or DEFAULT_STORE) if paths else local_folder(store, where, by_namespace=True)
    if folder is None:
        print_cluster_releases(where.connect(), model, as_json=as_json)
        return
    found = releases(opened_store(folder, paths), where.namespace or DEFAULT_NAMESPACE, model)
    if as_json:
        click.echo(json.dumps([_document(item) for item in found], indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(_table(found))


def print_cluster_releases(access: Access, model: str | None, *, as_json: bool) -> None:
    """Those of one model or of all, by model and version; with `as_json` as the objects are."""
    from rich.console import Console
    from rich.table import Table

    from atoll_operator.kube.objects import RELEASES

    bodies = access.cluster.list_all(RELEASES, access.namespace)
    found = sorted((item for item in bodies if model in (None, item["spec"]["model"])), key=_order)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table("RELEASE", "CHANNEL", "AP50", "TPU", "PUBLISHED", "RUN", "CREATED", box=None, pad_edge=False)
    for item in found:
        spec, status = item["spec"], item.get("status") or {}
        published = "yes" if status.get("published") else "no"
        words = (spec["channel"], status.get("ap50", ""), status.get("tpu", ""), published, spec["runRef"]["name"])
        table.add_row(item["metadata"]["name"], *words, item["metadata"]["creationTimestamp"])
    Console(highlight=False).print(table)


def _order(release: Body) -> tuple[str, int]:
    return str(release["spec"]["model"]), int(release["spec"]["version"])


def _table(found: list[Release]) -> Table:
    table = Table("RELEASE", "CHANNELS", "AP50", "TPU", "LABELS", "CREATED", box=None, pad_edge=False)
    for item in found:
        manifest = item.manifest
        labels = escape(", ".join(manifest.labels))
        ap50 = _ap50(manifest)
        shown = "" if ap50 is None else f"{ap50:.2f}"
        table.add_row(manifest.release, ", ".join(item.channels), shown, _tpu(manifest), labels, manifest.created_at)
    return table


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
