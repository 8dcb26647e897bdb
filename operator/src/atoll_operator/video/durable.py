"""A file that is on the disk about a second after it was written."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

SYNC_SECONDS = 1.0


class DurableFile:
    """A new file for one writer; a thread flushes the machine's cache to the disk while it grows.

    What was written survives `kill -9` by itself; only the flush makes it survive a power cut. It has its own thread
    because an SD card may take longer for it than a camera waits.
    """

    def __init__(self, path: Path) -> None:
        """Create `path`.

        Raises:
            FileExistsError: there is such a file; a recording never overwrites one.
        """
        self.path = path
        self.size = 0
        self._failure: OSError | None = None
        self._file = path.open("xb", buffering=0)
        self._closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="flush-recording", daemon=True)
        self._syncing.start()

    def __enter__(self) -> DurableFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, data: bytes) -> int:
        """Write all of `data`; what PyAV calls.

        An exception would get lost in the library: a failure is kept for `check`, and what comes after it left out,
        so that the file ends where the disk did.
        """
        try:
            rest = memoryview(data)
            while rest and self._failure is None:
                done = self._file.write(rest)
                self.size += done
                rest = rest[done:]
        except OSError as error:
            self._failure = error
        return len(data)

    def check(self) -> None:
        """Raise what went wrong while writing.

        Raises:
            OSError: with the file's name.
        """
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror, str(self.path))

    def close(self) -> None:
        """Flush for the last time and close."""
        if self._file.closed:
            return
        self._closed.set()
        self._syncing.join()
        self._flush()
        self._file.close()

    def _sync(self) -> None:
        flushed = 0
        while not self._closed.wait(SYNC_SECONDS):
            size = self.size
            if size != flushed:
                self._flush()
                flushed = size

    def _flush(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._failure = self._failure or error
