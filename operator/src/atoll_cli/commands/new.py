"""`atoll new`: a run.yaml for a labelled data set, with settings, counts and a time estimate."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from atoll_cli.console import waiting
from atoll_cli.draft.archives import Archive, find_archives
from atoll_cli.draft.draft import Draft, DraftOptions, benchmark_for, draft_run
from atoll_cli.draft.targets import DEFAULT_REF, RunTarget, local_target
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import Access, Duration, Where, either_options, local_folder, opened_store
from atoll_cli.store_access import bucket_of, endpoint_option, explained
from atoll_cli.tool import inspected
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.files import written_whole
from atoll_contract.store.base import Store
from atoll_operator.lifecycle.progress import duration


@dataclass(frozen=True)
class Target:
    """Where the run will be: `access` for a cluster, else the folder of the local engine. `store` is None where the
    archives lie on this disk, and a cluster's bucket need not be asked."""

    store: Store | None
    namespace: str
    folder: Path | None = None
    access: Access | None = None

    def run_target(self, release: str | None, *, profile: str, object_store: str) -> RunTarget:
        if self.access is not None:
            from atoll_cli.draft.targets import cluster_target

            return cluster_target(
                self.access.cluster, self.namespace, release=release, profile=profile, object_store=object_store
            )
        assert self.folder is not None
        assert self.store is not None
        return local_target(self.folder, self.store, self.namespace, release=release)


@click.command(name="new", short_help="Write a run.yaml for a labelled archive.")
@click.argument("archives", metavar="[ARCHIVE|KEY]...", nargs=-1)
@either_options
@endpoint_option
@click.option("--object-store", default=DEFAULT_REF, show_default=True, help="Name of the cluster's ObjectStore.")
@click.option("--profile", default=DEFAULT_REF, show_default=True, help="Name of the cluster's TrainingProfile.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("run.yaml"),
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@click.option("--name", metavar="NAME", help="Name of run and model; by default the archive's.")
@click.option("--from", "release", metavar="RELEASE", help="Train on from this release, as note-v3.")
@click.option("--within", type=Duration(), metavar="TIME", help="Take so few steps that the run ends in time, as 30m.")
@click.option("--no-timing", is_flag=True, help="Do not time this machine; earlier runs still tell.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def new_command(
    archives: tuple[str, ...],
    store: Path | None,
    where: Where,
    endpoint: str | None,
    object_store: str,
    profile: str,
    output: Path,
    name: str | None,
    release: str | None,
    within: float | None,
    no_timing: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Look into labelled archives, as a run will, and write a run.yaml for them.

    An ARCHIVE is a file on this disk, a KEY one that was pushed, as datasets/local/my-export.tar or only its file
    name. Without either it is the one archive that the store holds; several become one data set.
    """
    if output.exists() and not force:
        raise SpecError(f"{output} exists and is not overwritten; --force does that, -o names another file")
    with explained(endpoint=endpoint):
        target = _target(archives, store, where, endpoint, object_store)
        with tempfile.TemporaryDirectory(prefix="atoll-new-") as scratch:
            found = find_archives(archives, target.store, target.namespace, scratch=Path(scratch))
            with waiting(f"looking into {', '.join(item.path.name for item in found)}"):
                look = inspected([item.path for item in found])
    if not look.ok:
        raise DatasetError(Reason(look.reason), f"{look.fault_of(look.path)}; no file was written")
    draft = draft_run(
        look,
        [item.key for item in found],
        target.run_target(release, profile=profile, object_store=object_store),
        options=DraftOptions(name, within),
        benchmark=None if no_timing or target.access is not None else benchmark_for(look, notify=_tell),
    )
    _write(output, draft.text)
    following = _following(found, target, output, asked=store)
    if as_json:
        click.echo(json.dumps(_document(draft, output, following), indent=2, ensure_ascii=False))
        return
    click.echo(f"{', '.join(item.path.name for item in found)}: {look.message}")
    for warning in look.warnings:
        click.echo(f"warning: {warning}", err=True)
    settings, weights = draft.settings, draft.settings.initial_weights
    click.echo(
        f"{output}: run {draft.run}, {settings.architecture} width {settings.width}, "
        f"{settings.steps} steps of {settings.batch} pictures from {weights.release or weights.type}"
    )
    time = f"time: about {duration(draft.seconds)}" if draft.seconds is not None else "time: no estimate"
    click.echo(f"{time} ({draft.basis})")
    click.echo("next: " + "\n      ".join(following))


def _target(
    archives: Sequence[str], store: Path | None, where: Where, endpoint: str | None, object_store: str
) -> Target:
    """The engine that is meant; with nothing said but a file on this disk, this machine."""
    folder = local_folder(store, where, by_namespace=True)
    on_disk = bool(archives) and all(Path(item).exists() for item in archives)
    if folder is None and not where.is_asked and on_disk:
        folder = DEFAULT_STORE
    if folder is not None:
        return Target(opened_store(folder, ()), where.namespace or DEFAULT_NAMESPACE, folder=folder)
    access = where.connect()
    bucket = None if on_disk else bucket_of(access, object_store, endpoint=endpoint)
    return Target(bucket, access.namespace, access=access)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as stream:
        stream.write(text.encode())


def _following(found: Sequence[Archive], target: Target, output: Path, *, asked: Path | None) -> list[str]:
    """The commands that start the run."""
    outside = [shlex.quote(str(item.path)) for item in found if not item.stored]
    file = shlex.quote(str(output))
    if target.access is not None:
        pushes = [f"atoll push {path} -n {target.namespace}" for path in outside]
        return [*pushes, f"kubectl apply -f {file}"]
    data = "".join(f" --data {path}" for path in outside)
    where = "" if asked is None or asked == DEFAULT_STORE else f" --store {shlex.quote(str(asked))}"
    return [f"atoll run -f {file}{data}{where}"]


def _document(draft: Draft, output: Path, following: Sequence[str]) -> dict[str, object]:
    settings = draft.settings
    document: dict[str, object | None] = {
        "file": str(output),
        "run": draft.run,
        "model": draft.model,
        "architecture": str(settings.architecture),
        "width": settings.width,
        "initFrom": str(settings.initial_weights.type),
        "steps": settings.steps,
        "batchSize": settings.batch,
        "estimateSeconds": draft.seconds,
        "estimateBasis": draft.basis,
        "next": list(following),
    }
    return {name: value for name, value in document.items() if value is not None}
