"""The workers of a training beside the first: processes of this machine that reach each other on its loopback address.

They live and end with the first one, whose process is that of the Job.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from atoll_cli.local.process import StageProcess, end_process, kill_process, start_time
from atoll_contract.document import replace
from atoll_contract.errors import ExitCode
from atoll_contract.stage import ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORKER_INDEX, StageInput
from atoll_operator.lifecycle.model import PodPhase, PodView

logger = logging.getLogger(__name__)

# Workers end by themselves with the first one, or with the loss of another.
END_SECONDS = 30.0
_THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")

Environment = Mapping[str, str]


def worker_environments(environ: Environment, *, cpus: int | None = None) -> tuple[Environment, ...]:
    """The environment of each worker, by index, from that of a stage's process; one where the stage has no workers.

    Each gets its share of the processors and none a GPU, as two workers cannot share one.
    """
    given = StageInput.from_env(environ)
    count = len(given.worker_addresses or ())
    if count < 2:
        return (environ,)
    given = replace(given, worker_addresses=tuple(f"127.0.0.1:{port}" for port in _free_ports(count)))
    threads = str(max(1, (cpus or os.cpu_count() or 1) // count))
    shared = {**environ, **given.to_env(), **dict.fromkeys(_THREADS, threads), "CUDA_VISIBLE_DEVICES": "-1"}
    first = {**shared, ENV_WORKER_INDEX: "0"}
    return (first, *(_of_other(shared, index) for index in range(1, count)))


def _of_other(shared: Environment, index: int) -> Environment:
    message = Path(shared[ENV_TERMINATION_LOG])
    return {
        **shared,
        ENV_WORKER_INDEX: str(index),
        ENV_POD_UID: f"{shared[ENV_POD_UID]}-{index}",
        ENV_TERMINATION_LOG: str(message.with_name(f"{message.stem}-worker-{index}.json")),
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


@dataclass
class _Worker:
    process: StageProcess
    environ: Environment
    began: datetime
    started: str
    exit_code: int | None = None
    finished: datetime | None = None

    @property
    def index(self) -> int:
        return int(self.environ[ENV_WORKER_INDEX])


@dataclass
class OtherWorkers:
    """Processes with the same `command` as the first worker, one for each of `environments`, and a log each in
    `folder`. `on_failure` is called in another thread when one of them fails."""

    command: Sequence[str]
    environments: Sequence[Environment]
    folder: Path
    on_failure: Callable[[], None]
    _workers: list[_Worker] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for environ in self.environments:
            process = StageProcess(self.command, environ, folder=self.folder / "work")
            worker = _Worker(process, environ, datetime.now(UTC), start_time(process.pid))
            self._workers.append(worker)
            process.release()
            thread = threading.Thread(target=self._follow, args=(worker,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def pods(self, first: PodView) -> Iterator[PodView]:
        """The workers as pods of the Job that the pod `first` belongs to."""
        for worker in self._workers:
            code = worker.exit_code
            phase = PodPhase.RUNNING if code is None else PodPhase.FAILED if code else PodPhase.SUCCEEDED
            uid = worker.environ[ENV_POD_UID]
            pod = PodView(f"{first.name}-{worker.index}", uid, first.job, phase, worker.began, stage=first.stage)
            message = read_message(Path(worker.environ[ENV_TERMINATION_LOG]))
            yield replace(
                pod,
                started=worker.began,
                finished=worker.finished,
                exit_code=code,
                termination_message=message if code is not None else "",
                worker=worker.index,
            )

    def finish(self) -> None:
        """Called when the first worker has ended: the others follow it, or are ended."""
        for thread in self._threads:
            thread.join(END_SECONDS)
        for worker in self._workers:
            if worker.exit_code is None:
                end_process(worker.process.pid, worker.started, pod_uid=worker.environ[ENV_POD_UID])
        for thread in self._threads:
            thread.join(END_SECONDS)

    def kill(self) -> None:
        for worker in self._workers:
            if worker.exit_code is None:
                kill_process(worker.process.pid, worker.started, pod_uid=worker.environ[ENV_POD_UID])

    def _follow(self, worker: _Worker) -> None:
        output = worker.process.popen.stdout
        assert output is not None
        with (self.folder / f"worker-{worker.index}.log").open("ab") as log, output:
            while line := output.readline():
                log.write(line)
                log.flush()
        code = worker.process.popen.wait()
        worker.process.close()
        worker.finished = datetime.now(UTC)
        worker.exit_code = code if code >= 0 else 128 - code
        if code != ExitCode.OK:
            logger.warning("worker %s ended with exit code %s", worker.index, worker.exit_code)
            self.on_failure()


def read_message(path: Path) -> str:
    """The termination message in a file; empty where the process has left none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
