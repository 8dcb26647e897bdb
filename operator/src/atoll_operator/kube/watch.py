"""A watch of one collection in a thread of its own, as lines of JSON.

For what comes in thousands and is mostly of no interest, such as the counters of Jobs: whoever is told reads only the
lines that matter. Under load kopf's way with each of these events was a fifth of the operator's CPU. TrainingRuns are
kopf's.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Unavailable
from atoll_operator.kube.objects import Resource

logger = logging.getLogger(__name__)

# Between two watches, where one has failed or brought nothing.
PAUSE_SECONDS = 2.0
# The server ends a watch after this; the next goes on from there.
WATCH_SECONDS = 1800
# How the lines of a watch begin: the server writes the type first.
ADDED, MODIFIED = b'{"type":"ADDED"', b'{"type":"MODIFIED"'
_BOOKMARK, _TROUBLE = b'{"type":"BOOKMARK"', b'{"type":"ERROR"'


@dataclass(frozen=True)
class Watched:
    """What to watch and whom to tell. `tell` gets every line that tells of an object; `begin` is called before the
    first line and wherever something may have been missed."""

    resource: Resource
    namespace: str | None
    tell: Callable[[bytes], None]
    labels: str = ""
    fields: str = ""
    begin: Callable[[], None] = lambda: None


class Watching:
    """Call `start` once; the thread ends with the process. `silence`: seconds without even a bookmark after which a
    watch counts as dead."""

    def __init__(
        self, cluster: Cluster, watched: Watched, *, silence: float, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._cluster = cluster
        self._watched = watched
        self._silence = silence
        self._wait = wait
        # The version that the next watch goes on from; empty: from now.
        self._since = ""
        self._told = ""

    def start(self) -> None:
        name = f"watch-{self._watched.resource.plural}-{self._watched.namespace or 'all'}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            self.watch_once()

    def watch_once(self) -> None:
        """One watch to its end. Trouble is told and followed by a pause; the next one begins anew."""
        watched = self._watched
        try:
            heard = self._listen()
            self._told = ""
        except ClusterError as error:
            heard, self._since = False, ""
            if str(error) != self._told:
                self._told = str(error)
                level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
                logger.log(level, "the watch of %s is begun anew: %s", watched.resource.plural, error)
        if not heard:
            self._wait(PAUSE_SECONDS)

    def _listen(self) -> bool:
        """Whether anything came."""
        watched, heard = self._watched, False
        selectors = {"labels": watched.labels, "fields": watched.fields}
        if not self._since:
            self._since = self._cluster.version_of(watched.resource, watched.namespace, **selectors)
            watched.begin()
        lines = self._cluster.watch(
            watched.resource,
            watched.namespace,
            **selectors,
            since=self._since,
            seconds=WATCH_SECONDS,
            silence=self._silence,
        )
        for line in lines:
            heard = True
            if line.startswith(_BOOKMARK):
                self._since = json.loads(line)["object"]["metadata"]["resourceVersion"]
            elif line.startswith(_TROUBLE):
                # Most often 410: the version is too old to go on from.
                raise ClusterError(f"watch {watched.resource.plural}", line[:300].decode(errors="replace"))
            else:
                self._tell(line)
        return heard

    def _tell(self, line: bytes) -> None:
        """A fault costs this line, not the thread: without it the operator would be deaf, and nobody would know."""
        try:
            self._watched.tell(line)
        except Exception:
            logger.exception("a fault in the operator: an event of %s was passed over", self._watched.resource.plural)
