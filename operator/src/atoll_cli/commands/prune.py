"""`atoll prune`: lists what nobody needs any more in a store, and removes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll_cli.console import print_view, text_table
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option
from atoll_cli.param_types import Duration, format_size
from atoll_cli.store_access import StoreAccess, explain_store_errors, open_engine_store

if TYPE_CHECKING:
    from atoll_cli.pruning.ended_runs import EndedRuns
    from atoll_cli.pruning.groups import Group, RetentionPolicy
    from atoll_cli.pruning.scan import Scan
    from atoll_contract.store.base import Store

DEFAULT_AGE = "30d"
DEFAULT_KEEP = 5
# `--runs` without a folder.
TO_BUCKET = "-"


@click.command(name="prune", short_help="List what nobody needs any more, and remove it with --yes.")
@engine_options(endpoint=True, object_store=True)
@click.option(
    "--older-than", type=Duration(), default=DEFAULT_AGE, show_default=True, metavar="TIME", help="Leave younger files."
)
@click.option("--versions", is_flag=True, help="Also old versions of models, with their files.")
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=DEFAULT_KEEP,
    show_default=True,
    metavar="N",
    help="With --versions: so many of each model stay.",
)
@click.option(
    "--runs",
    is_flag=False,
    flag_value=TO_BUCKET,
    metavar="[DIR]",
    help="Also TrainingRuns that ended so long ago; their JSON goes to the bucket or to DIR.",
)
@click.option("--yes", is_flag=True, help="Remove it.")
@output_option
def prune_command(
    engine: EngineOptions, older_than: float, versions: bool, keep: int, runs: str | None, yes: bool, output: Output
) -> None:
    """List the files of a namespace that nobody needs any more; with --yes, remove them.

    These are: files of runs that are gone or ended long ago, conversions that no run uses, files of releases that no
    manifest names, harvested pictures and broken uploads. Archives, weights and devices' reports stay.

    --runs: a GitOps tool that still has such a run creates it anew, and it trains again; take it out there before.

    --versions: the newest, current and previous one of each channel stay, those that a device runs or a run starts
    from, and all that are younger than 30 days.
    """
    from atoll_cli.pruning.groups import RetentionPolicy
    from atoll_cli.pruning.scan import scan_store

    policy = RetentionPolicy(older_than, keep if versions else None)
    with explain_store_errors(endpoint=engine.endpoint):
        access = open_engine_store(engine, writing=yes)
        scan = scan_store(access, policy)
        ended = _ended_runs(access, runs, policy)
        found = [*(ended.groups() if ended else ()), *scan.groups()]
        removed = list(_remove(access.store, scan, ended, found, quiet=not output.is_text)) if yes else []
    if not output.is_text:
        output.print(_document(access, found, removed, scan.notes), [item.name for item in found])
        return
    if found and not yes:
        rows = [(item.kind, item.name, str(len(item.keys)), format_size(item.size), item.why) for item in found]
        print_view(text_table(("KIND", "NAME", "FILES", "SIZE", "WHY"), rows))
    for note in scan.notes:
        click.echo(f"note: {note}", err=True)
    _print_sums(access.store.url, found, removed, yes=yes)


def _ended_runs(access: StoreAccess, runs: str | None, policy: RetentionPolicy) -> EndedRuns | None:
    from atoll_cli.pruning.ended_runs import EndedRuns
    from atoll_contract.store import directory_store, open_store

    if runs is None:
        return None
    if access.cluster is None:
        raise click.UsageError("--runs is for the runs of a cluster; those of the local engine are files of its folder")
    archive = access.store if runs == TO_BUCKET else open_store(directory_store(Path(runs).resolve()))
    return EndedRuns(access.cluster, archive, policy)


def _remove(store: Store, scan: Scan, ended: EndedRuns | None, found: list[Group], *, quiet: bool) -> Iterator[Group]:
    """The groups that were removed. Each is checked again before: meanwhile a run may need it."""
    from atoll_cli.pruning.groups import Kind
    from atoll_cli.pruning.scan import remove

    for item in found:
        runs = ended if item.kind is Kind.TRAINING_RUN else None
        now = (runs or scan).recheck(item)
        if now is None:
            message = f"{item.name} stays: it is needed or gone by now"
        elif runs is not None:
            runs.remove(now)
            yield now
            message = f"{item.kind} {item.name} is deleted, and kept as {runs.url}/{now.keys[0]}"
        else:
            remove(store, now)
            yield now
            message = f"{item.name} is removed ({_sum([now])})"
        if not quiet:
            click.echo(message)


def _print_sums(url: str, found: list[Group], removed: list[Group], *, yes: bool) -> None:
    by_kind: dict[str, list[Group]] = defaultdict(list)
    for item in removed if yes else found:
        by_kind[item.kind].append(item)
    runs = by_kind.pop("trainingrun", [])
    if runs:
        click.echo(f"trainingrun: {len(runs)}" + (", kept as JSON" if yes else ""))
    found, removed = _files(found), _files(removed)
    for kind, items in by_kind.items():
        click.echo(f"{kind}: {len(items)}, {_sum(items)}")
    if yes:
        click.echo(f"removed from {url}: {_sum(removed)}")
    elif found:
        click.echo(f"in {url}: {_sum(found)}; nothing is removed without --yes")
    else:
        click.echo(f"nothing to remove in {url}")


def _files(items: list[Group]) -> list[Group]:
    """Those that are files of the store. A run's JSON is written, not removed."""
    return [item for item in items if item.kind != "trainingrun"]


def _sum(items: list[Group]) -> str:
    count = sum(len(item.keys) for item in items)
    return f"{count} file{'' if count == 1 else 's'}, {format_size(sum(item.size for item in items))}"


def _document(access: StoreAccess, found: list[Group], removed: list[Group], notes: list[str]) -> dict[str, Any]:
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
        "store": access.store.url,
        "namespace": access.namespace,
        "groups": groups,
        "bytes": sum(item.size for item in _files(found)),
        "removedBytes": sum(item.size for item in _files(removed)),
        "notes": notes,
    }
