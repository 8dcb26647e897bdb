"""Runs Jobs as processes of this machine, as the API server, the Job controller and the kubelet do on a cluster."""

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from atoll_cli.local.process import StageProcess, end_process, kill_process, start_time
from atoll_cli.local.state import JobRecord, RunFolder, read_jobs, remove_job, write_job
from atoll_contract.document import DecodeError, replace
from atoll_contract.errors import ExitCode, Reason, exit_code
from atoll_contract.stage import ENV_GRACE, ENV_INPUT, ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORK_DIR, Stage
from atoll_contract.stage_result import Progress, parse_line, parse_result
from atoll_operator.jobs.manifest import unescaped
from atoll_operator.lifecycle.model import JobState, JobView, PodPhase, PodView

logger = logging.getLogger(__name__)

Manifest = Mapping[str, Any]
# Maps a stage and the command of its container to the command that runs here.
StageCommand = Callable[[Stage, Sequence[str]], Sequence[str]]

# A container has its own home folder; a process here keeps that of its user.
_CONTAINER_ONLY = frozenset({"HOME"})
_MAX_LINE = 64 * 1024
# Kubernetes takes this much of the log where a pod has left no termination message.
_LOG_TAIL_BYTES = 2048


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
        self._progress: dict[str, Progress] = {}
        self._lock = threading.RLock()

    def create(self, manifest: Manifest) -> None:
        """Start the command of the Job's container as a process."""
        metadata, pod = manifest["metadata"], manifest["spec"]["template"]["spec"]
        container = pod["containers"][0]
        stage = Stage(metadata["labels"]["atoll.dev/stage"])
        job = JobRecord(
            name=metadata["name"],
            uid=uuid.uuid4().hex,
            stage=stage,
            attempt=int(metadata["labels"]["atoll.dev/attempt"]),
            created=time.time(),
            deadline_seconds=manifest["spec"]["activeDeadlineSeconds"],
        )
        work = self._folder.job(job.name) / "work"
        work.mkdir(parents=True, exist_ok=True)
        environ = self._environ(container["env"], job, grace=pod["terminationGracePeriodSeconds"])
        process = StageProcess(self._command(stage, container["command"]), environ, folder=work)
        job = replace(job, pid=process.pid, started=start_time(process.pid))
        write_job(self._folder, job)
        with self._lock:
            self._records[job.name] = job
        process.release()
        threading.Thread(target=self._follow, args=(job.name, process), name=job.name, daemon=True).start()

    def views(self) -> tuple[list[JobView], list[PodView]]:
        """Every Job and its pod, in the form that `decide` takes."""
        with self._lock:
            records = list(self._records.values())
            progress = dict(self._progress)
        jobs = [self._job_view(record) for record in records]
        pods = [self._pod_view(record, progress.get(record.name)) for record in records]
        return jobs, pods

    def progress(self) -> tuple[Stage, Progress] | None:
        """The newest progress of the Job that runs."""
        with self._lock:
            running = [job for job in self._running() if job.name in self._progress]
            return (Stage(running[-1].stage), self._progress[running[-1].name]) if running else None

    def seconds(self, stage: Stage) -> float:
        """How long the attempts of a stage have run, in all."""
        with self._lock:
            own = [job for job in self._records.values() if job.stage == stage]
        return sum((job.finished or time.time()) - job.created for job in own)

    def delete(self, name: str) -> None:
        """End the Job's process if it runs, and forget the Job."""
        with self._lock:
            job = self._records.get(name)
        if job is None:
            return
        if job.finished is None:
            _end(job)
        with self._lock:
            self._records.pop(name, None)
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
                self._update(job.name, timed_out=True)
                _end(job)
        return left

    def recover(self) -> None:
        """Settle the Jobs of an engine that was killed: each has left its result, or is ended and forgotten."""
        for job in self._running():
            _end(job)
            code = self._reported_exit_code(job)
            if code is None:
                logger.info("Job %s ended with its engine; its stage is started again", job.name)
                self.delete(job.name)
            else:
                self._update(job.name, finished=time.time(), exit_code=code)

    def kill_all(self) -> None:
        """Kill every process that runs."""
        for job in self._running():
            if job.pid is not None:
                kill_process(job.pid, job.started, pod_uid=job.uid)

    def _running(self) -> list[JobRecord]:
        with self._lock:
            return [job for job in self._records.values() if job.finished is None]

    def _environ(self, literals: Sequence[Manifest], job: JobRecord, *, grace: int) -> dict[str, str]:
        folder = self._folder.job(job.name)
        given = {item["name"]: unescaped(item["value"]) for item in literals if "value" in item}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ATOLL_STAGE")}
        return {
            **inherited,
            **{key: value for key, value in given.items() if key not in _CONTAINER_ONLY},
            ENV_INPUT: given[ENV_INPUT],
            ENV_POD_UID: job.uid,
            ENV_TERMINATION_LOG: str(folder / "termination.json"),
            ENV_WORK_DIR: str(folder / "work"),
            ENV_GRACE: str(grace),
            "PYTHONUNBUFFERED": "1",
        }

    def _follow(self, name: str, process: StageProcess) -> None:
        """Copy the output of the process to its file, and record its progress and its end."""
        assert process.popen.stdout is not None
        with (self._folder.job(name) / "output.log").open("ab") as log, process.popen.stdout as output:
            while line := output.readline(_MAX_LINE):
                log.write(line)
                log.flush()
                progress = parse_line(line.decode(errors="replace").rstrip("\n"))
                if progress is not None:
                    with self._lock:
                        self._progress[name] = progress
                    self._on_change(False)
        code = process.popen.wait()
        process.close()
        self._update(name, finished=time.time(), exit_code=code if code >= 0 else 128 - code)
        self._on_change(True)

    def _update(self, name: str, **changes: Any) -> None:
        with self._lock:
            job = self._records.get(name)
            if job is None:
                return
            changed = replace(job, **changes)
            self._records[name] = changed
            write_job(self._folder, changed)

    def _job_view(self, job: JobRecord) -> JobView:
        state = JobState.ACTIVE
        if job.finished is not None:
            state = JobState.SUCCEEDED if job.exit_code == ExitCode.OK and not job.timed_out else JobState.FAILED
        return JobView(
            name=job.name,
            uid=job.uid,
            owner_uid=self._run_uid,
            stage=Stage(job.stage),
            attempt=job.attempt,
            state=state,
            created=_utc(job.created),
            finished=_utc(job.finished) if job.finished is not None else None,
            failure_reason="DeadlineExceeded" if job.timed_out else "",
            failure_message=f"it ran for more than {job.deadline_seconds} s" if job.timed_out else "",
        )

    def _pod_view(self, job: JobRecord, progress: Progress | None) -> PodView:
        phase = PodPhase.RUNNING
        if job.finished is not None:
            phase = PodPhase.SUCCEEDED if job.exit_code == ExitCode.OK else PodPhase.FAILED
        return PodView(
            name=job.name,
            uid=job.uid,
            job=job.name,
            phase=phase,
            created=_utc(job.created),
            started=_utc(job.created),
            finished=_utc(job.finished) if job.finished is not None else None,
            exit_code=job.exit_code,
            termination_message=self._termination_message(job.name) or self._log_tail(job.name) if job.finished else "",
            progress=progress,
        )

    def _reported_exit_code(self, job: JobRecord) -> int | None:
        """The exit code that follows from the termination message, for a process whose parent is gone."""
        try:
            reason = parse_result(self._termination_message(job.name)).reason
        except DecodeError:
            return None
        return None if reason is Reason.SUSPENDED else int(exit_code(reason))

    def _termination_message(self, name: str) -> str:
        try:
            return (self._folder.job(name) / "termination.json").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _log_tail(self, name: str) -> str:
        path = self._folder.job(name) / "output.log"
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _end(job: JobRecord) -> None:
    if job.pid is not None:
        end_process(job.pid, job.started, pod_uid=job.uid)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
