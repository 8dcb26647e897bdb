"""Jobs as processes: what the API server, the Job controller and the kubelet are on a cluster."""

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
# From a Job's manifest to the command that is started in its place.
StageCommand = Callable[[Stage, Sequence[str]], Sequence[str]]

# What of a container's environment has no meaning on this machine.
_NOT_HERE = frozenset({"HOME"})
_MAX_LINE = 64 * 1024


def own_python(stage: Stage, command: Sequence[str]) -> Sequence[str]:  # noqa: ARG001
    """The container's command with this engine's own Python."""
    return [sys.executable, *command[1:]]


class LocalJobs:
    """The Jobs of one run. `changed` is called from other threads when one of them has made progress (False) or ended
    (True)."""

    def __init__(
        self, folder: RunFolder, *, run_uid: str, changed: Callable[[bool], None], command: StageCommand = own_python
    ) -> None:
        self._folder = folder
        self._run_uid = run_uid
        self._changed = changed
        self._command = command
        self._records = {job.name: job for job in read_jobs(folder)}
        self._processes: dict[str, StageProcess] = {}
        self._progress: dict[str, Progress] = {}
        self._lock = threading.RLock()

    def create(self, manifest: Manifest) -> None:
        """Start the Job's container command as a process."""
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
        folder = self._folder.job(job.name)
        (folder / "work").mkdir(parents=True, exist_ok=True)
        environ = self._environ(container["env"], job, grace=pod["terminationGracePeriodSeconds"])
        process = StageProcess(self._command(stage, container["command"]), environ, folder=folder / "work")
        job = replace(job, pid=process.pid, started=start_time(process.pid))
        write_job(self._folder, job)
        with self._lock:
            self._records[job.name] = job
            self._processes[job.name] = process
        process.release()
        threading.Thread(target=self._follow, args=(job.name, process), name=job.name, daemon=True).start()

    def views(self) -> tuple[list[JobView], list[PodView]]:
        """Every Job and its pod, as `decide` sees them."""
        with self._lock:
            records = list(self._records.values())
            progress = dict(self._progress)
        jobs = [self._job_view(record) for record in records]
        pods = [self._pod_view(record, progress.get(record.name)) for record in records]
        return jobs, pods

    def progress(self) -> tuple[Stage, Progress] | None:
        """The newest progress of the Job that runs."""
        with self._lock:
            running = [job for job in self._records.values() if job.finished is None and job.name in self._progress]
            return (Stage(running[-1].stage), self._progress[running[-1].name]) if running else None

    def seconds(self, stage: Stage) -> float:
        """How long the attempts of a stage have worked, all together."""
        with self._lock:
            own = [job for job in self._records.values() if job.stage == stage]
        return sum((job.finished or time.time()) - job.created for job in own)

    def delete(self, name: str) -> None:
        """End the Job's process, if it runs, and forget the Job."""
        with self._lock:
            job = self._records.get(name)
        if job is None:
            return
        if job.finished is None and job.pid is not None:
            end_process(job.pid, job.started, pod_uid=job.uid)
        with self._lock:
            self._records.pop(name, None)
        remove_job(self._folder, name)

    def check_deadlines(self) -> float:
        """End what has taken too long; seconds until the next Job will have."""
        left = float("inf")
        with self._lock:
            running = [job for job in self._records.values() if job.finished is None and not job.timed_out]
        for job in running:
            remaining = job.created + job.deadline_seconds - time.time()
            left = min(left, max(remaining, 0.0))
            if remaining <= 0 and job.pid is not None:
                self._update(job.name, timed_out=True)
                end_process(job.pid, job.started, pod_uid=job.uid)
        return left

    def take_over(self) -> None:
        """See to the Jobs of an engine that was killed: each has ended with its result, or is ended and forgotten."""
        for job in list(self._records.values()):
            if job.finished is not None:
                continue
            if job.pid is not None:
                end_process(job.pid, job.started, pod_uid=job.uid)
            code = self._code_by_message(job)
            if code is None:
                logger.info("Job %s ended with its engine; its stage is started again", job.name)
                self.delete(job.name)
            else:
                self._update(job.name, finished=time.time(), exit_code=code)

    def kill_all(self) -> None:
        """At once, for an engine that has to go."""
        with self._lock:
            running = [job for job in self._records.values() if job.finished is None]
        for job in running:
            if job.pid is not None:
                kill_process(job.pid, job.started, pod_uid=job.uid)

    def _code_by_message(self, job: JobRecord) -> int | None:
        """The exit code of a process that nobody waited for, as its termination message has it."""
        try:
            reason = parse_result(self._message(job.name)).reason
        except DecodeError:
            return None
        return None if reason is Reason.SUSPENDED else int(exit_code(reason))

    def _environ(self, literals: Sequence[Manifest], job: JobRecord, *, grace: int) -> dict[str, str]:
        folder = self._folder.job(job.name)
        given = {item["name"]: unescaped(item["value"]) for item in literals if "value" in item}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ATOLL_STAGE")}
        return {
            **inherited,
            **{key: value for key, value in given.items() if key not in _NOT_HERE},
            ENV_INPUT: given[ENV_INPUT],
            ENV_POD_UID: job.uid,
            ENV_TERMINATION_LOG: str(folder / "termination.json"),
            ENV_WORK_DIR: str(folder / "work"),
            ENV_GRACE: str(grace),
            "PYTHONUNBUFFERED": "1",
        }

    def _follow(self, name: str, process: StageProcess) -> None:
        """Pass the process's output to its file, note its progress, and its end."""
        assert process.popen.stdout is not None
        with (self._folder.job(name) / "output.log").open("ab") as log, process.popen.stdout as output:
            while line := output.readline(_MAX_LINE):
                log.write(line)
                log.flush()
                progress = parse_line(line.decode(errors="replace").rstrip("\n"))
                if progress is not None:
                    with self._lock:
                        self._progress[name] = progress
                    self._changed(False)
        code = process.popen.wait()
        process.close()
        self._update(name, finished=time.time(), exit_code=code if code >= 0 else 128 - code)
        self._changed(True)

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
            created=_moment(job.created),
            finished=_moment(job.finished) if job.finished is not None else None,
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
            created=_moment(job.created),
            started=_moment(job.created),
            finished=_moment(job.finished) if job.finished is not None else None,
            exit_code=job.exit_code,
            termination_message=self._message(job.name) or self._last_words(job.name) if job.finished else "",
            progress=progress,
        )

    def _message(self, name: str) -> str:
        try:
            return (self._folder.job(name) / "termination.json").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def _last_words(self, name: str) -> str:
        """The end of the log, as Kubernetes gives it where a pod left no message."""
        path = self._folder.job(name) / "output.log"
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - 2048))
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
