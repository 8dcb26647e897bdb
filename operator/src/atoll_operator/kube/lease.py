"""The operator's Lease: only its holder acts, so that a second operator (a laptop's, say) does no harm.

Time is observed locally, as client-go does: a foreign Lease counts as abandoned when it has not changed for its
duration on this process's own monotonic clock. Clocks of two machines are never compared.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Conflict

logger = logging.getLogger(__name__)

Body = dict[str, Any]


class NotLeader(RuntimeError):
    """This process may not write now: another holds the Lease, or this one could not renew it in time."""


class LeaseStore(Protocol):
    """The Lease object in the cluster."""

    def read_lease(self) -> Body | None: ...

    def create_lease(self, spec: Body) -> Body: ...

    def replace_lease(self, lease: Body) -> Body: ...


@dataclass(frozen=True)
class LeaseTiming:
    """Seconds. A holder that has not renewed for `renew_deadline` stops; others take over after `duration`."""

    duration: float = 30.0
    renew_deadline: float = 20.0
    retry: float = 4.0

    def __post_init__(self) -> None:
        if not self.retry < self.renew_deadline < self.duration:
            raise ValueError(f"a Lease needs retry < renew deadline < duration, not {self}")


class Lease:
    """Acquires and keeps the Lease while `keep` runs. `held` and `require` may be asked from any thread."""

    def __init__(self, store: LeaseStore, *, identity: str, timing: LeaseTiming, clock: Callable[[], float]) -> None:
        self._store = store
        self._identity = identity
        self._timing = timing
        self._clock = clock
        self._renewed_at: float | None = None
        self._dropped = False
        self._seen: tuple[str, float] | None = None  # resourceVersion of a foreign Lease and when it was first seen
        # The Lease as this process last wrote it. A holder renews it without a look: of a slow API server it needs one
        # answer then, not two.
        self._own: Body | None = None
        self.holder = ""

    @property
    def held(self) -> bool:
        renewed = self._renewed_at
        return renewed is not None and self._clock() - renewed < self._timing.renew_deadline

    def require(self) -> None:
        """Raises NotLeader unless this process holds the Lease at this moment."""
        if not self.held:
            raise NotLeader(f"not leader: held by {self.holder or 'nobody yet'}")

    async def keep(self, on_change: Callable[[bool], None]) -> None:
        """Acquires and renews until cancelled; `on_change` is told each time it is gained or lost."""
        told = False
        while True:
            await asyncio.to_thread(self.attempt)
            if self.held != told:
                told = self.held
                logger.info("this process leads" if told else "this process leads no more")
                on_change(told)
            await asyncio.sleep(self._timing.retry)

    def attempt(self) -> None:
        """One try to acquire or renew. Trouble with the API is logged and left to the next try."""
        # The time before the call: a slow answer must not make the Lease look younger than others see it.
        asked_at = self._clock()
        try:
            if self._try_once() and not self._dropped:
                self._renewed_at = asked_at
        except Conflict:
            self._renewed_at = self._own = None
            logger.info("another process wrote the Lease at the same time")
        except ClusterError as error:
            # It may have been written all the same.
            self._own = None
            logger.warning("the Lease could not be renewed: %s", error)

    def drop(self) -> None:
        """Stops writing at once, for good."""
        self._dropped = True
        self._renewed_at = None

    def release(self) -> None:
        """Gives the Lease up, so that a successor need not wait for it to age. Trouble is logged only."""
        self.drop()
        try:
            lease = self._store.read_lease()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                # An empty holder is what client-go writes and reads as "free".
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                self._store.replace_lease(lease)
                logger.info("gave the Lease up")
        except ClusterError as error:
            logger.warning("the Lease could not be given up: %s", error)

    def _try_once(self) -> bool:
        lease = self._own if self.held else None
        lease = lease or self._store.read_lease()
        if lease is None:
            return self._became_holder(self._store.create_lease(self._spec({})))
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._abandoned(lease, holder):
            self._renewed_at = None
            return False
        written = self._store.replace_lease({**lease, "spec": self._spec(spec)})
        return self._became_holder(written)

    def _became_holder(self, written: Body) -> bool:
        self.holder, self._seen, self._own = self._identity, None, written
        return True

    def _abandoned(self, lease: Body, holder: str) -> bool:
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._seen is None or self._seen[0] != version:
            if self.holder != holder:
                logger.warning("not leader: held by %s", holder)
            self.holder, self._seen = holder, (version, now)
        duration = float((lease.get("spec") or {}).get("leaseDurationSeconds") or self._timing.duration)
        return now - self._seen[1] > duration

    def _spec(self, previous: Body) -> Body:
        mine = previous.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "acquireTime": previous.get("acquireTime") if mine else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(previous.get("leaseTransitions") or 0) + (0 if mine else 1),
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LeaseObject:
    """As `lease.LeaseStore` wants it."""

    def __init__(self, cluster: Cluster, *, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    def read_lease(self) -> Body | None:
        return self._cluster.read_lease(self._namespace, self._name)

    def create_lease(self, spec: Body) -> Body:
        metadata = {"name": self._name, "namespace": self._namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        return self._cluster.write_lease(self._namespace, lease)

    def replace_lease(self, lease: Body) -> Body:
        return self._cluster.write_lease(self._namespace, lease)
