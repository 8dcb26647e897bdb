"""Multipart uploads: an object that is too large for one request becomes visible with the last part."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.document import DecodeError, Document, from_json, to_json
from atoll_contract.errors import IntegrityError, Reason
from atoll_contract.store.base import ObjectInfo, StoreError, Transferred
from atoll_contract.store.retry import Retryable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


logger = logging.getLogger(__name__)

MULTIPART_BYTES = 16 * 2**20
# The limit of S3.
MAX_PARTS = 10_000
PARALLEL = 4
STALE_AFTER = timedelta(days=1)

Call = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Source:
    """The file to upload, with its size and sha256."""

    path: Path
    size: int
    sha256: str

    def parts(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yields the file in numbered parts of `size` bytes.

        Raises:
            IntegrityError: after the last part, where the bytes do not match `sha256`.
        """
        digest = hashlib.sha256()
        number = 0
        with self.path.open("rb") as stream:
            while block := stream.read(size):
                digest.update(block)
                number += 1
                yield number, block
        if digest.hexdigest() != self.sha256:
            raise IntegrityError(f"{self.path} changed while it was uploaded")


@dataclass(frozen=True)
class Unfinished:
    """A multipart upload that is neither complete nor aborted; `begun` in seconds since 1970."""

    key: str
    upload_id: str
    begun: float


def abort(client: S3Client, upload: Mapping[str, Any]) -> None:
    """Aborts an upload; no error where there is none. `upload` has bucket, key and upload id."""
    from botocore.exceptions import ClientError

    try:
        client.abort_multipart_upload(**upload)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise


class MultipartUpload:
    """One multipart upload. `address` is bucket and key, `call` calls an operation with the store's retries."""

    def __init__(
        self,
        client: S3Client,
        address: Mapping[str, Any],
        source: Source,
        *,
        call: Call,
        metadata: Mapping[str, str],
        part_bytes: int = MULTIPART_BYTES,
    ) -> None:
        self._client = client
        self._address = address
        self._source = source
        self._call = call
        self._metadata = metadata
        self._part_bytes = max(part_bytes, -(-source.size // MAX_PARTS))

    def run(self, transferred: Transferred | None, *, written: Callable[[], ObjectInfo | None]) -> str:
        """Uploads and completes; returns the object's ETag. `written` returns the object if this upload made it."""
        upload = self._create()
        try:
            parts = self._send(upload, transferred)
            return self._complete(upload, parts, written)
        except BaseException:
            self._abort(upload)
            raise

    def _create(self) -> dict[str, Any]:
        self._abort_stale()
        created = self._call(
            lambda: self._client.create_multipart_upload(**self._address, Metadata=dict(self._metadata))
        )
        return {**self._address, "UploadId": created["UploadId"]}

    def _send(self, upload: Mapping[str, Any], transferred: Transferred | None) -> list[dict[str, Any]]:
        done: list[dict[str, Any]] = []
        running: deque[Future[tuple[dict[str, Any], int]]] = deque()

        def collect() -> None:
            part, size = running.popleft().result()
            done.append(part)
            if transferred is not None:
                transferred(size)

        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as pool:
            try:
                for number, block in self._source.parts(self._part_bytes):
                    running.append(pool.submit(self._send_part, upload, number, block))
                    if len(running) >= PARALLEL:  # bounds the memory
                        collect()
                while running:
                    collect()
            finally:
                for future in running:
                    future.cancel()
        return done

    def _send_part(self, upload: Mapping[str, Any], number: int, block: bytes) -> tuple[dict[str, Any], int]:
        answer = self._call(lambda: self._client.upload_part(**upload, PartNumber=number, Body=block))
        return {"PartNumber": number, "ETag": answer["ETag"]}, len(block)

    def _complete(self, upload: Mapping[str, Any], parts: list[Any], written: Callable[[], ObjectInfo | None]) -> str:
        from botocore.exceptions import ClientError

        def once() -> str:
            try:
                answer = self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchUpload":
                    raise
                # A try whose response was lost has completed it, or somebody has aborted it.
                found = written()
                if found is None:
                    text = f"the upload to {self._address['Key']} was aborted by somebody else"
                    raise Retryable(StoreError(Reason.STORAGE_UNAVAILABLE, text), tries=1) from None
                return found.etag
            return str(answer["ETag"])

        etag: str = self._call(once)
        return etag

    def _abort(self, upload: Mapping[str, Any]) -> None:
        try:
            self._call(lambda: abort(self._client, upload))
        except StoreError as error:
            logger.warning("an unfinished upload stays behind until the bucket's lifecycle removes it: %s", error)

    def _abort_stale(self) -> None:
        """Aborts unfinished uploads to this key that are a day old: their process is gone."""
        bucket, key = self._address["Bucket"], self._address["Key"]
        try:
            found = self._call(lambda: self._client.list_multipart_uploads(Bucket=bucket, Prefix=key))
            for item in found.get("Uploads", ()):
                if item["Key"] == key and datetime.now(UTC) - item["Initiated"] > STALE_AFTER:
                    self._abort({**self._address, "UploadId": item["UploadId"]})
        except StoreError as error:
            logger.info("unfinished uploads are not looked for: %s", error)


class UploadState(Document, frozen=True):
    """The state of an upload in a file. An upload is only resumed with the same file and the same size of parts."""

    bucket: str
    key: str
    sha256: str
    size: int
    part_bytes: int
    upload_id: str = ""


class ResumableUpload(MultipartUpload):
    """An upload whose state is kept in `state_file`, from which the next process resumes it.

    A part is not sent again if its ETag in the store is the MD5 of its bytes. Where a store has other ETags
    (server-side encryption with own keys), every part is sent again.
    """

    def __init__(
        self, client: S3Client, address: Mapping[str, Any], source: Source, *, state_file: Path, **upload: Any
    ) -> None:
        super().__init__(client, address, source, **upload)
        self._state_file = state_file
        self._sent: Mapping[int, str] = {}

    def run(self, transferred: Transferred | None, *, written: Callable[[], ObjectInfo | None]) -> str:
        """Uploads the missing parts and completes; returns the object's ETag."""
        upload = self._resumed() or self._create()
        etag = self._complete(upload, self._send(upload, transferred), written)
        self._state_file.unlink(missing_ok=True)
        return etag

    def _resumed(self) -> Mapping[str, Any] | None:
        """The interrupted upload, if the store still has it and the file is the same."""
        with contextlib.suppress(FileNotFoundError, DecodeError):
            recorded = from_json(UploadState, self._state_file.read_bytes())
            upload = {**self._address, "UploadId": recorded.upload_id}
            if recorded != self._state(recorded.upload_id):
                self._abort(upload)
                return None
            try:
                self._sent = self._parts_there(upload)
            except StoreError as error:
                logger.info("the upload starts anew: %s", error)
                return None
            return upload
        return None

    def _create(self) -> dict[str, Any]:
        upload = super()._create()
        self._state_file.parent.mkdir(parents=True, exist_ok=True)
        self._state_file.write_bytes(to_json(self._state(upload["UploadId"])))
        return upload

    def _state(self, upload_id: str) -> UploadState:
        address, source = self._address, self._source
        return UploadState(address["Bucket"], address["Key"], source.sha256, source.size, self._part_bytes, upload_id)

    def _parts_there(self, upload: Mapping[str, Any]) -> Mapping[int, str]:
        found: dict[int, str] = {}
        marker = 0
        while True:
            after = marker
            page = self._call(lambda: self._client.list_parts(**upload, PartNumberMarker=after))  # noqa: B023
            found |= {part["PartNumber"]: part["ETag"] for part in page.get("Parts", ())}
            if not page.get("IsTruncated"):
                return found
            marker = page["NextPartNumberMarker"]

    def _send_part(self, upload: Mapping[str, Any], number: int, block: bytes) -> tuple[dict[str, Any], int]:
        etag = self._sent.get(number)
        if etag is not None and etag.strip('"') == hashlib.md5(block, usedforsecurity=False).hexdigest():
            return {"PartNumber": number, "ETag": etag}, len(block)
        return super()._send_part(upload, number, block)
