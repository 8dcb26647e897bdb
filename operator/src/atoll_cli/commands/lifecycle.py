"""`atoll cancel`, `suspend`, `resume` and `retry`: the requests of a user to an existing run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.cluster_runs import is_settled, status_of
from atoll_cli.local.state import RunFolder, known_runs
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_option
from atoll_cli.sweeps import cancel_local_sweep, find_sweep, patch_sweep
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, RunStatus, StagePhase
from atoll_operator.kube.objects import RUNS
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION


@click.command(name="cancel", short_help="End a run for good.")
@click.argument("name", metavar="RUN")
@engine_options()
@output_option
def cancel_command(name: str, engine: EngineOptions, output: Output) -> None:
    """End a run or a sweep of the cluster or of the local engine (atoll help cli says which). It cannot be taken back.

    Nothing that was published is removed.
    """
    store = engine.local_folder()
    if store is not None:
        is_run = any(folder.name == name for folder in known_runs(store.resolve()))
        is_sweep = not is_run and find_sweep(LocalRuns(store), name) is not None
        _say(cancel_local_sweep(store, name) if is_sweep else _cancel_local(store, name), name, output)
        return
    access = connect_engine(engine)
    if _change_sweep(access, name, {"cancel": True}):
        _say(f"sweep {name} in namespace {access.namespace} is asked to end", name, output)
        return
    _require_running(access.run(name))
    access.patch_run(name, {"spec": {"cancel": True}})
    _say(f"run {name} in namespace {access.namespace} is asked to end", name, output)


def _cancel_local(store: Path, name: str) -> str:
    """End the run, or ask its engine to; returns what was done, as a sentence."""
    folder = _unfinished(store, name)
    # The engine sees the request within a second and stops the stage that runs.
    folder.cancel_request.touch()
    if folder.is_locked():
        return f"run {name} in {store.resolve()} is asked to end"
    from atoll_cli.local.launch import end_cancelled

    try:
        end_cancelled(folder)
    except AtollError as error:
        return f"run {name} ends when it is started the next time: {error.message}"
    return f"run {name} in {store.resolve()} is cancelled"


@click.command(name="suspend", short_help="Stop a run for a while.")
@click.argument("name", metavar="RUN")
@engine_options()
@output_option
def suspend_command(name: str, engine: EngineOptions, output: Output) -> None:
    """Let the stage that runs save its checkpoint and end; the deadline's clock stands still.

    On a cluster this sets spec.suspend. A local engine ends as it does at Ctrl-C.
    """
    store = engine.local_folder()
    if store is not None:
        folder = _unfinished(store, name)
        if folder.is_locked():
            folder.suspend_request.touch()
            _say(f"run {name} is asked to pause; atoll resume {name} lets it go on", name, output)
        else:
            _say(f"run {name} is suspended already; atoll resume {name} lets it go on", name, output)
        return
    access = connect_engine(engine)
    if _change_sweep(access, name, {"suspend": True}):
        _say(f"sweep {name} is asked to pause; atoll resume {name} lets it go on", name, output)
        return
    _require_running(access.run(name))
    access.patch_run(name, {"spec": {"suspend": True}})
    _say(f"run {name} is asked to pause; atoll resume {name} lets it go on", name, output)


@click.command(name="resume", short_help="Let a suspended run go on.")
@click.argument("name", metavar="RUN")
@engine_options()
@output_option
@click.pass_context
def resume_command(context: click.Context, name: str, engine: EngineOptions, output: Output) -> None:
    """Let a run go on from its last checkpoint.

    On a cluster this takes spec.suspend back. A local run goes on in this terminal, as `atoll run` would with the file
    that it was started with.
    """
    store = engine.local_folder()
    if store is not None:
        context.exit(_run_recorded(store, _unfinished(store, name), output, command="atoll resume"))
    access = connect_engine(engine)
    if _change_sweep(access, name, {"suspend": False}):
        _say(f"sweep {name} goes on", name, output)
        return
    run = access.run(name)
    _require_running(run)
    if not run["spec"].get("suspend"):
        _say(f"run {name} is not suspended", name, output)
        return
    access.patch_run(name, {"spec": {"suspend": False}})
    _say(f"run {name} goes on", name, output)


def _change_sweep(access: ClusterAccess, name: str, spec: Body) -> bool:
    """Changes the spec of the sweep of this name; returns False where a run has it, or no sweep."""
    if access.cluster.read(RUNS, access.namespace, name) is not None:
        return False
    sweep = find_sweep(access, name)
    if sweep is None:
        return False
    if sweep.status.is_terminal:
        raise SpecError(f"sweep {name} has ended already: {sweep.status.phase}")
    patch_sweep(access, name, spec)
    return True


def _say(message: str, name: str, output: Output) -> None:
    """Print what was asked of a run, as a sentence or in the format that the user wants."""
    if output.is_text:
        click.echo(message)
    else:
        output.print({"run": name, "message": message}, [name])


def _unfinished(store: Path, name: str) -> RunFolder:
    """The folder of a local run that has not ended; raises as `LocalRuns.run` and `_require_running` do."""
    folder, run = LocalRuns(store).read(name)
    _require_running(run)
    return folder


def _require_running(run: Body) -> None:
    """Raises SpecError if the run has ended."""
    if is_settled(run):
        status = status_of(run)
        name = run["metadata"]["name"]
        advice = f"; atoll retry {name} starts it again" if status.phase is Phase.FAILED else ""
        raise SpecError(f"run {name} has ended already: {status.phase}{advice}")


def _run_recorded(
    store: Path, folder: RunFolder, output: Output, *, command: str, retry_from: Stage | None = None
) -> int:
    """Go on with a local run in this terminal, with the settings that it was started with; returns the exit code."""
    # `run` needs modules that Windows lacks.
    from atoll_cli.commands.run import require_stages, run_here
    from atoll_cli.local.launch import LaunchRequest
    from atoll_cli.local.runfile import recorded_run_file

    require_stages(command)
    _, record = LocalRuns(store).record(folder.name)
    return run_here(LaunchRequest(recorded_run_file(folder, record), store, retry_from=retry_from), output)


@click.command(name="retry", short_help="Start a failed run again, from the stage that failed.")
@click.argument("name", metavar="RUN")
@engine_options()
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Go back to this earlier stage.")
@output_option
@click.pass_context
def retry_command(context: click.Context, name: str, engine: EngineOptions, stage: str | None, output: Output) -> None:
    """Start a failed run again. Stages that are done stay done; attempt numbers go on.

    With --stage, that stage and all after it are done anew: nothing from their earlier attempts is taken over. On a
    cluster this gives the annotation atoll.dev/retry a new value. A local run starts in this terminal.
    """
    store = engine.local_folder()
    if store is not None:
        folder, run = LocalRuns(store).read(name)
        _require_failed(run)
        retry_from = Stage(stage) if stage else None
        context.exit(_run_recorded(store, folder, output, command="atoll retry", retry_from=retry_from))
    access = connect_engine(engine)
    run = access.run(name)
    status = _require_failed(run)
    if not is_settled(run):
        _say(f"run {name} is asked to start again already", name, output)
        return
    value = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ") + (f":{stage}" if stage else "")
    access.patch_run(name, {"metadata": {"annotations": {RETRY_ANNOTATION: value}}})
    failed = next((item.name for item in status.stages if item.phase is StagePhase.FAILED), None)
    _say(f"run {name} starts again" + (f" from stage {stage or failed}" if stage or failed else ""), name, output)


def _require_failed(run: Body) -> RunStatus:
    """The status of a failed run; raises SpecError for any other."""
    status = status_of(run)
    if status.phase is not Phase.FAILED:
        raise SpecError(f"run {run['metadata']['name']} is {status.phase}; only a failed run can be tried again")
    return status
