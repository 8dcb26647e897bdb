"""What turns keys of the work queue into looks at runs: workers, and the re-sync that heals missed events."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from atoll_operator.kube.errors import ClusterError, Conflict
from atoll_operator.kube.lease import NotLeader
from atoll_operator.loop.metrics import Metrics
from atoll_operator.loop.work_queue import Key, WorkQueue

logger = logging.getLogger(__name__)

# Looks at one run and says in how many seconds to look again; None: only a change can matter.
Reconcile = Callable[[Key], float | None]

# How soon to look again at keys that came up while another process leads; they cost nothing.
STANDBY_SECONDS = 5.0


class Workers:
    """Runs `reconcile` for each key that is due, in threads of `executor`, while `leading` is set."""

    def __init__(
        self, queue: WorkQueue, reconcile: Reconcile, *, leading: asyncio.Event, executor: Executor, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._leading = leading
        self._executor = executor
        self._metrics = metrics

    async def work(self) -> None:
        """One worker; any number of these may run at once."""
        loop = asyncio.get_running_loop()
        while True:
            await self._leading.wait()
            key = await self._queue.get()
            self._metrics.queue_depth.set(len(self._queue))
            with self._metrics.reconcile_seconds.time():
                outcome = await self._handle(loop, key)
            self._metrics.reconciles.labels(outcome).inc()

    async def _handle(self, loop: asyncio.AbstractEventLoop, key: Key) -> str:
        run = {"run": "/".join(key)}
        try:
            again_after = await loop.run_in_executor(self._executor, self._reconcile, key)
        except NotLeader as error:
            logger.info("left alone: %s", error, extra=run)
            self._queue.done(key, again_after=STANDBY_SECONDS)
            return "standby"
        except ClusterError as error:
            delay = self._queue.failed(key, at_least=error.retry_after)
            level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
            logger.log(level, "%s; next try in %.1f s", error, delay, extra=run)
            return "conflict" if isinstance(error, Conflict) else "unavailable"
        except Exception:
            delay = self._queue.failed(key)
            logger.exception("a fault in the operator; next try in %.1f s", delay, extra=run)
            return "fault"
        self._queue.done(key, again_after=again_after)
        return "done"


async def resync(
    queue: WorkQueue, list_keys: Callable[[], Iterable[Key]], *, every: float, synced: asyncio.Event, metrics: Metrics
) -> None:
    """Adds all keys, at once and then every so many seconds; `synced` is set after the first time."""
    while True:
        try:
            keys = list(await asyncio.to_thread(list_keys))
        except ClusterError as error:
            logger.warning("re-sync: %s", error)
            await asyncio.sleep(min(every, 5.0))
            continue
        for key in keys:
            queue.add(key)
        metrics.heard()
        synced.set()
        await asyncio.sleep(every)
