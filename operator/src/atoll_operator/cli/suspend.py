"""`atoll suspend`: stops a run of the cluster for a while."""

import click

from atoll_operator.cli.cluster_access import Where, cluster_options
from atoll_operator.cli.running import require_running


@click.command(name="suspend", short_help="Stop a run of the cluster for a while.")
@click.argument("name", metavar="RUN")
@cluster_options
def command(name: str, where: Where) -> None:
    """Set spec.suspend: the stage that runs saves its checkpoint and ends; the deadline's clock stands still."""
    access = where.connect()
    require_running(access.run(name))
    access.patch_run(name, {"spec": {"suspend": True}})
    click.echo(f"run {name} is asked to pause; atoll resume {name} lets it go on")
