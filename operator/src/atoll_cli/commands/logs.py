"""`atoll logs`: what the stages of a run wrote, from the local engine's files, from pods, or from the bucket."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import click

from atoll_cli.cluster_access import Body, ClusterAccess, connect_engine
from atoll_cli.cluster_runs import RETRY_TIMEOUT_SECONDS, describe_phase, is_settled, status_of
from atoll_cli.console import describe_figures
from atoll_cli.local.logs import LogReader
from atoll_cli.local_runs import LocalRuns
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.store_access import bucket_of, explain_store_errors
from atoll_contract import keys
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_contract.stage_result import parse_line
from atoll_contract.store.base import Store
from atoll_operator.api.status import DONE, RunStatus, StagePhase
from atoll_operator.jobs.manifest import ATTEMPT_LABEL, FOLLOWING_LABEL, RUN_UID_LABEL, STAGE_LABEL, parse_following
from atoll_operator.kube.errors import Unavailable
from atoll_operator.kube.objects import PODS
from atoll_operator.kube.pod_views import speaks_for_job, stage_containers

INTERVAL_SECONDS = 1.0
_CHUNK_KEY = re.compile(r"([1-9][0-9]*)-([^/]+)/[0-9]+\.log")


@click.command(name="logs", short_help="Print what a stage wrote; -f follows the run.")
@click.argument("name", metavar="RUN")
@engine_options(endpoint=True)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on from stage to stage until the run has ended, or with --stage that stage.",
)
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="This stage; else the newest one.")
def logs_command(name: str, engine: EngineOptions, follow: bool, stage: str | None) -> None:
    """Print the log of the stage that runs or ran last.

    That of a local run is a file in its store. That of a cluster's run comes from the cluster while its pod is there,
    afterwards from the bucket with your own credentials.
    """
    folder = engine.local_folder()
    if folder is not None:
        _print_local(LocalRuns(folder), name, stage, follow=follow)
        return
    access = connect_engine(engine)
    run = access.run(name)
    chosen = _chosen_stage(run, stage, follow=follow)
    logs = PodLogs(access, run["metadata"]["uid"], first=chosen, only=stage is not None)
    if follow and not _is_over(run, stage):
        _follow(access, name, logs, stage)
    elif not logs.print_new() and chosen is not None:
        _print_from_bucket(access, run, chosen, engine.endpoint)


def _print_local(runs: LocalRuns, name: str, stage: str | None, *, follow: bool) -> None:
    folder, run = runs.read(name)
    reader = LogReader(folder, _chosen_stage(run, stage, follow=follow), only=stage is not None)
    lines = ReadableLines()
    while True:
        over = not follow or _is_over(run, stage) or not folder.is_locked()
        lines.print(reader.new_lines(whole=over))
        if over:
            break
        time.sleep(INTERVAL_SECONDS)
        run = runs.run(name)
    if follow:
        click.echo(f"== {name}: {describe_phase(status_of(run))}", err=True)


def _chosen_stage(run: Body, stage: str | None, *, follow: bool) -> Stage | None:
    """The stage to begin with; None for the first one that will start."""
    chosen = Stage(stage) if stage else _newest_stage(status_of(run))
    if chosen is None and not follow:
        raise SpecError(f"no stage of run {run['metadata']['name']} has started; -f waits for one")
    return chosen


def _newest_stage(status: RunStatus) -> Stage | None:
    """The stage that runs, else the last one that had an attempt."""
    running = [item.name for item in status.stages if item.phase is StagePhase.RUNNING]
    tried = [item.name for item in status.stages if item.attempts]
    found = running or tried
    return found[-1] if found else None


def _is_over(run: Body, stage: str | None) -> bool:
    """Whether nothing more will be written: by the stage that was named, or by any."""
    return is_settled(run) or any(item.name == stage and item.phase in DONE for item in status_of(run).stages)


def _follow(access: ClusterAccess, name: str, logs: PodLogs, stage: str | None) -> None:
    answered = time.monotonic()
    while True:
        try:
            over = _is_over(access.run(name), stage)
            logs.print_new()
            answered = time.monotonic()
        except Unavailable:
            if time.monotonic() - answered > RETRY_TIMEOUT_SECONDS:
                raise
            over = False
        if over:
            return
        time.sleep(INTERVAL_SECONDS)


class PodLogs:
    """Prints what the pods of the run with this UID write: of stage `first` and, unless `only`, of later ones."""

    def __init__(self, access: ClusterAccess, uid: str, *, first: Stage | None, only: bool) -> None:
        self._access = access
        self._labels = f"{RUN_UID_LABEL}={uid}"
        order = list(Stage)
        self._stages = order[order.index(first) :] if first else order
        if only:
            self._stages = self._stages[:1]
        # By the pod's UID and the name of the container.
        self._tails: dict[tuple[str, str], Tail] = {}

    def print_new(self) -> bool:
        """Print what has come since the last call; returns whether any container had a log to read."""
        listed = self._access.cluster.list_all(PODS, self._access.namespace, labels=self._labels)
        pods = [pod for pod in listed if speaks_for_job(pod)]
        pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        logs = [log for pod in pods for log in container_logs(pod) if log.stage in self._stages]
        # Earlier attempts have their logs in the bucket; the first call reads the newest stage that has begun.
        begun = [log for log in logs if log.has_begun] or logs
        for log in logs if self._tails else begun[-1:]:
            self._print(log)
        for log in logs:
            if log.has_begun:
                self._tails.setdefault((log.pod_uid, log.container), Tail(is_read=True))
        return any(tail.time for tail in self._tails.values())

    def _print(self, log: ContainerLog) -> None:
        tail = self._tails.setdefault((log.pod_uid, log.container), Tail())
        if tail.is_read:
            return
        text = self._access.cluster.read_log(self._access.namespace, log.pod, container=log.container, since=tail.time)
        if text and not tail.time:
            click.echo(f"== {log.stage}, attempt {log.attempt}, pod {log.pod}", err=True)
        tail.lines.print(tail.new(text or ""))
        tail.is_read = log.is_over


@dataclass(frozen=True)
class ContainerLog:
    """The log of a stage's container in a pod."""

    pod: str
    pod_uid: str
    container: str
    stage: str
    attempt: str
    has_begun: bool
    is_over: bool


def container_logs(pod: Body) -> Iterator[ContainerLog]:
    """The logs of the stages of a pod, in their order."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    attempts = {str(item.stage): str(item.attempt) for item in parse_following(labels.get(FOLLOWING_LABEL, "")) or ()}
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    for container in stage_containers(pod):
        stage = container.stage or labels.get(STAGE_LABEL, "")
        yield ContainerLog(
            pod=metadata["name"],
            pod_uid=metadata["uid"],
            container=container.name,
            stage=str(stage),
            attempt=attempts.get(str(stage)) or labels.get(ATTEMPT_LABEL, ""),
            has_begun=not {"running", "terminated"}.isdisjoint(container.state),
            is_over=over or "terminated" in container.state,
        )


class ReadableLines:
    """Prints the lines of one log."""

    def __init__(self) -> None:
        self._last = ""

    def print(self, lines: Iterable[str]) -> None:
        for line in lines:
            text = readable(line)
            # A line of progress may differ only in what no reader sees, such as the newest checkpoint.
            if text != line and text == self._last:
                continue
            if text != line:
                self._last = text
            click.echo(text)


@dataclass
class Tail:
    """How far a pod's log has been printed: the time of the last line, and how many lines have that time."""

    time: str = ""
    lines_then: int = 0
    is_read: bool = False
    lines: ReadableLines = field(default_factory=ReadableLines)

    def new(self, log: str) -> list[str]:
        """The lines of `log` that are not printed yet. The log begins at `time` or up to a second before."""
        fresh = []
        same = 0
        for line in log.splitlines():
            time, _, text = line.partition(" ")
            if time == self.time:
                same += 1
                if same <= self.lines_then:
                    continue
            elif time < self.time:
                continue
            else:
                self.time, self.lines_then, same = time, 0, 1
            self.lines_then += 1
            fresh.append(text)
        return fresh


def _print_from_bucket(access: ClusterAccess, run: Body, stage: Stage, endpoint: str | None) -> None:
    metadata = run["metadata"]
    ref = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    with explain_store_errors(endpoint=endpoint):
        store = bucket_of(access, run["spec"]["objectStoreRef"]["name"], endpoint=endpoint)
        targets = [item["target"] for item in run["spec"].get("compile", ())] if stage is Stage.COMPILE else []
        # Compile targets whose Jobs are their own have folders of their own.
        folders = [str(stage), *(f"{stage}-{target}" for target in targets)]
        printed = [_print_archived(store, ref, folder) for folder in folders]
        if not any(printed):
            raise SpecError(f"the pod of stage {stage} is gone, and {store.url} holds no log of it")


def _print_archived(store: Store, run: RunRef, stage: str) -> bool:
    """Print the logs of the stage's newest attempt, pod by pod; returns whether there are any."""
    prefix = keys.logs_prefix(run, stage)
    chunks: dict[tuple[int, str], list[str]] = defaultdict(list)
    for info in store.list(prefix):
        if found := _CHUNK_KEY.fullmatch(info.key, len(prefix)):
            chunks[int(found.group(1)), found.group(2)].append(info.key)
    newest = max((attempt for attempt, _ in chunks), default=0)
    for attempt, pod in sorted(key for key in chunks if key[0] == newest):
        click.echo(f"== {stage}, attempt {attempt}, pod {pod}, from {store.url}", err=True)
        ReadableLines().print(lines_of(store.get(key) for key in chunks[attempt, pod]))
    return bool(chunks)


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines, without their ends, of a log that was cut into chunks anywhere."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def readable(line: str) -> str:
    """`line`, or a sentence if it is a line of progress."""
    progress = parse_line(line)
    if progress is None:
        return line
    loss = f"{progress.loss:.3f}" if progress.loss is not None else None
    ap50 = f"{progress.ap50:.2f}" if progress.ap50 is not None else None
    step, total, eta = progress.step, progress.total_steps, progress.eta_seconds or None
    figures = describe_figures(step, total, loss=loss, ap50=ap50, eta_seconds=eta)
    text = ", ".join(part for part in (progress.waiting, progress.message, figures) if part)
    return f"{progress.percent:3.0f}%  {text}".rstrip()
