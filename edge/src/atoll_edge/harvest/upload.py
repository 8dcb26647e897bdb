"""From the card into the bucket, one frame after the other, when nothing else matters."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.errors import AtollError
from atoll_contract.stage import StoreSpec, StoreType
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_edge.harvest.spool import Shelf
from atoll_edge.models.poller import Schedule

logger = logging.getLogger(__name__)

# At most one frame a second: the robot's radio has other things to do.
UPLOAD_SECONDS = 1.0
# A store that does not answer is asked again by the schedule, not within one call: a match may have begun by then.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Destination:
    """Whose frames they are; the device writes below its own prefix of the bucket and nowhere else."""

    store: Store
    namespace: str
    device: str


class Uploads:
    """`turn` is its one step. Every key is made of the picture's digest, so that a frame whose upload broke off, or
    whose answer was lost, is put again without harm."""

    def __init__(self, shelf: Shelf, destination: Destination, *, allowed: Callable[[], bool]) -> None:
        self._shelf = shelf
        self._destination = destination
        self._allowed = allowed
        self._schedule = Schedule(UPLOAD_SECONDS)
        self.uploaded = 0
        self.damaged = 0
        self.last_error: str | None = None

    def turn(self, now: float) -> None:
        """Upload the oldest frame where it is time to, and take it off the shelf."""
        if not self._schedule.due(now, locked=not self._allowed()):
            return
        item = self._shelf.oldest()
        if item is None:
            return
        read = self._shelf.read(item)
        if read is None:
            self.damaged += 1
            self._shelf.remove(item)
            return
        try:
            self._put(item.sha256, *read)
        except (AtollError, OSError) as error:
            logger.warning("a harvested frame was not taken: %s", error)
            self.last_error = str(error)
            self._schedule.failed(now)
            return
        self._shelf.remove(item)
        self.uploaded += 1
        self.last_error = None
        self._schedule.succeeded(now)

    def _put(self, sha256: str, picture: bytes, note: bytes) -> None:
        to = self._destination
        to.store.put(keys.harvested_picture(to.namespace, to.device, sha256), picture)
        to.store.put(keys.harvested_note(to.namespace, to.device, sha256), note)


def patient_store(spec: StoreSpec) -> Store:
    """The store of `spec`, whose calls give up soon."""
    if spec.type is StoreType.DIRECTORY:
        return open_store(spec)
    from atoll_contract.store.retry import Backoff
    from atoll_contract.store.s3 import S3Store

    return S3Store(spec, backoff=Backoff(total=PATIENCE_SECONDS))
