"""`atoll retry`: starts a failed run of the cluster again."""

from datetime import UTC, datetime

import click

from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage
from atoll_operator.cli.cluster_access import Where, cluster_options
from atoll_operator.cli.run_watch import is_settled, status_of
from atoll_operator.status import Phase, StagePhase
from atoll_operator.views_spec import RETRY_ANNOTATION


@click.command(name="retry", short_help="Start a failed run again, from the stage that failed.")
@click.argument("name", metavar="RUN")
@cluster_options
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Go back to this earlier stage.")
def command(name: str, where: Where, stage: str | None) -> None:
    """Give the annotation atoll.dev/retry a new value. Stages that are done stay done; attempt numbers go on."""
    access = where.connect()
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
