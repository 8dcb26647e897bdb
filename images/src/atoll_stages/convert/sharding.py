"""A conversion in several processes that share nothing but the store.

Index 0 unpacks the archives, reads the labels, assigns the pictures in batches, joins what comes back in the order of
reading, and writes the records: what comes out is what one process gives. The others prepare the batches assigned to
them. Index 0 prepares its own, and while it waits those of others, the last one first: a shard that never starts, or
dies, costs time only. A later attempt finds the batches that are prepared.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.document import replace
from atoll_contract.errors import AtollError, IntegrityError
from atoll_contract.stage_result import Progress
from atoll_contract.store.base import ObjectNotFound
from atoll_stages.convert.batches import BATCH_BYTES, BATCH_FILES, BatchStore, ShardPlan
from atoll_stages.convert.image_pool import TASK_IMAGES, ImagePool
from atoll_stages.convert.prepared import ImageFile, PreparedFile
from atoll_stages.convert.problems import counted
from atoll_stages.runtime.context import StageContext, StageOutcome

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
POLL_SECONDS = 1.0
# A shard takes index 0 for lost after so long without a beat.
LOST_AFTER_SECONDS = 120.0
# Batches that are assigned and not joined yet; what is known of their files is in memory.
_MAX_OPEN = 64


class SharedPlan:
    """The plan of this attempt as index 0 keeps it: written anew as long as this process lives."""

    def __init__(self, batches: BatchStore, attempt: int) -> None:
        self._batches, self._attempt = batches, attempt
        self._plan = ShardPlan(0)
        self._lock = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Lets the other shards know that this process is alive during the block, and at its end that all is over."""
        self._write(self._plan)
        thread = threading.Thread(target=self._beat, name="shard-plan", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            # The shards would find out later that nobody is alive.
            with suppress(AtollError):
                self.end()

    def begin(self, digest: str) -> None:
        """Tells the digest of the dataset that is converted."""
        self._write(replace(self._plan, digest=digest))

    def end(self) -> None:
        """Tells that no batch is needed any more."""
        self._write(replace(self._plan, ended=True))

    def _write(self, plan: ShardPlan) -> None:
        with self._lock:
            self._plan = replace(plan, beats=self._plan.beats + 1)
            self._batches.write_plan(self._attempt, self._plan)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._write(self._plan)
            except AtollError as error:
                logger.warning("the other shards were not told that this one is alive: %s", error)


@dataclass
class _Batch:
    """A batch that is assigned. `tasks` of it are in this process's pool, whose results are in `own` until all are
    there; `prepared` is the whole result."""

    files: tuple[ImageFile, ...]
    is_remote: bool
    tasks: int = 0
    own: list[PreparedFile] = field(default_factory=list)
    prepared: list[PreparedFile] | None = None


class ShardedImages:
    """Assigns files to the shards of a conversion, and collects them in order; index 0 uses it in place of its pool."""

    def __init__(self, pool: ImagePool, batches: BatchStore, digest: str, shards: int) -> None:
        self._pool, self._batches, self._digest, self._shards = pool, batches, digest, shards
        self._filling: list[ImageFile] = []
        self._filling_bytes = 0
        self._assigned = 0
        self._open: dict[int, _Batch] = {}
        # The batch of each task in the pool, in order.
        self._tasks: deque[int] = deque()
        self._polled = 0.0

    @property
    def has_room(self) -> bool:
        return len(self._open) < _MAX_OPEN

    @property
    def is_idle(self) -> bool:
        return not self._open and not self._filling

    def submit(self, files: Sequence[ImageFile]) -> None:
        """Takes files in the order in which they are collected again."""
        for file in files:
            self._filling.append(file)
            self._filling_bytes += file.read_size()
            if len(self._filling) >= BATCH_FILES or self._filling_bytes >= BATCH_BYTES:
                self._assign()

    def collect(self, *, block: bool) -> list[PreparedFile]:
        """Returns what became of the batch that was assigned first; none where it is not known, unless it may `block`.

        Where it blocks, no file comes before it has returned, or there is no room for one.
        """
        if block and self._filling and self.has_room:
            self._assign()
        if not self._open:
            return []
        number = next(iter(self._open))
        while True:
            self._take_own(block=False)
            self._take_remote()
            if (found := self._open[number].prepared) is not None:
                del self._open[number]
                return found
            if not block:
                return []
            if not self._tasks:
                self._prepare(self._last_unprepared())
            self._take_own(block=True)

    def _assign(self) -> None:
        number, files = self._assigned, tuple(self._filling)
        self._assigned += 1
        self._filling, self._filling_bytes = [], 0
        is_known = self._batches.is_prepared(self._digest, number)
        is_remote = is_known or number % self._shards != 0
        self._open[number] = _Batch(files, is_remote)
        if not is_remote:
            self._prepare(number)
        elif not is_known and not self._batches.is_given(self._digest, number):
            self._batches.give(self._digest, number, files)

    def _prepare(self, number: int) -> None:
        """Prepares a batch in this process."""
        batch = self._open[number]
        batch.is_remote = False
        for start in range(0, len(batch.files), TASK_IMAGES):
            self._pool.submit(batch.files[start : start + TASK_IMAGES])
            self._tasks.append(number)
            batch.tasks += 1

    def _last_unprepared(self) -> int:
        return max(number for number, batch in self._open.items() if batch.prepared is None)

    def _take_own(self, *, block: bool) -> None:
        while self._tasks and (found := self._pool.collect(block=block)):
            block = False
            batch = self._open[self._tasks.popleft()]
            batch.own += found
            batch.tasks -= 1
            if not batch.tasks:
                batch.prepared, batch.own = batch.own, []

    def _take_remote(self) -> None:
        """Takes what other shards have prepared; of each shard the first batch that is missing ends the search."""
        now = time.monotonic()
        if now - self._polled < POLL_SECONDS:
            return
        self._polled = now
        waiting: set[int] = set()
        for number, batch in self._open.items():
            shard = number % self._shards
            if not batch.is_remote or batch.prepared is not None or shard in waiting:
                continue
            if not self._batches.is_prepared(self._digest, number):
                waiting.add(shard)
                continue
            batch.prepared = self._downloaded(number, batch)
            if batch.prepared is None:
                self._prepare(number)

    def _downloaded(self, number: int, batch: _Batch) -> list[PreparedFile] | None:
        pack = self._pool.folder / f"batch-{number:05d}"
        try:
            found = self._batches.take_prepared(self._digest, number, pack)
        except (IntegrityError, ObjectNotFound) as error:
            logger.warning("batch %d is prepared anew: %s", number, error)
            return None
        if [file.id for file in found] != [file.id for file in batch.files]:
            logger.warning("batch %d is prepared anew: it is of other pictures", number)
            return None
        return found


def work_as_shard(
    context: StageContext, spec: ConvertSpec, workers: int, wait: Callable[[float], object] = time.sleep
) -> StageOutcome:
    """Prepares the batches that index 0 assigns to this shard until it tells that all is over, or is lost."""
    batches = BatchStore(context.store, context.input.run, context.work / "batches")
    attempt, folder = context.input.attempt, context.work / "packs"
    folder.mkdir()
    number, done = context.worker, 0
    watch = _PlanWatch()
    with closing(ImagePool(folder, spec.limits, workers)) as pool:
        while not watch.is_over(batches.read_plan(attempt)):
            context.check_stop()
            digest = watch.digest
            if digest is not None and batches.is_prepared(digest, number):
                number += spec.shards or 1
            elif digest is not None and batches.is_given(digest, number):
                done += _work_on(batches, digest, number, pool)
                number += spec.shards or 1
                context.report(Progress(0, message=f"prepared {counted(done, 'picture')} for index 0", pictures=done))
            else:
                wait(POLL_SECONDS)
    return StageOutcome(message=f"prepared {counted(done, 'picture')} as shard {context.worker}")


class _PlanWatch:
    """What a shard knows of the plan. Before there is one, index 0 has not started."""

    def __init__(self) -> None:
        self.digest: str | None = None
        self._beats: int | None = None
        self._changed = time.monotonic()

    def is_over(self, plan: ShardPlan | None) -> bool:
        if plan is None:
            return False
        self.digest = plan.digest
        now = time.monotonic()
        if plan.beats != self._beats:
            self._beats, self._changed = plan.beats, now
        if now - self._changed > LOST_AFTER_SECONDS:
            logger.warning("index 0 has not been heard of for %.0f s; this shard ends", LOST_AFTER_SECONDS)
            return True
        return plan.ended


def _work_on(batches: BatchStore, digest: str, number: int, pool: ImagePool) -> int:
    """Prepares one batch, and leaves nothing of it on this disk; returns the number of its files."""
    given = pool.folder.parent / "given"
    found: list[PreparedFile] = []
    try:
        files = batches.take(digest, number, given)
        pool.expect(given.stat().st_size)
        for start in range(0, len(files), TASK_IMAGES):
            pool.submit(files[start : start + TASK_IMAGES])
        while not pool.is_idle:
            found += pool.collect(block=True)
        batches.put_prepared(digest, number, found, pool.folder)
    finally:
        for path in (given, *pool.folder.iterdir()):
            path.unlink(missing_ok=True)
    return len(found)
