"""When runs and Jobs are listed: at the start, at each re-sync, and whenever a watch may have missed events.

With named namespaces, one that is gone or that the account may not read does not stop the others: it is named in the
log and in a metric, and listed as soon as its watch begins anew.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from atoll_operator.controller.lists import Due, Found, RunLister
from atoll_operator.controller.metrics import OperatorMetrics
from atoll_operator.controller.workqueue import Key
from atoll_operator.kube.errors import ClusterError, Forbidden

logger = logging.getLogger(__name__)

# Watches that begin at about the same time ask for one list.
SETTLE_SECONDS = 0.2
# Before a list that failed is tried again.
RETRY_SECONDS = 5.0
# How often the log names a namespace that cannot be read.
REPORT_EVERY_SECONDS = 3600.0


class Resync:
    """Make it inside the event loop. `namespaces`: as in the settings. `add` takes the runs to reconcile, those that
    are not over first, and the seconds until then."""

    def __init__(
        self,
        lister: RunLister,
        *,
        namespaces: Iterable[str],
        every: float,
        add: Callable[[Key, float], None],
        metrics: OperatorMetrics,
    ) -> None:
        self._lister = lister
        self._named = tuple(namespaces)
        self._every = every
        self._add = add
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        # One list at a time.
        self._lock = asyncio.Lock()
        self._wanted: set[str | None] = set(self.namespaces)
        self._requested = asyncio.Event()
        # Set once every namespace that can be read was listed.
        self.synced = asyncio.Event()
        # Namespaces that the account may not read, and when the log has named them.
        self._lost: dict[str, float] = {}

    @property
    def namespaces(self) -> tuple[str | None, ...]:
        return self._named or (None,)

    def request(self, namespace: str | None) -> None:
        """Has a namespace listed soon. May be called from any thread."""
        # A watch may report something while the process ends and its loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._request, namespace)

    async def run(self) -> None:
        """Lists until it is cancelled."""
        next_full = self._loop.time() + self._every
        while True:
            await asyncio.sleep(min(SETTLE_SECONDS, self._every))
            self._requested.clear()
            wanted, self._wanted = self._wanted, set()
            failed = await self._list(wanted)
            if not failed:
                self.synced.set()
            self._wanted |= failed
            wait = min(RETRY_SECONDS, self._every) if failed else next_full - self._loop.time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._requested.wait(), wait)
            if self._loop.time() >= next_full:
                self._wanted |= set(self.namespaces)
                next_full = self._loop.time() + self._every

    async def list_jobs(self) -> bool:
        """Lists the Jobs of all namespaces; returns whether that succeeded wherever the account may do it."""
        async with self._lock:
            for namespace in self.namespaces:
                try:
                    await asyncio.to_thread(self._lister.list_jobs, namespace)
                except ClusterError as error:
                    if not self._is_lost(namespace, error):
                        logger.warning("the list of Jobs: %s", error)
                        return False
        return True

    async def _list(self, namespaces: Iterable[str | None]) -> set[str | None]:
        """Returns the namespaces that have to be listed again."""
        failed: set[str | None] = set()
        due: list[Due] = []
        for namespace in sorted(namespaces, key=str):
            try:
                async with self._lock:
                    found: Found = await asyncio.to_thread(self._lister.list_all, namespace)
            except ClusterError as error:
                if not self._is_lost(namespace, error):
                    logger.warning("re-sync: %s", error)
                    failed.add(namespace)
                continue
            self._found(namespace)
            self._metrics.on_event()
            for key in found.keys:
                self._add(key, 0.0)
            due += found.due
        for key, delay in due:
            self._add(key, delay)
        return failed

    def _is_lost(self, namespace: str | None, error: ClusterError) -> bool:
        """Returns whether the account may not read this namespace, and reports it. Without named namespaces there would
        be nothing left to do."""
        if namespace is None or not isinstance(error, Forbidden):
            return False
        now = self._loop.time()
        if now - self._lost.get(namespace, -REPORT_EVERY_SECONDS) >= REPORT_EVERY_SECONDS:
            self._lost[namespace] = now
            logger.warning(
                "namespace %s cannot be read: %s; its runs wait until it exists and the operator's role is bound there,"
                " the other namespaces go on",
                namespace,
                error,
            )
        self._metrics.unreadable.labels(namespace).set(1)
        return True

    def _found(self, namespace: str | None) -> None:
        if namespace is not None:
            self._metrics.unreadable.labels(namespace).set(0)
            if self._lost.pop(namespace, None) is not None:
                logger.warning("namespace %s can be read again", namespace)

    def _request(self, namespace: str | None) -> None:
        self._wanted.add(namespace)
        self._requested.set()
