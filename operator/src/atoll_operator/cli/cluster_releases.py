"""The ModelReleases of a namespace on the screen."""

from __future__ import annotations

import json
from typing import Any

import click

from atoll_operator.cli.cluster_access import Access

Body = dict[str, Any]


def print_cluster_releases(access: Access, model: str | None, *, as_json: bool) -> None:
    """Those of one model or of all, by model and version; with `as_json` as the objects are."""
    from rich.console import Console
    from rich.table import Table

    from atoll_operator.kube.resources import RELEASES

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
