"""A watch of one collection in a thread of its own, which hands out lines of JSON.

The handler parses only the lines that matter: most events are about the counters of Jobs, or about what the operator
itself wrote. Under load, kopf's handling of them took more than a fifth of the operator's CPU. A watch goes on by
itself after whatever happens to it: its version is too old (410), its kind or namespace is away, a right is missing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Forbidden, Unavailable
from atoll_operator.kube.objects import Resource

logger = logging.getLogger(__name__)

# From the begin of a watch to that of the next one at least, and after one that has failed or brought nothing.
PAUSE_SECONDS = 2.0
# The pause grows up to this while the collection is away or may not be read.
LONGEST_PAUSE_SECONDS = 30.0
# So many errors in a row that are not the API server's answers, or for about five minutes: no watch will ever work.
MAX_FAULTS = 150
# The server ends a watch after this time; the next one continues it.
WATCH_SECONDS = 1800
# How the lines of a watch begin: the server writes the type first.
ADDED, MODIFIED = b'{"type":"ADDED"', b'{"type":"MODIFIED"'
_BOOKMARK, _ERROR = b'{"type":"BOOKMARK"', b'{"type":"ERROR"'


@dataclass(frozen=True)
class WatchSpec:
    """What to watch. `handle` is called with each line about an object, and `on_start` before the first line and
    whenever events may have been missed; both are called from the watch's thread."""

    resource: Resource
    namespace: str | None
    handle: Callable[[bytes], None]
    labels: str = ""
    fields: str = ""
    on_start: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class WatchTiming:
    """`silence`: seconds without even a bookmark after which a watch counts as dead. `clock` is monotonic."""

    silence: float
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class Watcher:
    """Watches until the process ends, once `start` is called. `give_up` is called from the watch's thread with the last
    error where no watch will ever work; the process has to end then, as it would receive no events."""

    def __init__(
        self, cluster: Cluster, spec: WatchSpec, timing: WatchTiming, *, give_up: Callable[[Exception], None]
    ) -> None:
        self._cluster = cluster
        self._spec = spec
        self._timing = timing
        self._give_up = give_up
        # The version that the next watch continues from; empty: from now.
        self._since = ""
        # The error that was logged last, so that the same one in a row is logged once.
        self._logged = ""
        # Errors in a row that are not the API server's answers.
        self._faults = 0
        self._pause = PAUSE_SECONDS

    def start(self) -> None:
        name = f"watch-{self._spec.resource.plural}-{self._spec.namespace or 'all'}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while self._faults < MAX_FAULTS:
            self.watch_once()

    def watch_once(self) -> None:
        """Runs one watch to its end, and waits before the next one may begin. After an error that one starts anew."""
        began, received = self._timing.clock(), False
        try:
            received = self._receive()
            self._faults, self._logged, self._pause = 0, "", PAUSE_SECONDS
        except ClusterError as error:
            self._faults = 0
            is_away = isinstance(error, Forbidden) or error.status == 404
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS) if is_away else PAUSE_SECONDS
            if self._begin_anew(error):
                level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
                logger.log(level, "the watch of %s starts anew: %s", self._spec.resource.plural, error)
        except Exception as error:
            # Such as a token's file that is being written. The thread must not end: nobody would notice.
            self._faults += 1
            if self._begin_anew(error):
                logger.exception("the watch of %s starts anew", self._spec.resource.plural)
            if self._faults >= MAX_FAULTS:
                self._give_up(error)
                return
        wait = self._pause - (self._timing.clock() - began if received else 0.0)
        if wait > 0:
            self._timing.wait(wait)

    def _begin_anew(self, error: Exception) -> bool:
        """Returns whether the error has to be logged."""
        is_new, self._logged, self._since = str(error) != self._logged, str(error), ""
        return is_new

    def _receive(self) -> bool:
        """Returns whether any line came."""
        spec, received = self._spec, False
        selectors = {"labels": spec.labels, "fields": spec.fields}
        if not self._since:
            self._since = self._cluster.version_of(spec.resource, spec.namespace, **selectors)
            spec.on_start()
        lines = self._cluster.watch(
            spec.resource,
            spec.namespace,
            **selectors,
            since=self._since,
            seconds=WATCH_SECONDS,
            silence=self._timing.silence,
        )
        for line in lines:
            received = True
            if line.startswith(_BOOKMARK):
                self._since = json.loads(line)["object"]["metadata"]["resourceVersion"]
            elif line.startswith(_ERROR):
                # Mostly 410: the version is too old to continue from.
                raise ClusterError(f"watch {spec.resource.plural}", line[:300].decode(errors="replace"))
            else:
                self._handle(line)
        return received

    def _handle(self, line: bytes) -> None:
        # An error must not end the thread: the operator would receive no events, and nobody would know.
        try:
            self._spec.handle(line)
        except Exception:
            logger.exception("a fault in the operator: an event of %s was ignored", self._spec.resource.plural)
