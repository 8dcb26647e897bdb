"""Files out of a bucket: resumed where the line broke, hashed on their way, never mixed from two objects."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from atoll_contract.errors import AtollError, IntegrityError, Reason
from atoll_contract.files import BLOCK, written_whole
from atoll_contract.store.base import PreconditionFailed, StoreError, Transferred
from atoll_contract.store.retry import Retryable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


SHA256 = "sha256"
# Whole fetches before bytes that keep being others count as damaged.
FETCHES = 3

Call = Callable[[Callable[[], Any]], Any]


class Download:
    """One object on its way. `address` is bucket and key, `call` the store's retrying caller."""

    def __init__(self, client: "S3Client", address: Mapping[str, Any], *, call: Call, name: str) -> None:
        self.client = client
        self.address = address
        self.call = call
        self.name = name

    def to(
        self, path: Path, *, sha256: str | None, etag: str | None, transferred: Transferred | None
    ) -> tuple[int, str, str]:
        """Fetch to `path`: size, ETag and sha256. `transferred` gets a negative count where bytes are fetched anew."""
        with written_whole(path) as stream:
            for number in range(1, FETCHES + 1):
                fetch = _Fetch(self, stream, etag=etag, transferred=transferred)
                problem = self._problem(fetch, sha256, pinned=etag)
                if problem is None:
                    break
                if number == FETCHES:
                    raise problem
                fetch.discard()
        return fetch.received, str(fetch.etag), fetch.digest

    def _problem(self, fetch: "_Fetch", sha256: str | None, *, pinned: str | None) -> AtollError | None:
        """Run one pass; what is wrong with what it fetched."""
        try:
            fetch.run()
        except PreconditionFailed:
            if pinned is not None:
                raise PreconditionFailed(f"{self.name} is no longer the object with ETag {pinned}") from None
            text = f"{self.name} was overwritten {FETCHES} times while it was read"
            return StoreError(Reason.STORAGE_UNAVAILABLE, text)
        expected = sha256 or fetch.expected
        if expected is None or fetch.digest == expected:
            return None
        return IntegrityError(f"{self.name}: expected sha256 {expected}, got {fetch.digest} ({FETCHES} tries)")


class _Fetch:
    """One pass over an object, in as many requests as the line needs."""

    def __init__(
        self, download: Download, stream: BinaryIO, *, etag: str | None, transferred: Transferred | None
    ) -> None:
        self._download = download
        self._stream = stream
        self._transferred = transferred or (lambda _: None)
        self._hash = hashlib.sha256()
        self._size: int | None = None
        self.etag = etag
        self.expected: str | None = None
        self.received = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def complete(self) -> bool:
        return self._size is not None and self.received == self._size

    def run(self) -> None:
        """Raises PreconditionFailed where the object is another by now."""
        while not self.complete:
            before = self.received
            # Progress starts the patience anew: a slow line is no broken one.
            self._download.call(partial(self._some, before))

    def discard(self) -> None:
        """Take back what was received."""
        self._transferred(-self.received)
        self._stream.seek(0)
        self._stream.truncate()

    def _some(self, before: int) -> None:
        from botocore.exceptions import BotoCoreError

        if self.complete:
            return
        conditions: dict[str, Any] = {"IfMatch": self.etag} if self.etag else {}
        if self.received:
            conditions["Range"] = f"bytes={self.received}-"
        answer = self._download.client.get_object(**self._download.address, **conditions)
        self._begin(answer)
        try:
            while block := answer["Body"].read(BLOCK):
                self._take(block)
        except BotoCoreError:
            if self.received == before:
                raise
            return  # the next request goes on from here
        finally:
            answer["Body"].close()
        if not self.complete and self.received == before:
            text = f"{self._download.name}: the server ends the answer after {self.received} of {self._size} bytes"
            raise Retryable(StoreError(Reason.STORAGE_UNAVAILABLE, text))

    def _begin(self, answer: Any) -> None:
        if self._size is None:
            self._size = int(answer["ContentLength"])
            self.etag = answer["ETag"]
            self.expected = answer["Metadata"].get(SHA256)
        elif self.received and "ContentRange" not in answer:  # the server knows no ranges: from the start
            self.discard()
            self.received = 0
            self._hash = hashlib.sha256()

    def _take(self, block: bytes) -> None:
        self._stream.write(block)
        self._hash.update(block)
        self.received += len(block)
        self._transferred(len(block))
