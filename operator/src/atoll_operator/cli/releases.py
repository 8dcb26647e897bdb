"""`atoll releases`: what is published in a store."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.errors import IntegrityError
from atoll_contract.manifest import Channel, Manifest
from atoll_contract.store import Store
from atoll_operator.cli.cluster_access import Where, either_options, local_folder
from atoll_operator.cli.cluster_releases import print_cluster_releases
from atoll_operator.cli.local_store import opened_store
from atoll_operator.local.folders import DEFAULT_STORE
from atoll_operator.local.runfile import DEFAULT_NAMESPACE

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


@click.command(name="releases", short_help="List the releases of a cluster or in a store.")
@click.argument("model", required=False)
@either_options
@click.option(
    "-f", "--filename", "paths", multiple=True, type=click.Path(path_type=Path), help="File with an ObjectStore."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(model: str | None, store: Path | None, where: Where, paths: tuple[Path, ...], as_json: bool) -> None:
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
