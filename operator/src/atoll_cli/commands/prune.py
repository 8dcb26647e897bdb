"""`atoll prune`: what of a store nobody needs any more."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import Duration, Where, either_options, local_folder, opened_store, size_words
from atoll_cli.store_access import bucket_of, endpoint_option, explained
from atoll_contract.store.base import Store

if TYPE_CHECKING:
    from atoll_cli.pruning.groups import Group, KnownRun
    from atoll_cli.pruning.survey import Survey


DEFAULT_AGE = "30d"
DEFAULT_KEEP = 5


@click.command(name="prune", short_help="List what nobody needs any more, and remove it with --yes.")
@either_options
@endpoint_option
@click.option("--object-store", default="default", show_default=True, help="Name of the ObjectStore.")
@click.option(
    "--older-than", type=Duration(), default=DEFAULT_AGE, show_default=True, metavar="TIME", help="Leave younger files."
)
@click.option("--versions", is_flag=True, help="Also old versions of models; the files of their releases with them.")
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=DEFAULT_KEEP,
    show_default=True,
    metavar="N",
    help="With --versions: how many versions of each model stay in any case.",
)
@click.option("--yes", is_flag=True, help="Remove it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def prune_command(
    store: Path | None,
    where: Where,
    endpoint: str | None,
    object_store: str,
    older_than: float,
    versions: bool,
    keep: int,
    yes: bool,
    as_json: bool,
) -> None:
    """List the files of a namespace that nobody needs any more; with --yes, remove them.

    These are: files of runs that are gone or ended long ago (with their logs and reports), conversions that no run
    uses, files of releases that no manifest names, harvested pictures and broken uploads. Nothing that is younger than
    --older-than goes. Archives, weights and devices' reports stay.

    With --versions also releases go, but for the newest, the current and the previous one of every channel, those that
    a device runs or a run starts from, and all that are younger than 30 days.
    """
    from atoll_cli.pruning.groups import Limits
    from atoll_cli.pruning.survey import Survey

    limits = Limits(older_than, keep if versions else None)
    folder = local_folder(store, where, by_namespace=True)
    with explained(endpoint=endpoint):
        if folder is not None:
            namespace, target = where.namespace or DEFAULT_NAMESPACE, opened_store(folder, ())
            survey = Survey(target, namespace, limits, read_runs=lambda: _local_runs(folder, namespace))
        else:
            access = where.connect()
            namespace = access.namespace
            target = bucket_of(access, object_store, endpoint=endpoint, writing=yes)
            survey = Survey(target, namespace, limits, read_runs=lambda: _runs(access.runs()))
        found = list(survey.groups())
        removed = _remove(target, survey, found, told=not as_json) if yes else []
    if as_json:
        document = _document(target, namespace, found, removed, survey.notes)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if not yes:
        _print(found)
    for note in survey.notes:
        click.echo(f"note: {note}", err=True)
    _conclude(target, found, removed, yes=yes)


def _local_runs(store: Path, namespace: str) -> Iterator[KnownRun]:
    from atoll_cli.local.state import known_runs, read_record

    folders = [folder for folder in known_runs(store.resolve()) if folder.namespace == namespace]
    records = [record for folder in folders if (record := read_record(folder)) is not None]
    return _runs(record.manifest for record in records)


def _runs(bodies: Iterable[dict[str, Any]]) -> Iterator[KnownRun]:
    from atoll_cli.pruning.groups import known_run

    return (known_run(body) for body in bodies)


def _remove(store: Store, survey: Survey, found: list[Group], *, told: bool) -> list[Group]:
    """Those that were removed. Each is looked at again before: a run may have come to need it."""
    from atoll_cli.pruning.survey import remove

    removed = []
    for item in found:
        now = survey.again(item)
        if now is None:
            if told:
                click.echo(f"{item.name} stays: it is needed or gone by now")
            continue
        remove(store, now)
        removed.append(now)
        if told:
            click.echo(f"{item.name} is removed ({_sum([now])})")
    return removed


def _print(found: list[Group]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not found:
        return
    table = Table("KIND", "NAME", "FILES", "SIZE", "WHY", box=None, pad_edge=False)
    for item in found:
        table.add_row(item.kind, escape(item.name), str(len(item.keys)), size_words(item.size), escape(item.why))
    Console(highlight=False).print(table)


def _conclude(store: Store, found: list[Group], removed: list[Group], *, yes: bool) -> None:
    by_kind: dict[str, list[Group]] = defaultdict(list)
    for item in removed if yes else found:
        by_kind[item.kind].append(item)
    for kind, items in by_kind.items():
        click.echo(f"{kind}: {len(items)}, {_sum(items)}")
    if yes:
        click.echo(f"removed from {store.url}: {_sum(removed)}")
    elif found:
        click.echo(f"in {store.url}: {_sum(found)}; nothing is removed without --yes")
    else:
        click.echo(f"nothing to remove in {store.url}")


def _sum(items: list[Group]) -> str:
    count = sum(len(item.keys) for item in items)
    return f"{count} file{'' if count == 1 else 's'}, {size_words(sum(item.size for item in items))}"


def _document(
    store: Store, namespace: str, found: list[Group], removed: list[Group], notes: list[str]
) -> dict[str, Any]:
    gone = {(item.kind, item.name) for item in removed}
    groups = [
        {
            "kind": str(item.kind),
            "name": item.name,
            "why": item.why,
            "files": len(item.keys),
            "bytes": item.size,
            "removed": (item.kind, item.name) in gone,
        }
        for item in found
    ]
    return {
        "store": store.url,
        "namespace": namespace,
        "groups": groups,
        "bytes": sum(item.size for item in found),
        "removedBytes": sum(item.size for item in removed),
        "notes": notes,
    }
