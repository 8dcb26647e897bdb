"""Runs Jobs as processes of this machine, as the API server, the Job controller and the kubelet do on a cluster.

The containers of a Job's pod are processes one after the other, in one folder.
"""

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atoll_cli.local.indexed import IndexedProcess, environment_of_index
from atoll_cli.local.process import StageProcess, end_process, kill_process, start_time
from atoll_cli.local.state import EndedStage, JobRecord, RunFolder, read_jobs, remove_job, write_job
from atoll_cli.local.views import job_view, log_path, pod_views, reported_exit_code
from atoll_cli.local.workers import OtherWorkers, worker_environments
from atoll_contract.document import replace
from atoll_contract.errors import ExitCode
from atoll_contract.stage import (
    ENV_GRACE,
    ENV_HANDOVER_DIR,
    ENV_INPUT,
    ENV_POD_UID,
    ENV_TERMINATION_LOG,
    ENV_WORK_DIR,
    ENV_WORKER_INDEX,
    Stage,
)
from atoll_contract.stage_result import Progress, parse_line
from atoll_operator.jobs.manifest import FOLLOWING_LABEL, TARGET_LABEL, unescaped
from atoll_operator.lifecycle.model import JobView, PodView

logger = logging.getLogger(__name__)

Manifest = Mapping[str, Any]
# Maps a stage and the command of its container to the command that runs here.
StageCommand = Callable[[Stage, Sequence[str]], Sequence[str]]

# A container has its own home folder; a process here keeps that of its user.
_CONTAINER_ONLY = frozenset({"HOME"})
_MAX_LINE = 64 * 1024


def with_own_python(stage: Stage, command: Sequence[str]) -> Sequence[str]:  # noqa: ARG001
    """The container's command, run by the Python of this process."""
    return [sys.executable, *command[1:]]


class LocalJobs:
    """The Jobs of one run. `on_change` is called from other threads: with False when a Job has made progress, with
    True when one has ended."""

    def __init__(
        self, folder: RunFolder, *, run_uid: str, on_change: Callable[[bool], None], command: StageCommand
    ) -> None:
        self._folder = folder
        self._run_uid = run_uid
        self._on_change = on_change
        self._command = command
        self._records = {job.name: job for job in read_jobs(folder)}
        self._progress: dict[tuple[str, Stage], Progress] = {}
        self._shards: dict[str, list[IndexedProcess]] = {}
        self._others: dict[str, OtherWorkers] = {}
        # Jobs in which no further process may start.
        self._stopping: set[str] = set()
        self._lock = threading.RLock()

    def create(self, manifest: Manifest) -> None:
        """Start the command of the first container of the Job's pod as a process; the others follow by themselves."""
        metadata, pod = manifest["metadata"], manifest["spec"]["template"]["spec"]
        labels = metadata["labels"]
        job = JobRecord(
            name=metadata["name"],
            uid=uuid.uuid4().hex,
            stage=labels["atoll.dev/stage"],
            attempt=int(labels["atoll.dev/attempt"]),
            created=time.time(),
            deadline_seconds=manifest["spec"]["activeDeadlineSeconds"],
            following=labels.get(FOLLOWING_LABEL, ""),
            target=labels.get(TARGET_LABEL),
        )
        for part in ("work", "handover"):
            (self._folder.job(job.name) / part).mkdir(parents=True, exist_ok=True)
        # Before index 0, so that its end finds them.
        shards = manifest["spec"]["completions"] if job.stage == Stage.CONVERT else 1
        self._shards[job.name] = [self._shard(job, pod, i) for i in range(1, shards)]
        try:
            self._start(job, pod)
        except OSError:
            self._end_shards(job.name)
            raise

    def _shard(self, job: JobRecord, pod: Manifest, index: int) -> IndexedProcess:
        """Start another process of an Indexed Job; index 0 speaks for all of them."""
        container, folder = pod["containers"][0], self._folder.job(job.name)
        log = folder / f"{job.at_work.stage}-{job.at_work.attempt}-shard-{index}.log"
        own = self._environ(container["env"], job, pod)
        environ = environment_of_index(own, index, message=log.with_suffix(".json"))
        command = self._command(job.at_work.stage, container["command"])
        return IndexedProcess(command, environ, folder=folder / "work", log=log)

    def _start(self, job: JobRecord, pod: Manifest) -> None:
        """Start the process of the stage that is next in the Job."""
        container = [*pod.get("initContainers", ()), *pod["containers"]][len(job.ended)]
        stage = job.at_work.stage
        environ, *others = worker_environments(self._environ(container["env"], job, pod))
        command = self._command(stage, container["command"])
        process = StageProcess(command, environ, folder=self._folder.job(job.name) / "work")
        job = replace(job, pid=process.pid, started=start_time(process.pid))
        write_job(self._folder, job)
        with self._lock:
            self._records[job.name] = job
        if others:
            group = OtherWorkers(command, others, self._folder.job(job.name), on_failure=lambda: _end(job))
            group.start()
            self._others[job.name] = group
        process.release()
        threading.Thread(target=self._follow, args=(job, process, pod), name=job.name, daemon=True).start()

    def views(self) -> tuple[list[JobView], list[PodView]]:
        """Every Job and its pod, in the form that `decide` takes."""
        with self._lock:
            records = list(self._records.values())
            progress = dict(self._progress)
        jobs = [job_view(record, run_uid=self._run_uid) for record in records]
        pods: list[PodView] = []
        for record in records:
            newest, others = progress.get((record.name, record.at_work.stage)), self._others.get(record.name)
            first, *following = pod_views(self._folder, record, progress=newest, others=others)
            pods += [first, *following, *(shard.pod(first) for shard in self._shards.get(record.name, ()))]
        return jobs, pods

    def progress(self) -> tuple[Stage, Progress] | None:
        """The newest progress of the Job that runs."""
        with self._lock:
            running = [(job.name, job.at_work.stage) for job in self._running()]
            known = [key for key in running if key in self._progress]
            return (known[-1][1], self._progress[known[-1]]) if known else None

    def seconds(self, stage: Stage) -> float:
        """How long the attempts of a stage have run, in all."""
        with self._lock:
            records = list(self._records.values())
        return sum(job.seconds(stage) for job in records)

    def delete(self, name: str) -> None:
        """End the Job's process if it runs, and forget the Job."""
        with self._lock:
            job = self._records.get(name)
            self._stopping.add(name)
        if job is None:
            return
        if job.finished is None:
            _end(job)
        self._end_shards(name)
        self._shards.pop(name, None)
        if others := self._others.pop(name, None):
            others.finish()
        with self._lock:
            self._records.pop(name, None)
            self._stopping.discard(name)
        remove_job(self._folder, name)

    def check_deadlines(self) -> float:
        """End the Jobs that have exceeded their deadline; return the seconds until the next one will."""
        left = float("inf")
        for job in self._running():
            if job.timed_out:
                continue
            remaining = job.created + job.deadline_seconds - time.time()
            left = min(left, max(remaining, 0.0))
            if remaining <= 0 and job.pid is not None:
                timed_out = self._update(job.name, timed_out=True)
                _end(timed_out or job)
        return left

    def recover(self) -> None:
        """Settle the Jobs of an engine that was killed: each has left its result, or is ended and forgotten."""
        for job in self._running():
            _end(job)
            code = reported_exit_code(self._folder, job)
            if code is None or (code == ExitCode.OK and job.at_work != job.numbers[-1]):
                logger.info("Job %s ended with its engine; its stage is started again", job.name)
                self.delete(job.name)
            else:
                self._update(job.name, finished=time.time(), exit_code=code)

    def kill_all(self) -> None:
        """Kill every process that runs."""
        with self._lock:
            running = self._running()
            self._stopping.update(job.name for job in running)
        for job in running:
            if job.pid is not None:
                kill_process(job.pid, job.started, pod_uid=job.uid)
        for others in list(self._others.values()):
            others.kill()
        for shard in [shard for shards in list(self._shards.values()) for shard in shards]:
            shard.kill()

    def _running(self) -> list[JobRecord]:
        with self._lock:
            return [job for job in self._records.values() if job.finished is None]

    def _environ(self, literals: Sequence[Manifest], job: JobRecord, pod: Manifest) -> dict[str, str]:
        folder = self._folder.job(job.name)
        given = {item["name"]: unescaped(item["value"]) for item in literals if "value" in item}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ATOLL_STAGE")}
        return {
            **inherited,
            **{key: value for key, value in given.items() if key not in _CONTAINER_ONLY},
            ENV_INPUT: given[ENV_INPUT],
            ENV_POD_UID: job.uid,
            ENV_WORKER_INDEX: "0",
            ENV_TERMINATION_LOG: str(folder / f"{job.at_work.stage}.json"),
            ENV_WORK_DIR: str(folder / "work"),
            **({ENV_HANDOVER_DIR: str(folder / "handover")} if ENV_HANDOVER_DIR in given else {}),
            ENV_GRACE: str(pod["terminationGracePeriodSeconds"]),
            "PYTHONUNBUFFERED": "1",
        }

    def _follow(self, job: JobRecord, process: StageProcess, pod: Manifest) -> None:
        """Copy the output of the process to its file, record its progress and its end, and start the next one."""
        assert process.popen.stdout is not None
        stage = job.at_work.stage
        with log_path(self._folder, job.name, job.at_work).open("ab") as log, process.popen.stdout as output:
            while line := output.readline(_MAX_LINE):
                log.write(line)
                log.flush()
                progress = parse_line(line.decode(errors="replace").rstrip("\n"))
                if progress is not None:
                    with self._lock:
                        self._progress[job.name, stage] = progress
                    self._on_change(False)
        code = process.popen.wait()
        process.close()
        self._end_shards(job.name)
        if others := self._others.get(job.name):
            others.finish()
        if code != ExitCode.OK or not self._start_next(job.name, pod):
            self._update(job.name, finished=time.time(), exit_code=code if code >= 0 else 128 - code)
        self._on_change(True)

    def _end_shards(self, name: str) -> None:
        for shard in self._shards.get(name, ()):
            shard.end()

    def _start_next(self, name: str, pod: Manifest) -> bool:
        """Start the stage after one that has succeeded; returns False where there is none, or the Job is ended."""
        with self._lock:
            job = self._records.get(name)
            if job is None or job.at_work == job.numbers[-1] or job.timed_out or name in self._stopping:
                return False
            ended = EndedStage(began=job.began, finished=time.time())
            job = replace(job, ended=(*job.ended, ended), pid=None, started="")
            try:
                self._start(job, pod)
            except OSError as error:
                logger.error("cannot start stage %s: %s", job.at_work.stage, error)
                self._records[name] = job
                return False
            return True

    def _update(self, name: str, **changes: Any) -> JobRecord | None:
        with self._lock:
            job = self._records.get(name)
            if job is None:
                return None
            changed = replace(job, **changes)
            self._records[name] = changed
            write_job(self._folder, changed)
            return changed


def _end(job: JobRecord) -> None:
    if job.pid is not None:
        end_process(job.pid, job.started, pod_uid=job.uid)
