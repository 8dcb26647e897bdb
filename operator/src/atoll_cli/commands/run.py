"""`atoll run`: the whole pipeline on this machine, from a TrainingRun in a file."""

from __future__ import annotations

import atexit
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import click

from atoll_cli.console import exit_status
from atoll_cli.local.launch import LaunchRequest, launch
from atoll_cli.local.result import RunResult
from atoll_cli.local.runfile import InvalidFile, read_run_file
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import files_option, max_invalid_option, signing_key_option, store_option, uploads_option
from atoll_cli.output import Output, output_options
from atoll_cli.run_display import Display, LiveDisplay, PlainDisplay, print_outcome
from atoll_contract.errors import SpecError
from atoll_contract.installation import require_packages
from atoll_operator.api.status import Phase
from atoll_operator.lifecycle.admission import HELD

# What the stages import of other packages: without one of them a run would fail minutes later, and three times.
STAGE_PACKAGES = (
    "boto3",
    "cryptography",
    "defusedxml",
    "google_crc32c",
    "jinja2",
    "numpy",
    "PIL",
    "pycocotools",
    "tensorflow",
)


@click.command(name="run", short_help="Run a TrainingRun on this machine, without a cluster.")
@files_option("one TrainingRun and what it names")
@uploads_option
@store_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Use this seed instead of the file's.")
@click.option("--workers", type=click.IntRange(1, 16), metavar="N", help="Train with so many processes on the CPU.")
@max_invalid_option
@signing_key_option
@click.option("--rerun", is_flag=True, help="Start a run of this name anew; its releases stay.")
@output_options(folder="Where to put model.tar.gz, report.html and result.json; below the store by default.")
@click.pass_context
def run_command(
    context: click.Context,
    paths: tuple[Path, ...],
    data: tuple[Path, ...],
    weights: tuple[Path, ...],
    store: Path,
    seed: int | None,
    workers: int | None,
    max_invalid_percent: float | None,
    signing_key: Path | None,
    rerun: bool,
    output: Output,
    to: Path | None,
) -> None:
    """Convert, train, export, compile and publish as on a cluster: with processes for pods, a folder for the bucket.

    The same command goes on where an earlier one stopped, tries a failed stage again, and shows the result of a run
    that has ended. Ctrl-C saves a checkpoint and suspends the run.
    """
    require_stages("atoll run")
    try:
        file = read_run_file(
            paths,
            store=store,
            seed=seed,
            workers=workers,
            max_invalid_percent=max_invalid_percent,
            signing_key=signing_key,
        )
    except InvalidFile as error:
        refuse(context, error)
    named = [*(("-f", path) for path in paths), *(("--data", path) for path in data)]
    arguments = ["atoll", "run", *(str(word) for option in named for word in option)]
    if store != DEFAULT_STORE:
        arguments += ["--store", str(store)]
    request = LaunchRequest(
        file, store, data=data, weights=weights, rerun=rerun, output=to, command=shlex.join(arguments)
    )
    context.exit(run_here(request, output))


def refuse(context: click.Context, error: InvalidFile) -> NoReturn:
    """Ends the command with what is wrong in the user's file."""
    for line in error.lines:
        click.echo(line, err=True)
    context.exit(int(error.code))


def require_stages(command: str) -> None:
    """Raises SpecError if no stage runs on this system, or if the packages of the stages are not installed."""
    if sys.platform == "win32":
        raise SpecError(f"stages run on Linux, macOS and WSL2; use {command} there, or a cluster")
    require_packages(command, STAGE_PACKAGES)


def run_here(request: LaunchRequest, output: Output) -> int:
    """Run the engine in this terminal, and print the outcome; returns the exit code."""
    result = _run(request, quiet=not output.is_text)
    if output.is_text:
        print_outcome(result)
    else:
        output.print(result.document, [str(result.document["run"])])
    return exit_status(result.status)


def _run(request: LaunchRequest, *, quiet: bool) -> RunResult:
    display: Display = PlainDisplay() if quiet or not sys.stderr.isatty() else LiveDisplay()
    with display:
        interruption = Interruption(display)
        result = launch(request, observer=display, on_start=interruption.watch)
    if result.status.phase is Phase.SUSPENDED and not result.recalled:
        name = request.file.name
        text = f"suspended; the same command, or atoll resume {name}, goes on from the last checkpoint"
        click.echo(result.status.message if result.status.message == HELD else text, err=True)
    return result


class Interruptible(Protocol):
    """What Ctrl-C stops: the engine of a run, or that of a sweep."""

    def suspend(self) -> None: ...

    def kill(self) -> None: ...


class Interruption:
    """Handles Ctrl-C and SIGTERM: the first suspends the run, the second ends the stage at once."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._suspending = False

    def watch(self, engine: Interruptible) -> None:
        def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self._suspending:
                engine.kill()
                return
            self._suspending = True
            self._display.say("suspending: the stage saves its checkpoint; once more ends it at once")
            engine.suspend()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)
            # Python drops its handlers before it ends: one more Ctrl-C then would turn the exit code into a signal's.
            atexit.register(signal.signal, number, signal.SIG_IGN)
