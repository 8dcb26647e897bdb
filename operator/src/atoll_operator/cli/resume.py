"""`atoll resume`: lets a suspended run of the cluster go on."""

import click

from atoll_operator.cli.cluster_access import Where, cluster_options
from atoll_operator.cli.running import require_running


@click.command(name="resume", short_help="Let a suspended run go on.")
@click.argument("name", metavar="RUN")
@cluster_options
def command(name: str, where: Where) -> None:
    """Take spec.suspend back: the run goes on from its last checkpoint."""
    access = where.connect()
    run = access.run(name)
    require_running(run)
    if not run["spec"].get("suspend"):
        click.echo(f"run {name} is not suspended")
        return
    access.patch_run(name, {"spec": {"suspend": False}})
    click.echo(f"run {name} goes on")
