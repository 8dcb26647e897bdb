"""`atoll cancel`, `suspend`, `resume` and `retry`: the requests of a user to an existing run."""

from datetime import UTC, datetime
from pathlib import Path

import click

from atoll_cli.cluster_access import Body, connect
from atoll_cli.cluster_runs import is_settled, status_of
from atoll_cli.local.state import read_record
from atoll_cli.options import ClusterOptions, EngineOptions, cluster_options, engine_options
from atoll_cli.store_access import local_run
from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage
from atoll_operator.api.status import Phase, StagePhase, read_status
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION


@click.command(name="cancel", short_help="End a run for good.")
@click.argument("name", metavar="RUN")
@engine_options()
def cancel_command(name: str, engine: EngineOptions) -> None:
    """End a run of the cluster or of the local engine (docs/cli.md says which). It cannot be taken back.

    Nothing that was published is removed. A local run that is suspended ends when it is started the next time.
    """
    folder = engine.local_folder()
    if folder is not None:
        _cancel_local(folder, name)
        return
    access = connect(engine.cluster)
    _require_running(access.run(name))
    access.patch_run(name, {"spec": {"cancel": True}})
    click.echo(f"run {name} in namespace {access.namespace} is asked to end")


def _cancel_local(store: Path, name: str) -> None:
    """The engine sees the request within a second and stops the stage that runs."""
    folder = local_run(store, name)
    record = read_record(folder)
    status = read_status(record.status) if record else None
    if status is not None and status.is_terminal:
        raise SpecError(f"run {name} has ended already: {status.phase}")
    folder.cancel_request.touch()
    click.echo(f"run {name} in {store.resolve()} is asked to end")


@click.command(name="suspend", short_help="Stop a run of the cluster for a while.")
@click.argument("name", metavar="RUN")
@cluster_options
def suspend_command(name: str, cluster: ClusterOptions) -> None:
    """Set spec.suspend: the stage that runs saves its checkpoint and ends; the deadline's clock stands still."""
    access = connect(cluster)
    _require_running(access.run(name))
    access.patch_run(name, {"spec": {"suspend": True}})
    click.echo(f"run {name} is asked to pause; atoll resume {name} lets it go on")


@click.command(name="resume", short_help="Let a suspended run go on.")
@click.argument("name", metavar="RUN")
@cluster_options
def resume_command(name: str, cluster: ClusterOptions) -> None:
    """Take spec.suspend back: the run goes on from its last checkpoint."""
    access = connect(cluster)
    run = access.run(name)
    _require_running(run)
    if not run["spec"].get("suspend"):
        click.echo(f"run {name} is not suspended")
        return
    access.patch_run(name, {"spec": {"suspend": False}})
    click.echo(f"run {name} goes on")


def _require_running(run: Body) -> None:
    """Raises SpecError if the run has ended."""
    if is_settled(run):
        status = status_of(run)
        name = run["metadata"]["name"]
        advice = f"; atoll retry {name} starts it again" if status.phase is Phase.FAILED else ""
        raise SpecError(f"run {name} has ended already: {status.phase}{advice}")


@click.command(name="retry", short_help="Start a failed run again, from the stage that failed.")
@click.argument("name", metavar="RUN")
@cluster_options
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Go back to this earlier stage.")
def retry_command(name: str, cluster: ClusterOptions, stage: str | None) -> None:
    """Give the annotation atoll.dev/retry a new value. Stages that are done stay done; attempt numbers go on.

    With --stage, that stage and all after it are done anew: nothing from their earlier attempts is taken over.
    """
    access = connect(cluster)
    run = access.run(name)
    status = status_of(run)
    if status.phase is not Phase.FAILED:
        raise SpecError(f"run {name} is {status.phase}; only a failed run can be tried again")
    if not is_settled(run):
        click.echo(f"run {name} is asked to start again already")
        return
    value = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ") + (f":{stage}" if stage else "")
    access.patch_run(name, {"metadata": {"annotations": {RETRY_ANNOTATION: value}}})
    failed = next((item.name for item in status.stages if item.phase is StagePhase.FAILED), None)
    click.echo(f"run {name} starts again" + (f" from stage {stage or failed}" if stage or failed else ""))
