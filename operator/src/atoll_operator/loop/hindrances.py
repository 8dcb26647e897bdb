"""What the operator's account lacks, run by run, and that the run says so as long as the account may still write it.

A look that is refused is repeated with growing waits; what it was refused is told once and again after ten minutes,
and taken back by the first look that comes to its end.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from atoll_contract.reasons import Reason
from atoll_operator.decide.hindrance import hindered
from atoll_operator.kube.cluster import Cluster
from atoll_operator.kube.errors import ClusterError, Forbidden
from atoll_operator.kube.events import event_manifest
from atoll_operator.kube.resources import EVENTS, RUNS
from atoll_operator.loop.look import parse_status
from atoll_operator.loop.surroundings import parse_run
from atoll_operator.loop.work_queue import Key
from atoll_operator.plan import EventType, RunEvent
from atoll_operator.status_document import merge_patch, write_status
from atoll_operator.views_spec import run_view

logger = logging.getLogger(__name__)

TELL_EVERY_SECONDS = 600.0


class Hindrances:
    """Safe for several threads, as no two have the same run."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        identity: str,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._identity = identity
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Key, tuple[str, float]] = {}

    def of(self, key: Key) -> str:
        """What keeps the operator from going on with this run; empty if nothing does."""
        with self._lock:
            return self._known.get(key, ("", 0.0))[0]

    def clear(self, key: Key) -> bool:
        """The look came to its end; whether something had kept it before."""
        with self._lock:
            return self._known.pop(key, None) is not None

    def meet(self, key: Key, error: Forbidden) -> None:
        """A look at the run was refused: the run says so, in its status and by an Event."""
        text = f"forbidden: the operator may not {error}"
        with self._lock:
            known, told_at = self._known.get(key, ("", 0.0))
            again = known != text or self._clock() - told_at >= TELL_EVERY_SECONDS
            if again:
                self._known[key] = (text, self._clock())
        if not again:
            return
        # Each of the two may be refused by itself.
        for tell in (self._write_status, self._write_event):
            try:
                tell(key, text)
            except ClusterError as failure:
                logger.warning("the run cannot be told of it: %s", failure, extra={"run": "/".join(key)})

    def _write_status(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        status = parse_status(run) if run else None
        if run is None or status is None:
            # The first status holds more than this; the first look that is not refused writes it.
            return
        view = replace(run_view({**run, "status": None}, parse_run(run)[0]), hindrance=text)
        patch = merge_patch(run["status"], write_status(hindered(view, status, self._now())))
        if patch:
            body = {"metadata": {"resourceVersion": run["metadata"]["resourceVersion"]}, "status": patch}
            self._cluster.patch_status(RUNS, *key, body)

    def _write_event(self, key: Key, text: str) -> None:
        run = self._cluster.read(RUNS, *key)
        if run is not None:
            event = RunEvent(EventType.WARNING, str(Reason.INTERNAL_ERROR), text)
            self._cluster.create(EVENTS, key[0], event_manifest(run, event, now=self._now(), instance=self._identity))
