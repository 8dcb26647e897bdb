"""Uploads harvested frames from the card to the bucket, one at a time, while no match is on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.errors import AtollError
from atoll_contract.stage import StoreSpec, StoreType
from atoll_contract.store import open_store
from atoll_contract.store.base import Store
from atoll_edge.harvest.spool import Spool
from atoll_edge.models.poller import PollSchedule

logger = logging.getLogger(__name__)

# At most one frame a second: the robot's radio has other uses.
UPLOAD_SECONDS = 1.0
# A call retries for this long. After that the schedule does, because a match may begin meanwhile.
RETRY_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Destination:
    """The bucket, and the device whose prefix in it the frames go to; the device may write nowhere else."""

    store: Store
    namespace: str
    device: str


class SpoolUploader:
    """Uploads one frame for each `step`. Keys are made of the image's digest, so that an upload may be repeated:
    after one that broke off, or whose response was lost."""

    def __init__(self, spool: Spool, destination: Destination, *, allowed: Callable[[], bool]) -> None:
        self._spool = spool
        self._destination = destination
        self._allowed = allowed
        self._schedule = PollSchedule(UPLOAD_SECONDS)
        self.uploaded = 0
        self.damaged = 0
        self.last_error: str | None = None

    def step(self, now: float) -> None:
        """Uploads the oldest frame if that is due and allowed, and removes it from the spool."""
        if not self._schedule.due(now, locked=not self._allowed()):
            return
        item = self._spool.oldest()
        if item is None:
            return
        content = self._spool.read(item)
        if content is None:
            self.damaged += 1
            self._spool.remove(item)
            return
        try:
            self._put(item.sha256, *content)
        except (AtollError, OSError) as error:
            logger.warning("a harvested frame was not taken: %s", error)
            self.last_error = str(error)
            self._schedule.failed(now)
            return
        self._spool.remove(item)
        self.uploaded += 1
        self.last_error = None
        self._schedule.succeeded(now)

    def _put(self, sha256: str, image: bytes, note: bytes) -> None:
        to = self._destination
        to.store.put(keys.harvested_picture(to.namespace, to.device, sha256), image)
        to.store.put(keys.harvested_note(to.namespace, to.device, sha256), note)


def open_upload_store(spec: StoreSpec) -> Store:
    """Opens the bucket of `spec`, with calls that give up soon."""
    if spec.type is StoreType.DIRECTORY:
        return open_store(spec)
    from atoll_contract.store.retry import Backoff
    from atoll_contract.store.s3 import S3Store

    return S3Store(spec, backoff=Backoff(total=RETRY_TIMEOUT_SECONDS))
