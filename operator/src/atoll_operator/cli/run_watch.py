"""Looking at a run of the cluster until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from atoll_contract.codec import DecodeError
from atoll_contract.errors import SpecError
from atoll_operator.cli.cluster_access import Access
from atoll_operator.decide.retry import MAX_VALUE
from atoll_operator.kube.errors import Unavailable
from atoll_operator.status import Phase, RunStatus
from atoll_operator.status_document import read_status
from atoll_operator.views_spec import RETRY_ANNOTATION

Body = dict[str, Any]

INTERVAL_SECONDS = 2.0
# An API server that restarts, or a laptop that changes its network, ends no watch.
PATIENCE_SECONDS = 180.0


class TimeIsUp(Exception):
    """The run has not ended in the time that the user gave."""


@dataclass(frozen=True)
class Watch:
    """Looks again and again; clock and sleep are parameters for tests."""

    access: Access
    name: str
    interval: float = INTERVAL_SECONDS
    patience: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def looks(self, *, timeout: float | None = None) -> Iterator[Body]:
        """The run at each look; the last one is that of its end.

        Raises:
            SpecError: there is no such run, or it was deleted meanwhile.
            TimeIsUp: `timeout` seconds have passed.
            ClusterError: refused, or no answer for a long time.
        """
        started = answered = self.clock()
        uid = ""
        while True:
            try:
                run = self.access.run(self.name)
            except Unavailable as error:
                if not uid or self.clock() - answered > self.patience:
                    raise
                click.echo(f"{error}; looking again", err=True)
            else:
                answered = self.clock()
                uid = uid or run["metadata"]["uid"]
                if run["metadata"]["uid"] != uid:
                    raise SpecError(f"the run {self.name} was deleted and another made under its name")
                yield run
                if is_settled(run):
                    return
            if timeout is not None and self.clock() - started >= timeout:
                raise TimeIsUp
            self.sleep(self.interval)


def is_settled(run: Body) -> bool:
    """Whether the run has ended, and no retry is asked for that the operator has yet to see."""
    status = status_of(run)
    if not status.is_terminal:
        return False
    asked = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    return status.phase is not Phase.FAILED or not asked or asked[:MAX_VALUE] == status.last_handled_retry


def status_of(run: Body) -> RunStatus:
    """The run's status; that of a new run where no operator has written one.

    Raises:
        SpecError: somebody wrote a status by hand that cannot be read.
    """
    try:
        found = read_status(run.get("status"))
    except DecodeError as error:
        raise SpecError(f"the status of run {run['metadata']['name']} cannot be read: {error}") from None
    return found or RunStatus(message="no operator has looked at the run yet")
