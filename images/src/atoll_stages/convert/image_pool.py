"""Where the pictures of a conversion are prepared: in processes where there are many bytes of them, else in threads.

Processes do not wait for each other's interpreter lock, but each takes a tenth of a second to start. What comes out is
the same, in the same order, however many there are.
"""

import logging
import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import AtollError, Reason
from atoll_stages.convert.images import large_images
from atoll_stages.convert.prepared import ImageFile, PreparedFile, prepare_files
from atoll_stages.runtime.cpus import available_cpus

logger = logging.getLogger(__name__)

# Archives of fewer bytes are read sooner than processes start.
MANY_BYTES = 16 * 2**20
# So many pictures are one task.
TASK_IMAGES = 16
# More tasks in flight for each worker would only take memory.
_TASKS_PER_WORKER = 3
_MAX_WORKERS = 16


def default_workers() -> int:
    """Returns one for each processor that this process may use."""
    return min(_MAX_WORKERS, math.ceil(available_cpus()))


class ImagePool:
    """Prepares pictures with `workers` threads, or processes once `expect` was told of many bytes."""

    def __init__(self, folder: Path, limits: DatasetLimits, workers: int) -> None:
        self.workers = workers
        self.folder, self._limits = folder, limits
        self._executor: Executor | None = None
        self._in_processes = False
        self._queue: deque[Future[list[PreparedFile]]] = deque()
        self._shutdown: threading.Thread | None = None

    def finish(self) -> None:
        """Told that no picture comes any more, it ends the workers while the caller goes on."""
        if self._executor is not None and not self._queue:
            self._shutdown = threading.Thread(target=self._executor.shutdown, name="shutdown-of-workers")
            self._shutdown.start()
            self._executor = None

    def close(self) -> None:
        """Ends all workers; tasks that have not begun are dropped."""
        for task in self._queue:
            task.cancel()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None
        if self._shutdown is not None:
            self._shutdown.join()
            self._shutdown = None

    def expect(self, size: int) -> None:
        """Told of `size` bytes of pictures that come, it starts processes if they are worth it."""
        if self._in_processes or size < MANY_BYTES or self.workers < 2:
            return
        context = multiprocessing.get_context("spawn")
        try:
            processes = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_begin_worker, initargs=(context.Lock(),)
            )
        except (OSError, NotImplementedError) as error:
            # Semaphores need shared memory, which a container may lack.
            logger.warning("pictures are prepared in threads, because processes cannot be started: %s", error)
            return
        self.close()
        self._executor, self._in_processes = processes, True
        for _ in range(self.workers):
            # Each submission starts one process.
            processes.submit(os.getpid)

    @property
    def has_room(self) -> bool:
        return len(self._queue) < self.workers * _TASKS_PER_WORKER

    @property
    def is_idle(self) -> bool:
        return not self._queue

    def submit(self, files: Sequence[ImageFile]) -> None:
        """Begins to prepare pictures, which are one task."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.workers)
        with _killed_worker_as_error():
            self._queue.append(self._executor.submit(_prepare, files, self.folder, self._limits))

    def collect(self, *, block: bool) -> list[PreparedFile]:
        """Returns the pictures of the task that was submitted first and not collected yet; none where it is not done,
        unless it may `block`.

        Raises:
            AtollError: OutOfMemory, a worker was killed.
        """
        if not self._queue or not (block or self._queue[0].done()):
            return []
        with _killed_worker_as_error():
            return self._queue.popleft().result()


@contextmanager
def _killed_worker_as_error() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise AtollError(
            Reason.OUT_OF_MEMORY,
            "a process that reads pictures was killed, most likely for lack of memory; give the stage more memory, or "
            "fewer processors",
        ) from None


def _prepare(files: Sequence[ImageFile], folder: Path, limits: DatasetLimits) -> list[PreparedFile]:
    """A task. Each worker has a pack of its own."""
    return prepare_files(files, folder / f"{os.getpid()}-{threading.get_ident()}", limits)


def _begin_worker(turn: AbstractContextManager[bool]) -> None:
    """A worker leaves a terminal's signals to the process that started it, and ends with it, or by its SIGTERM."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    large_images.share(turn)
    silence_pillow()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


def silence_pillow() -> None:
    """Silences Pillow's warnings about odd EXIF data; an image that cannot be read is counted as a problem anyway."""
    warnings.filterwarnings("ignore", module=r"PIL\..*")
