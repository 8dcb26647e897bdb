"""`atoll sweep`: looks for the best settings of a training on this machine, from a TrainingSweep in a file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from atoll_cli.commands.run import STAGE_PACKAGES, Interruption, refuse, require_stages
from atoll_cli.console import print_view, text_table
from atoll_cli.local.engine import RunObserver
from atoll_cli.local.result import BUNDLE, REPORT, RESULT, fetch_files
from atoll_cli.local.runfile import InvalidFile, recorded_run_file
from atoll_cli.local.state import RunFolder, read_record
from atoll_cli.local.sweep_state import SweepFolder, local_sweep, runs_of
from atoll_cli.local.sweepfile import read_sweep_file
from atoll_cli.local.sweeps import SweepEngine, SweepRequest
from atoll_cli.options import files_option, signing_key_option, store_option, uploads_option
from atoll_cli.output import Output, output_options
from atoll_cli.run_display import PlainDisplay
from atoll_cli.sweep_report import SWEEP_REPORT, columns, summary_lines, sweep_report, sweep_result, trial_rows
from atoll_cli.sweeps import sweep_exit_status
from atoll_contract.files import written_whole
from atoll_contract.installation import require_packages
from atoll_contract.store import open_store
from atoll_operator.api.sweep import SweepPhase, SweepStatus, read_sweep_status, training_sweep
from atoll_operator.jobs.stage_input import store_spec
from atoll_operator.sweeps.trials import Trial, trials_of


@click.command(name="sweep", short_help="Look for the best settings on this machine, without a cluster.")
@files_option("one TrainingSweep and what its runs name")
@uploads_option
@store_option
@signing_key_option
@output_options(folder="Where to put model.tar.gz, sweep.html and result.json; below the store by default.")
@click.pass_context
def sweep_command(
    context: click.Context,
    paths: tuple[Path, ...],
    data: tuple[Path, ...],
    weights: tuple[Path, ...],
    store: Path,
    signing_key: Path | None,
    output: Output,
    to: Path | None,
) -> None:
    """Train with different settings, end early what falls behind, and publish the best run alone.

    The trials are runs of their own (atoll status shows them) and share one conversion. The same command goes on where
    an earlier one stopped. Ctrl-C saves checkpoints and suspends the sweep.
    """
    require_stages("atoll sweep")
    require_packages("atoll sweep", (*STAGE_PACKAGES, "optuna"))
    try:
        file = read_sweep_file(paths, store=store, signing_key=signing_key)
    except InvalidFile as error:
        refuse(context, error)
    display = _Display(quiet=not output.is_text)
    engine = SweepEngine(SweepRequest(file, data, weights), display)
    Interruption(PlainDisplay()).watch(engine)
    status = engine.run()
    document = write_results(engine.folder, to or engine.folder.results)
    if output.is_text:
        trials = _trials(engine.folder)[1]
        print_view(text_table(columns(file.spec.parameters), trial_rows(trials, file.spec.parameters)))
        for line in summary_lines(status):
            click.echo(line)
        click.echo(f"report: {document['report']}")
    else:
        output.print(document, [file.name])
    context.exit(sweep_exit_status(status))


def write_results(folder: SweepFolder, target: Path) -> dict[str, object]:
    """Writes the report, the files of the winner and `result.json` into `target`; returns that document."""
    status, trials = _trials(folder)
    _, record = local_sweep(folder.store, folder.name)
    target.mkdir(parents=True, exist_ok=True)
    files = {"report": target / SWEEP_REPORT}
    page = sweep_report(folder.name, training_sweep(record.document), status, trials)
    with written_whole(files["report"]) as stream:
        stream.write(page.encode())
    if status.phase is SweepPhase.SUCCEEDED:
        files |= _winner_files(folder, trials, target)
    document = sweep_result(folder.name, status, trials, files)
    with written_whole(target / RESULT) as stream:
        stream.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    return document


def _winner_files(folder: SweepFolder, trials: list[Trial], target: Path) -> dict[str, Path]:
    winner = next((trial for trial in trials if not trial.held), None)
    run = RunFolder(folder.store, folder.namespace, winner.name) if winner is not None else None
    record = read_record(run) if run is not None else None
    if winner is None or run is None or record is None:
        return {}
    store = open_store(store_spec(recorded_run_file(run, record).own_store))
    found = fetch_files(winner.status, store, target)
    names = {BUNDLE: "bundle", REPORT: "bestReport"}
    return {names[name]: path for name, path in found.items()}


def _trials(folder: SweepFolder) -> tuple[SweepStatus, list[Trial]]:
    _, record = local_sweep(folder.store, folder.name)
    return read_sweep_status(record.status) or SweepStatus(), trials_of(record.manifest, runs_of(folder).values())


class _Display:
    """Lines on standard error; those of a trial begin with its name."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def run(self, name: str) -> RunObserver:
        return _TrialDisplay(name, quiet=self._quiet)


class _TrialDisplay(PlainDisplay):
    def __init__(self, name: str, *, quiet: bool) -> None:
        super().__init__()
        self._name = name
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            click.echo(f"{self._name}: {text}", err=True)
