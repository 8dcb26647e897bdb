"""Stores a stage's log while the stage runs, in numbered chunks."""

import logging
import threading
from collections.abc import Callable

from atoll_contract.errors import AtollError

logger = logging.getLogger(__name__)

CHUNK_SECONDS = 30.0
# A chunk of this size is stored at once.
CHUNK_BYTES = 2**20
# At most this much is kept while the store does not answer; output beyond it is left out.
MAX_HELD_BYTES = 8 * 2**20

PutChunk = Callable[[int, bytes], None]


class LogChunks:
    """Collects output, and puts it into the store from a thread every `interval` seconds.

    After a failed put its bytes go out with the next chunk; a stage does not fail because of its log.
    """

    def __init__(self, put: PutChunk, *, interval: float = CHUNK_SECONDS) -> None:
        self._put = put
        self._interval = interval
        self._held = bytearray()
        self._left_out = 0
        self._number = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-upload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def feed(self, data: bytes) -> None:
        """Adds `data`; does not wait for the store."""
        with self._changed:
            if len(self._held) + len(data) > MAX_HELD_BYTES:
                self._left_out += len(data)
                return
            self._held += data
            if len(self._held) >= CHUNK_BYTES:
                self._changed.notify()

    def close(self, *, timeout: float) -> bool:
        """Puts the rest; returns False where that took longer than `timeout` seconds and was given up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(max(timeout, 0.0))
        return not self._thread.is_alive()

    def _run(self) -> None:
        failed = False
        while True:
            with self._changed:
                if not self._closing and (failed or len(self._held) < CHUNK_BYTES):
                    self._changed.wait(self._interval)
                closing, chunk = self._closing, self._take()
            failed = bool(chunk) and not self._put_chunk(chunk)
            if closing and (failed or not self._held):
                return

    def _take(self) -> bytes:
        if self._left_out:
            self._held += f"\n[{self._left_out} bytes of the log were left out]\n".encode()
            self._left_out = 0
        chunk = bytes(self._held)
        self._held.clear()
        return chunk

    def _put_chunk(self, chunk: bytes) -> bool:
        try:
            self._put(self._number, chunk)
        except (AtollError, OSError) as error:
            logger.warning("cannot store a part of the log (%d bytes): %s", len(chunk), error)
            with self._changed:
                self._held[:0] = chunk
            return False
        self._number += 1
        return True
