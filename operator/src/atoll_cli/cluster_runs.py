"""Runs of the cluster: waits for the end of one, and formats them for the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import click

from atoll_cli.cluster_access import Body
from atoll_cli.console import describe_figures, text_table
from atoll_cli.pages import with_links
from atoll_contract.document import DecodeError
from atoll_contract.errors import SpecError, advice
from atoll_contract.text import ap50_text, duration
from atoll_operator.api.status import Phase, RunStatus, StagePhase, StageStatus, Usage, parse_time, seconds_between
from atoll_operator.api.status_codec import read_status
from atoll_operator.kube.errors import Unavailable
from atoll_operator.lifecycle.conditions import STALLING
from atoll_operator.lifecycle.inputs import RETRY_ANNOTATION
from atoll_operator.lifecycle.transition import MAX_RETRY_VALUE

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

STAGE_COLUMNS = ("stage", "phase", "time", "tries", "result")
POLL_SECONDS = 2.0
CHOSEN_ON = (
    "AP50 is of the validation part, which also chose the step and the threshold, so it flatters: a test part "
    "(conversion.split.test) tells what to expect"
)
# A watch continues if the API server restarts or the laptop changes its network.
RETRY_TIMEOUT_SECONDS = 180.0


class NamedObjects(Protocol):
    """Where runs, or sweeps, are read from."""

    def run(self, name: str) -> Body:
        """The object. Raises SpecError if there is none of this name."""


class RunSource(NamedObjects, Protocol):
    """Where runs are read from: a namespace of a cluster, or the folder of the local engine."""

    @property
    def location(self) -> str:
        """A name of it for messages."""

    def runs(self) -> list[Body]: ...


class WaitTimeout(Exception):
    """The run has not ended in the time that the user gave."""


@dataclass(frozen=True)
class RunWatch:
    """Reads a run, or another object of the source, again and again until it is `settled`. `clock` and `sleep` are
    parameters for tests."""

    source: NamedObjects
    name: str
    settled: Callable[[Body], bool] = lambda run: is_settled(run)
    interval: float = POLL_SECONDS
    retry_timeout: float = RETRY_TIMEOUT_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def states(self, *, timeout: float | None = None) -> Iterator[Body]:
        """The run each time it is read; the last state is that of its end.

        Raises:
            SpecError: there is no such run, or it was deleted meanwhile.
            WaitTimeout: `timeout` seconds have passed.
            ClusterError: the API server refuses, or has not answered for `retry_timeout` seconds.
        """
        started = answered = self.clock()
        uid = ""
        while True:
            try:
                run = self.source.run(self.name)
            except Unavailable as error:
                if not uid or self.clock() - answered > self.retry_timeout:
                    raise
                click.echo(f"{error}; looking again", err=True)
            else:
                answered = self.clock()
                uid = uid or run["metadata"]["uid"]
                if run["metadata"]["uid"] != uid:
                    raise SpecError(f"{self.name} was deleted and another made under its name")
                yield run
                if self.settled(run):
                    return
            if timeout is not None and self.clock() - started >= timeout:
                raise WaitTimeout
            self.sleep(self.interval)


def is_settled(run: Body) -> bool:
    """Whether the run has ended, and no retry is requested that the operator has yet to see."""
    status = status_of(run)
    return status.is_terminal and not retry_is_pending(run, status)


def retry_is_pending(run: Mapping[str, Any], status: RunStatus) -> bool:
    """Whether a failed run is to start again and the operator has yet to see that."""
    requested = (run["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION) or ""
    return status.phase is Phase.FAILED and requested[:MAX_RETRY_VALUE] not in ("", status.last_handled_retry)


def status_of(run: Body) -> RunStatus:
    """The run's status; that of a new run if no operator has written one.

    Raises:
        SpecError: the status cannot be read, because another program than the operator wrote it.
    """
    try:
        found = read_status(run.get("status"))
    except DecodeError as error:
        raise SpecError(f"the status of run {run['metadata']['name']} cannot be read: {error}") from None
    return found or RunStatus(message="no operator has looked at the run yet")


def runs_table(runs: Iterable[Body], *, now: datetime, namespaces: bool = False, wide: bool = False) -> Table:
    """The columns of `kubectl get trun`, with those of its -A and -o wide if asked for."""
    rows = []
    for run in runs:
        status = status_of(run)
        progress = status.progress.display if status.progress else ""
        age = duration(seconds_between(run["metadata"]["creationTimestamp"], now))
        summary = status.summary
        figures = (summary.ap50, summary.targets or summary.tpu, summary.release)
        row = [run["metadata"]["name"], status.phase, status.reason, progress, *figures, age]
        first = [run["metadata"]["namespace"]] if namespaces else []
        rows.append([*first, *row, *([status.message or ""] if wide else [])])
    names = ["NAME", "PHASE", "REASON", "PROGRESS", "AP50", "TARGETS", "RELEASE", "AGE"]
    return text_table([*(["NAMESPACE"] if namespaces else []), *names, *(["MESSAGE"] if wide else [])], rows)


def run_view(run: Body, *, now: datetime | None = None) -> Group:
    """One run: its stages as a table, and below it the sentences of `run_lines`."""
    from rich.console import Group
    from rich.text import Text

    status = status_of(run)
    now = now or datetime.now(UTC)
    rows = [
        (stage.name, stage.phase, _elapsed(stage, now), str(stage.attempts or ""), _describe_stage(status, stage))
        for stage in status.stages
    ]
    table = [text_table(STAGE_COLUMNS, rows)] if rows else []
    return Group(*table, *(Text(line) for line in run_lines(run)))


def run_lines(run: Body) -> Iterator[str]:
    """The run as a whole, in sentences."""
    status = status_of(run)
    yield f"{run['metadata']['name']}: {describe_phase(status)}"
    if status.phase is Phase.FAILED or (status.reason in STALLING and not status.is_terminal):
        yield with_links(advice(status.reason))
    yield from dataset_warnings(status)
    if status.queue is not None:
        eta = f", about {duration(status.queue.eta_seconds)}" if status.queue.eta_seconds else ""
        yield f"queue: {status.queue.ahead} ahead{eta}"
    summary = status.summary
    targets = summary.targets or summary.tpu
    if summary.ap50 or targets:
        # An older operator, and a run for the Edge TPU alone, name no target.
        lone = len(status.compile) < 2
        yield f"AP50 {describe_ap50(status) or 'unknown'}, {'TPU ' if lone else ''}{targets or 'unknown'}"
        if status.metrics is not None and status.metrics.split == "validation":
            yield CHOSEN_ON
    yield from target_lines(status)
    if status.release is not None and status.release.manifest is not None:
        yield f"release: {status.release.name} (atoll pull {status.release.name})"
    if status.estimate is not None:
        yield f"estimate: {duration(status.estimate.seconds)} in all ({status.estimate.basis})"
    if status.usage is not None:
        yield f"used: {', '.join(_describe_usage(status, status.usage))}"


def describe_ap50(status: RunStatus) -> str:
    """The int8 model's AP50 with the number of pictures and its interval, as far as they are known."""
    metrics = status.metrics
    if metrics is None or not metrics.int8.ap50:
        return status.summary.ap50
    int8 = metrics.int8
    borders = (float(int8.ap50_low), float(int8.ap50_high)) if int8.ap50_low and int8.ap50_high else None
    return ap50_text(float(int8.ap50), images=metrics.pictures or 0, interval=borders)


def target_lines(status: RunStatus) -> Iterator[str]:
    """What came of each compile target of a run that has several."""
    for entry in status.compile:
        if entry.stage is not None and entry.stage.message:
            yield f"{entry.target}: {entry.stage.phase}: {entry.stage.message}"


def dataset_warnings(status: RunStatus) -> list[str]:
    """What conversion left out or changed, a line each."""
    return [with_links(f"warning: {warning}") for warning in (status.dataset and status.dataset.warnings) or ()]


def describe_phase(status: RunStatus) -> str:
    """`Training 45%: step 450/1000`; of a failed run its reason."""
    if status.phase is Phase.FAILED:
        return f"{status.phase}: {status.reason}: {status.message}"
    share = f" {status.progress.display}" if status.progress and not status.is_terminal else ""
    return f"{status.phase}{share}" + (f": {status.message}" if status.message else "")


def _describe_stage(status: RunStatus, stage: StageStatus) -> str:
    progress = status.progress
    if stage.phase is not StagePhase.RUNNING or progress is None or progress.stage is not stage.name:
        return stage.message
    loss, ap50, eta = progress.loss, progress.ap50, progress.eta_seconds
    figures = describe_figures(progress.step, progress.total_steps, loss=loss, ap50=ap50, eta_seconds=eta)
    return figures or stage.message


def _describe_usage(status: RunStatus, usage: Usage) -> Iterator[str]:
    """`12 min of active time`, and what the run's pods used in all their attempts."""
    # A retry begins the deadline anew, and with it the active time; the pods' is that of all attempts.
    note = " (a retry begins it anew)" if status.last_handled_retry else ""
    yield f"{duration(status.active_seconds)} of active time{note}"
    each = ", ".join(f"{item.name} {duration(item.pod_seconds)}" for item in status.stages if item.pod_seconds)
    yield f"{duration(usage.pod_seconds)} of pods" + (f" ({each})" if each else "")
    for seconds, what in ((usage.cpu_seconds, "CPUs"), (usage.gpu_seconds, "GPUs")):
        if seconds:
            yield f"{duration(seconds)} of {what}"


def _elapsed(stage: StageStatus, now: datetime) -> str:
    if stage.start_time is None:
        return ""
    end = parse_time(stage.completion_time) if stage.completion_time else now
    return duration(seconds_between(stage.start_time, end))
