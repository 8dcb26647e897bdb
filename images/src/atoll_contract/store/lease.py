"""A lease on a key of the store: one of several processes holds it, and a holder that died loses it.

It needs no clock that two machines share: a holder writes the object anew while it works, and a waiter takes the lease
over when the object has not changed for `lost_after` seconds of the waiter's own clock. It needs no right to delete: a
lease that is given back is an object without a holder.

A lease saves work and guards nothing: a holder that stopped for a while may find that another has taken over. So two
holders must not harm each other, as two writers of equal bytes do not.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import Reason
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, Store, StoreError

logger = logging.getLogger(__name__)

LOST_AFTER_SECONDS = 45.0
POLL_SECONDS = 2.0


class LeaseRecord(Document, frozen=True):
    """The object of a lease. `renewals` makes each write differ, because an ETag may be a hash of the bytes."""

    holder: str | None = None
    renewals: int = 0


@dataclass(frozen=True)
class Lease:
    """A lease that `holder` asks for. Of two requests with one holder the later takes it over at once: it is what
    comes after a process that died.

    `waits` is called again and again while another holds it, with that holder's name; what it raises ends the wait.
    """

    store: Store
    key: str
    holder: str
    waits: Callable[[str], None]
    lost_after: float = LOST_AFTER_SECONDS
    poll: float = POLL_SECONDS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the lease, and holds it during the block. On a store without conditional writes nobody waits.

        Raises:
            StoreError: the store cannot be reached, or refuses.
        """
        try:
            etag = self._acquire()
        except StoreError as error:
            if error.reason is not Reason.STORE_UNSUITABLE:
                raise
            logger.warning("work may be done twice: %s", error.message)
            yield
            return
        ended = threading.Event()
        renewal = _Renewal(self, etag)
        thread = threading.Thread(target=renewal.run, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(self.lost_after)
            renewal.give_back()

    def _acquire(self) -> str:
        """Returns the ETag of the lease once it is this holder's."""
        seen, since = "", time.monotonic()
        while True:
            record, etag = self._read()
            if etag != seen:
                seen, since = etag, time.monotonic()
            if record.holder not in (None, self.holder) and time.monotonic() - since < self.lost_after:
                self.waits(record.holder or "")
                time.sleep(self.poll)
                continue
            data = to_json(LeaseRecord(self.holder, record.renewals + 1))
            with suppress(PreconditionFailed):
                return self.store.put(self.key, data, if_absent=not etag, if_match=etag or None).etag

    def _read(self) -> tuple[LeaseRecord, str]:
        """The lease and its ETag, which is empty where there is none yet."""
        try:
            found = self.store.get_if_changed(self.key, None)
        except ObjectNotFound:
            return LeaseRecord(), ""
        assert found is not None
        try:
            return from_json(LeaseRecord, found[0]), found[1]
        except DecodeError as error:
            logger.warning("%s holds no lease and is written anew: %s", self.key, error)
            return LeaseRecord(), found[1]


class _Renewal:
    """Writes a lease anew while its holder works, and gives it back."""

    def __init__(self, lease: Lease, etag: str) -> None:
        self._lease = lease
        self._etag: str | None = etag
        self._renewals = 0

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(self._lease.lost_after / 4):
            try:
                self._write(self._lease.holder)
            except StoreError as error:
                # The work goes on: whoever takes over does it a second time, with the same result.
                logger.warning("the lease %s could not be renewed: %s", self._lease.key, error.message)

    def give_back(self) -> None:
        try:
            self._write(None)
        except StoreError as error:
            logger.warning("the lease %s could not be given back: %s", self._lease.key, error.message)

    def _write(self, holder: str | None) -> None:
        if self._etag is None:
            return
        self._renewals += 1
        data = to_json(LeaseRecord(holder, self._renewals))
        try:
            self._etag = self._lease.store.put(self._lease.key, data, if_match=self._etag).etag
        except PreconditionFailed:
            self._etag = None
            raise
