"""Sweeps of both engines in the form of the API's objects, for the commands that know runs too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_cli.cluster_access import Body, ClusterAccess
from atoll_cli.console import CANCELLED, INTERRUPTED, reason_status, text_table
from atoll_cli.local.sweep_state import known_sweeps, local_sweep, read_sweep, runs_of
from atoll_cli.local_runs import LocalRuns
from atoll_cli.sweep_report import columns, summary_lines, trial_rows
from atoll_contract.document import DecodeError
from atoll_contract.errors import SpecError
from atoll_contract.text import duration
from atoll_operator.api.status import seconds_between
from atoll_operator.api.sweep import SweepPhase, SweepStatus, TrainingSweepSpec, read_sweep_status, training_sweep
from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.objects import RUNS, SWEEPS
from atoll_operator.sweeps.space import SWEEP_LABEL
from atoll_operator.sweeps.trials import Trial, trials_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


@dataclass(frozen=True)
class ShownSweep:
    """A sweep with its trials."""

    body: Body
    trials: Sequence[Trial]

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def spec(self) -> TrainingSweepSpec:
        return training_sweep(self.body)

    @property
    def status(self) -> SweepStatus:
        """Raises SpecError where another program than the operator wrote the status."""
        try:
            return read_sweep_status(self.body.get("status")) or SweepStatus(message="no operator has looked at it yet")
        except DecodeError as error:
            raise SpecError(f"the status of sweep {self.name} cannot be read: {error}") from None


def find_sweep(source: LocalRuns | ClusterAccess, name: str) -> ShownSweep | None:
    """The sweep of this name; None where there is none.

    Raises:
        ClusterError: the API server does not answer.
    """
    if isinstance(source, LocalRuns):
        try:
            folder, record = local_sweep(source.store, name)
        except SpecError:
            return None
        return ShownSweep(record.manifest, trials_of(record.manifest, runs_of(folder).values()))
    try:
        body = source.cluster.read(SWEEPS, source.namespace, name)
    except ClusterError:
        # An installation of before has no such kind, or the user may not read it.
        return None
    if body is None:
        return None
    runs = source.cluster.list_all(RUNS, source.namespace, labels=f"{SWEEP_LABEL}={name}")
    return ShownSweep(body, trials_of(body, runs))


@dataclass(frozen=True)
class SweepSource:
    """The sweeps of a source, to be read again and again. What the API server refuses is raised."""

    source: LocalRuns | ClusterAccess

    def run(self, name: str) -> Body:
        """The sweep. Raises SpecError if there is none of this name."""
        if isinstance(self.source, LocalRuns):
            return local_sweep(self.source.store, name)[1].manifest
        body = self.source.cluster.read(SWEEPS, self.source.namespace, name)
        if body is None:
            raise SpecError(f"there is no TrainingSweep {name} in namespace {self.source.namespace}")
        return body


def has_ended(body: Body) -> bool:
    """Whether a sweep is over. Raises SpecError where its status cannot be read."""
    return ShownSweep(body, ()).status.is_terminal


def sweep_exit_status(status: SweepStatus) -> int:
    """The exit code for a sweep that has this status."""
    known = {SweepPhase.SUCCEEDED: 0, SweepPhase.CANCELLED: CANCELLED, SweepPhase.FAILED: reason_status(status.reason)}
    return known.get(status.phase, INTERRUPTED)


def sweep_line(body: Body) -> str:
    """`ball: Running 5/12: at work: ball-t05`."""
    sweep = ShownSweep(body, ())
    status = sweep.status
    share = f" {status.trials.display}" if status.trials and not status.is_terminal else ""
    return f"{sweep.name}: {status.phase}{share}" + (f": {status.message}" if status.message else "")


def list_sweeps(source: LocalRuns | ClusterAccess, *, everywhere: bool = False) -> list[Body]:
    """Every sweep of the source; with `everywhere`, a cluster's of every namespace."""
    if isinstance(source, LocalRuns):
        records = [read_sweep(folder) for folder in known_sweeps(source.store.resolve())]
        return [record.manifest for record in records if record is not None]
    try:
        return source.cluster.list_all(SWEEPS, None if everywhere else source.namespace)
    except ClusterError:
        return []


def sweeps_table(sweeps: Iterable[Body], *, now: datetime, namespaces: bool = False) -> Table:
    """The columns of `kubectl get tsweep`, with that of its -A if asked for."""
    rows = []
    for body in sweeps:
        sweep = ShownSweep(body, ())
        status = sweep.status
        best = (status.best.ap50, status.best.run) if status.best else ("", "")
        display = status.trials.display if status.trials else ""
        age = duration(seconds_between(body["metadata"]["creationTimestamp"], now))
        first = [body["metadata"]["namespace"]] if namespaces else []
        rows.append([*first, sweep.name, str(status.phase), display, *best, status.release or "", age])
    names = ["SWEEP", "PHASE", "TRIALS", "BEST", "RUN", "RELEASE", "AGE"]
    return text_table([*(["NAMESPACE"] if namespaces else []), *names], rows)


def sweep_view(sweep: ShownSweep) -> Group:
    """A sweep: its trials as a table, and what came of it in sentences."""
    from rich.console import Group
    from rich.text import Text

    parameters = sweep.spec.parameters
    table = [text_table(columns(parameters), trial_rows(sweep.trials, parameters))] if sweep.trials else []
    return Group(*table, *(Text(line) for line in summary_lines(sweep.status)))


def patch_sweep(access: ClusterAccess, name: str, spec: dict[str, Any]) -> None:
    """Changes the spec of a sweep of the cluster."""
    access.cluster.patch(SWEEPS, access.namespace, name, {"spec": spec})


def cancel_local_sweep(store: Path, name: str) -> str:
    """Ends a sweep of the local engine, or asks its engine to; returns what was done, as a sentence."""
    folder, record = local_sweep(store, name)
    status = ShownSweep(record.manifest, ()).status
    if status.is_terminal:
        raise SpecError(f"sweep {name} has ended already: {status.phase}")
    folder.cancel_request.touch()
    if folder.is_locked():
        return f"sweep {name} in {store.resolve()} is asked to end"
    from atoll_cli.local.sweeps import end_cancelled_sweep

    end_cancelled_sweep(folder, record)
    return f"sweep {name} in {store.resolve()} is cancelled"
