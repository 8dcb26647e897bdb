"""The workers of a training beside the first: processes of this machine that reach each other on its loopback address.

They live and end with the first one, whose process is that of the Job.
"""

import functools
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from atoll_cli.local.indexed import IndexedProcess, environment_of_index
from atoll_contract.document import replace
from atoll_contract.errors import ExitCode
from atoll_contract.stage import ENV_TERMINATION_LOG, ENV_WORKER_INDEX, StageInput
from atoll_operator.lifecycle.model import PodView

logger = logging.getLogger(__name__)

# Workers end by themselves with the first one, or with the loss of another.
END_SECONDS = 30.0
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")

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
    shared = {**environ, **given.to_env(), **dict.fromkeys(THREADS, threads), "CUDA_VISIBLE_DEVICES": "-1"}
    first = {**shared, ENV_WORKER_INDEX: "0"}
    return (first, *(_of_other(shared, index) for index in range(1, count)))


def _of_other(shared: Environment, index: int) -> Environment:
    message = Path(shared[ENV_TERMINATION_LOG])
    return environment_of_index(shared, index, message=message.with_name(f"{message.stem}-worker-{index}.json"))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


@dataclass
class OtherWorkers:
    """Processes with the same `command` as the first worker, one for each of `environments`, and a log each in
    `folder`. `on_failure` is called in another thread when one of them fails."""

    command: Sequence[str]
    environments: Sequence[Environment]
    folder: Path
    on_failure: Callable[[], None]
    _workers: list[IndexedProcess] = field(default_factory=list)

    def start(self) -> None:
        for environ in self.environments:
            index = environ[ENV_WORKER_INDEX]
            worker = IndexedProcess(
                self.command,
                environ,
                folder=self.folder / "work",
                log=self.folder / f"worker-{index}.log",
                on_end=functools.partial(self._check_end, index),
            )
            self._workers.append(worker)

    def pods(self, first: PodView) -> Iterator[PodView]:
        """The workers as pods of the Job that the pod `first` belongs to."""
        for worker in self._workers:
            yield worker.pod(first)

    def finish(self) -> None:
        """Called when the first worker has ended: the others follow it, or are ended."""
        for worker in self._workers:
            worker.wait(END_SECONDS)
        for worker in self._workers:
            worker.end()

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _check_end(self, index: str, code: int) -> None:
        if code != ExitCode.OK:
            logger.warning("worker %s ended with exit code %s", index, code)
            self.on_failure()
