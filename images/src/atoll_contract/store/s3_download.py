"""Downloads from a bucket: resumed after a broken connection, hashed, never mixed from two versions of an object."""

from __future__ import annotations

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
# Complete downloads before bytes with a wrong digest count as corrupted.
FETCHES = 3

Call = Callable[[Callable[[], Any]], Any]


class Download:
    """Downloads one object. `address` is bucket and key, `call` calls an operation with the store's retries."""

    def __init__(self, client: S3Client, address: Mapping[str, Any], *, call: Call, name: str) -> None:
        self.client = client
        self.address = address
        self.call = call
        self.name = name

    def to(
        self, path: Path, *, sha256: str | None, etag: str | None, transferred: Transferred | None
    ) -> tuple[int, str, str]:
        """Downloads to `path`; returns size, ETag and sha256. `transferred` gets a negative number where bytes are
        discarded."""
        with written_whole(path) as stream:
            for number in range(1, FETCHES + 1):
                fetch = _Fetch(self, stream, etag=etag, transferred=transferred)
                problem = self._problem(fetch, sha256, wanted_etag=etag)
                if problem is None:
                    break
                if number == FETCHES:
                    raise problem
                fetch.discard()
        return fetch.received, str(fetch.etag), fetch.digest

    def _problem(self, fetch: _Fetch, sha256: str | None, *, wanted_etag: str | None) -> AtollError | None:
        """Runs one pass and returns what is wrong with its bytes, if anything."""
        try:
            fetch.run()
        except PreconditionFailed:
            if wanted_etag is not None:
                raise PreconditionFailed(f"{self.name} is no longer the object with ETag {wanted_etag}") from None
            text = f"{self.name} was overwritten {FETCHES} times while it was read"
            return StoreError(Reason.STORAGE_UNAVAILABLE, text)
        expected = sha256 or fetch.expected
        if expected is None or fetch.digest == expected:
            return None
        return IntegrityError(f"{self.name}: expected sha256 {expected}, got {fetch.digest} ({FETCHES} tries)")


class _Fetch:
    """One pass over an object, in as many requests as the connection needs."""

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
        """Receives the whole object. Raises PreconditionFailed where it was overwritten."""
        while not self.complete:
            before = self.received
            # Progress restarts the retries: a slow connection is not a broken one.
            self._download.call(partial(self._some, before))

    def discard(self) -> None:
        """Discards the received bytes."""
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
            return  # the next request continues from here
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
        elif self.received and "ContentRange" not in answer:  # the server does not support ranges: start again
            self.discard()
            self.received = 0
            self._hash = hashlib.sha256()

    def _take(self, block: bytes) -> None:
        self._stream.write(block)
        self._hash.update(block)
        self.received += len(block)
        self._transferred(len(block))
