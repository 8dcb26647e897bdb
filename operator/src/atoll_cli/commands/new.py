"""`atoll new`: a run.yaml for a labelled data set, with settings, counts and a time estimate."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from atoll_cli.cluster_access import ClusterAccess, NoEngine, connect_engine
from atoll_cli.console import spinner
from atoll_cli.draft.archives import Archive, find_archives
from atoll_cli.draft.draft import Benchmark, Draft, DraftOptions, benchmark_for, draft_run, require_name
from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import DEFAULT_REF, RunTarget, cluster_target, local_target
from atoll_cli.folders import did_you_mean
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import EngineOptions, engine_options, max_invalid_option
from atoll_cli.output import Output, output_options
from atoll_cli.pages import with_links
from atoll_cli.param_types import Duration
from atoll_cli.store_access import bucket_of, explain_store_errors, open_local_store
from atoll_cli.tool import lint_archives
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.files import written_whole
from atoll_contract.store.base import Store
from atoll_contract.text import duration
from atoll_contract.tool_reports import LintReport, Timing


@click.command(name="new", short_help="Write a run.yaml for a labelled archive.")
@click.argument("archives", metavar="[ARCHIVE|KEY]...", nargs=-1)
@engine_options(endpoint=True, object_store=True)
@click.option("--profile", default=DEFAULT_REF, show_default=True, help="The cluster's TrainingProfile.")
@output_options(file="The file to write.", default=Path("run.yaml"))
@click.option("--name", metavar="NAME", help="Name of run and model; by default the archive's.")
@click.option("--from", "release", metavar="RELEASE", help="Train on from this release, as note-v3.")
@click.option("--random", is_flag=True, help="Start from random weights.")
@click.option("--within", type=Duration(), metavar="TIME", help="So few steps that the run ends in this time, as 30m.")
@click.option("--no-timing", is_flag=True, help="Do not time this machine.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@max_invalid_option
def new_command(
    archives: tuple[str, ...],
    engine: EngineOptions,
    profile: str,
    output: Output,
    to: Path,
    name: str | None,
    release: str | None,
    random: bool,
    within: float | None,
    no_timing: bool,
    force: bool,
    max_invalid_percent: float | None,
) -> None:
    """Look into labelled archives, as a run will, and write a run.yaml for them.

    An ARCHIVE is a file or a folder on this disk, a KEY one that was pushed, as datasets/local/my-export.tar or only
    its file name. Without either it is the one archive that the store holds; several become one data set.
    """
    if to.exists() and not force:
        raise SpecError(f"{to} exists and is not overwritten; --force does that, --to names another file")
    if random and release is not None:
        raise SpecError(f"--random and --from {release} are two starts; give one of them")
    if name is not None:
        require_name(name)
    if not to.parent.is_dir():
        raise SpecError(f"--to {to}: there is no folder {to.parent}; create it, or name another file")
    with explain_store_errors(endpoint=engine.endpoint):
        destination = _destination(archives, engine)
        try:
            target = destination.target(release, random=random, profile=profile, object_store=engine.object_store)
        except SpecError as error:
            if error.reason is Reason.WEIGHTS_NOT_FOUND:
                # Whoever also mistyped the archive is told that first.
                with _found(archives, destination):
                    pass
            raise
        found, report = _inspect(archives, destination, max_invalid_percent)
    draft = draft_run(
        report,
        [item.key for item in found],
        target,
        options=DraftOptions(name, within, max_invalid_percent),
        benchmark=None if no_timing or destination.cluster else _shown_benchmark(report),
    )
    with written_whole(to) as stream:
        stream.write(draft.text.encode())
    next_commands = _next_commands(found, destination, to, store=engine.store)
    if output.is_text:
        click.echo(f"{_file_names(found)}: {report.message}")
        for warning in report.warnings:
            _echo(with_links(f"warning: {warning}"))
        _print(draft, to, next_commands)
    else:
        output.print(_document(draft, to, next_commands), [str(to)])


def _shown_benchmark(report: LintReport) -> Benchmark:
    """The benchmark of this machine, which takes a minute or more, with a spinner."""
    benchmark = benchmark_for(report)

    def run(on_cpu: Settings, on_gpu: Settings) -> Timing:
        with spinner("timing a few training steps on this machine (--no-timing leaves it out)"):
            return benchmark(on_cpu, on_gpu)

    return run


@dataclass(frozen=True)
class _Destination:
    """The engine of the run: `cluster`, or the local engine with `folder`. `store` is None if the archives are on this
    disk and the run is for a cluster, whose bucket need not be read."""

    store: Store | None
    namespace: str
    folder: Path | None = None
    cluster: ClusterAccess | None = None

    def target(self, release: str | None, *, random: bool, profile: str, object_store: str) -> RunTarget:
        if self.cluster is not None:
            cluster = self.cluster.cluster
            return cluster_target(
                cluster, self.namespace, release=release, random=random, profile=profile, object_store=object_store
            )
        assert self.folder is not None
        assert self.store is not None
        return local_target(self.folder, self.store, self.namespace, release=release, random=random)


def _destination(archives: Sequence[str], engine: EngineOptions) -> _Destination:
    """The engine that the options select; if they name none and the archives are files on this disk, this machine."""
    folder = engine.local_folder(by_namespace=True)
    on_disk = bool(archives) and all(Path(item).exists() for item in archives)
    if folder is None and not engine.cluster.is_given and on_disk:
        folder = DEFAULT_STORE
    if folder is not None:
        return _Destination(open_local_store(folder), engine.cluster.namespace or DEFAULT_NAMESPACE, folder=folder)
    try:
        access = connect_engine(engine)
    except NoEngine as error:
        missing = next((item for item in archives if not Path(item).exists()), None)
        if missing is None:
            raise
        message = f"there is no file {missing} here{did_you_mean(missing)}"
        raise DatasetError(Reason.DATASET_NOT_FOUND, message) from error
    bucket = None if on_disk else bucket_of(access, engine.object_store, endpoint=engine.endpoint)
    return _Destination(bucket, access.namespace, cluster=access)


@contextmanager
def _found(archives: Sequence[str], destination: _Destination) -> Iterator[list[Archive]]:
    """The archives, readable during the block. Raises DatasetError where one is not there."""
    with tempfile.TemporaryDirectory(prefix="atoll-new-") as scratch:
        yield find_archives(archives, destination.store, destination.namespace, scratch=Path(scratch))


def _inspect(
    archives: Sequence[str], destination: _Destination, max_invalid_percent: float | None
) -> tuple[list[Archive], LintReport]:
    """The archives, and what a run would make of them. Raises DatasetError if it would refuse them."""
    with _found(archives, destination) as found, spinner(f"looking into {_file_names(found)}"):
        report = lint_archives([item.path for item in found], max_invalid_percent=max_invalid_percent)
    if not report.ok:
        raise DatasetError(Reason(report.reason), f"{report.fault_of(report.path)}; no file was written")
    return found, report


def _file_names(archives: Sequence[Archive]) -> str:
    return ", ".join(item.path.name or str(item.path) for item in archives)


def _echo(text: str) -> None:
    click.echo(text, err=True)


def _next_commands(
    archives: Sequence[Archive], destination: _Destination, path: Path, *, store: Path | None
) -> list[str]:
    """The commands that start the run; `store` is what the user gave with --store."""
    outside = [shlex.quote(str(item.path)) for item in archives if not item.stored]
    file = shlex.quote(str(path))
    if destination.cluster is not None:
        pushes = [f"atoll push {path} -n {destination.namespace}" for path in outside]
        return [*pushes, f"kubectl apply -f {file}"]
    data = "".join(f" --data {path}" for path in outside)
    option = "" if store is None or store == DEFAULT_STORE else f" --store {shlex.quote(str(store))}"
    return [f"atoll run -f {file}{data}{option}"]


def _print(draft: Draft, path: Path, next_commands: Sequence[str]) -> None:
    settings, weights = draft.settings, draft.settings.initial_weights
    click.echo(
        f"{path}: run {draft.run}, {settings.architecture} width {settings.width}, "
        f"{settings.steps} steps of {settings.batch} pictures from {weights.release or weights.type}"
    )
    time = f"time: about {duration(draft.seconds)}" if draft.seconds is not None else "time: no estimate"
    if draft.input_reason:
        click.echo(f"input: {settings.architecture.side} pixels, as {draft.input_reason}")
    click.echo(f"{time} ({draft.basis})")
    click.echo("next: " + "\n      ".join(next_commands))


def _document(draft: Draft, path: Path, next_commands: Sequence[str]) -> dict[str, object]:
    settings = draft.settings
    document: dict[str, object | None] = {
        "file": str(path),
        "run": draft.run,
        "model": draft.model,
        "architecture": str(settings.architecture),
        "width": settings.width,
        "initFrom": str(settings.initial_weights.type),
        "steps": settings.steps,
        "batchSize": settings.batch,
        "inputReason": draft.input_reason or None,
        "estimateSeconds": draft.seconds,
        "estimateBasis": draft.basis,
        "next": list(next_commands),
    }
    return {name: value for name, value in document.items() if value is not None}
