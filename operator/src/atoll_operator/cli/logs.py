"""`atoll logs`: what a stage wrote, from its pod or, once that is gone, from the bucket."""

from __future__ import annotations

import time
from typing import Any

import click

from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_operator.cli.archived_log import print_archived
from atoll_operator.cli.bucket import bucket_of, endpoint_option, explained
from atoll_operator.cli.cluster_access import Access, Where, cluster_options
from atoll_operator.cli.pod_log import PodLogs
from atoll_operator.cli.run_watch import PATIENCE_SECONDS, is_settled, status_of
from atoll_operator.kube.errors import Unavailable
from atoll_operator.status import DONE, RunStatus, StagePhase

INTERVAL_SECONDS = 1.0


@click.command(name="logs", short_help="Print what a stage wrote; -f follows the run.")
@click.argument("name", metavar="RUN")
@cluster_options
@endpoint_option
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on from stage to stage until the run has ended, or with --stage that stage.",
)
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="This stage; else the newest one.")
def command(name: str, where: Where, endpoint: str | None, follow: bool, stage: str | None) -> None:
    """Print the log of the stage that runs or ran last.

    While its pod is there the log comes from the cluster, afterwards from the bucket with your own credentials.
    """
    access = where.connect()
    run = access.run(name)
    chosen = Stage(stage) if stage else newest_stage(status_of(run))
    if chosen is None and not follow:
        raise SpecError(f"no stage of run {name} has started; -f waits for one")
    logs = PodLogs(access, run["metadata"]["uid"], first=chosen, only=stage is not None)
    if follow and not _is_over(run, stage):
        _follow(access, name, logs, stage)
    elif not logs.print_new() and chosen is not None:
        _from_bucket(access, run, chosen, endpoint)


def newest_stage(status: RunStatus) -> Stage | None:
    """The stage that runs, else the last one that had an attempt."""
    running = [item.name for item in status.stages if item.phase is StagePhase.RUNNING]
    tried = [item.name for item in status.stages if item.attempts]
    found = running or tried
    return found[-1] if found else None


def _is_over(run: dict[str, Any], stage: str | None) -> bool:
    """Whether nothing more will be written: by the stage that was named, or by any."""
    return is_settled(run) or any(item.name == stage and item.phase in DONE for item in status_of(run).stages)


def _follow(access: Access, name: str, logs: PodLogs, stage: str | None) -> None:
    answered = time.monotonic()
    while True:
        try:
            over = _is_over(access.run(name), stage)
            logs.print_new()
            answered = time.monotonic()
        except Unavailable:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
            over = False
        if over:
            return
        time.sleep(INTERVAL_SECONDS)


def _from_bucket(access: Access, run: dict[str, Any], stage: Stage, endpoint: str | None) -> None:
    metadata = run["metadata"]
    ref = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    with explained(endpoint=endpoint):
        store = bucket_of(access, run["spec"]["objectStoreRef"]["name"], endpoint=endpoint)
        if not print_archived(store, ref, stage):
            raise SpecError(f"the pod of stage {stage} is gone, and {store.url} holds no log of it")
