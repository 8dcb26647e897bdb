"""Says once that a store does not answer, while its requests are tried again, and once that it answers again."""

import logging
import threading
from collections.abc import Callable

from atoll_contract.store.base import StoreError, StoreUnavailable

logger = logging.getLogger(__name__)

# Called with a sentence when a store does not answer, and with None when it answers again. Any thread may call.
OnOutage = Callable[[str | None], None]


class OutageNotice:
    """Tells the log and `on_outage` of the first failed try of an outage, however many requests fail in it."""

    def __init__(self, on_outage: OnOutage, *, retry_timeout: float) -> None:
        self._on_outage = on_outage
        self._retry_timeout = retry_timeout
        self._lock = threading.Lock()
        self._is_out = False

    def failed(self, error: StoreError) -> None:
        """One try failed, and another one follows."""
        # Others, such as refused credentials, end after few tries, and are told as the error that they are.
        if not isinstance(error, StoreUnavailable) or not self._changed(is_out=True):
            return
        text = f"{error.message}; trying again for up to {self._retry_timeout:.0f} s"
        logger.warning("%s", text)
        self._on_outage(text)

    def answered(self) -> None:
        """A request succeeded."""
        if self._is_out and self._changed(is_out=False):
            logger.warning("the store answers again")
            self._on_outage(None)

    def _changed(self, *, is_out: bool) -> bool:
        with self._lock:
            before, self._is_out = self._is_out, is_out
        return before is not is_out
