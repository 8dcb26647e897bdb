"""The operator's Lease: only its holder writes, so that a second operator (a laptop's, say) does no harm.

Time is measured locally, as in client-go: the Lease of another counts as abandoned when it has not changed for its
duration by this process's own monotonic clock. The clocks of two machines are never compared.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Conflict
from atoll_operator.kube.transport import Body

logger = logging.getLogger(__name__)


class NotLeader(RuntimeError):
    """This process may not write now: another holds the Lease, or this one could not renew it in time."""


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
    """Acquires and renews the Lease `namespace`/`name` while `keep` runs. `held` and `require` may be called from any
    thread. `cluster` is one without a fence, `clock` is monotonic."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        *,
        identity: str,
        timing: LeaseTiming,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._namespace, self._name = namespace, name
        self._identity = identity
        self._timing = timing
        self._clock = clock
        self._renewed_at: float | None = None
        self._dropped = False
        # The resourceVersion of another's Lease, and when it was first read.
        self._foreign: tuple[str, float] | None = None
        # Whether another was seen to write it, so that it is not just what a dead process left.
        self._foreign_is_alive = False
        # The Lease as this process wrote it last. A holder renews it without reading it first, as a slow API server
        # may be able to answer one call in time, but not two.
        self._own: Body | None = None
        self.holder = ""

    @property
    def held(self) -> bool:
        renewed = self._renewed_at
        return renewed is not None and self._clock() - renewed < self._timing.renew_deadline

    @property
    def stands_by(self) -> bool:
        """Whether another process was seen to renew the Lease, and still may hold it."""
        foreign = self._foreign
        return self._foreign_is_alive and foreign is not None and self._clock() - foreign[1] <= self._timing.duration

    def require(self) -> None:
        """Raises NotLeader unless this process holds the Lease now."""
        if not self.held:
            raise NotLeader(f"not leader: held by {self.holder or 'nobody yet'}")

    async def keep(self, on_change: Callable[[bool], None]) -> None:
        """Acquires and renews until it is cancelled; calls `on_change` each time the Lease is gained or lost."""
        leads = False
        while True:
            await asyncio.to_thread(self.attempt)
            if self.held != leads:
                leads = self.held
                logger.info("this process leads" if leads else "this process leads no more")
                on_change(leads)
            await asyncio.sleep(self._timing.retry)

    def attempt(self) -> None:
        """Tries once to acquire or renew. An error of the API is logged, and left to the next attempt."""
        # The time before the call: after a slow answer the Lease must not look younger here than it does to others.
        requested_at = self._clock()
        try:
            if self._try_once() and not self._dropped:
                self._renewed_at = requested_at
        except Conflict:
            self._renewed_at = self._own = None
            logger.info("another process wrote the Lease at the same time")
        except ClusterError as error:
            # It may have been written all the same.
            self._own = None
            logger.warning("the Lease could not be renewed: %s", error)

    def drop(self) -> None:
        """Stops this process from writing, at once and for good."""
        self._dropped = True
        self._renewed_at = None

    def release(self) -> None:
        """Gives the Lease up, so that a successor need not wait until it is abandoned. Errors are only logged."""
        self.drop()
        try:
            lease = self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                # client-go writes an empty holder for "free", and reads it so.
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                self._write(lease)
                logger.info("gave the Lease up")
        except ClusterError as error:
            logger.warning("the Lease could not be given up: %s", error)

    def _try_once(self) -> bool:
        lease = (self._own if self.held else None) or self._read() or self._new_lease()
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._is_abandoned(lease, holder):
            self._renewed_at = None
            return False
        self._own = self._write({**lease, "spec": self._renewed(spec)})
        self.holder, self._foreign = self._identity, None
        return True

    def _is_abandoned(self, lease: Body, holder: str) -> bool:
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._foreign is None or self._foreign[0] != version:
            if self.holder != holder:
                logger.warning("not leader: held by %s", holder)
            self._foreign_is_alive = self._foreign is not None
            self.holder, self._foreign = holder, (version, now)
        duration = float((lease.get("spec") or {}).get("leaseDurationSeconds") or self._timing.duration)
        return now - self._foreign[1] > duration

    def _renewed(self, previous: Body) -> Body:
        mine = previous.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "acquireTime": previous.get("acquireTime") if mine else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(previous.get("leaseTransitions") or 0) + (0 if mine else 1),
        }

    def _new_lease(self) -> Body:
        metadata = {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}

    def _read(self) -> Body | None:
        return self._cluster.read_lease(self._namespace, self._name)

    def _write(self, lease: Body) -> Body:
        return self._cluster.write_lease(self._namespace, lease)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
