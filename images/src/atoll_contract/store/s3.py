"""A bucket as a store, through boto3: S3 and compatible servers.

The server needs path-style SigV4, Get/Head/Put/Delete, multipart uploads, ListObjectsV2, ranges, ETags and user
metadata. The metadata of every object has its sha256, which shows corrupted bytes, and a random number of the write,
which shows whether a write whose response was lost took place.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.store.base import (
    SMALL_OBJECT,
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    Transferred,
)
from atoll_contract.store.outage import OnOutage, OutageNotice
from atoll_contract.store.retry import Backoff, Retryable
from atoll_contract.store.s3_client import Connection, connect
from atoll_contract.store.s3_download import Download
from atoll_contract.store.s3_errors import Attempted, proxy_of, translated
from atoll_contract.store.s3_upload import MULTIPART_BYTES, MultipartUpload, ResumableUpload, Source, Unfinished, abort
from atoll_contract.store_spec import AddressingStyle, StoreSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


T = TypeVar("T")

SHA256 = "sha256"
WRITE = "atoll-write"


class S3Store:
    """A bucket, or the part of it below a prefix. Thread-safe."""

    def __init__(self, spec: StoreSpec, *, backoff: Backoff | None = None, part_bytes: int = MULTIPART_BYTES) -> None:
        if not spec.bucket:
            raise SpecError("a store of type s3 needs `bucket`")
        self._spec = spec
        self._bucket = spec.bucket
        self._prefix = spec.prefix if not spec.prefix or spec.prefix.endswith("/") else f"{spec.prefix}/"
        self._backoff = backoff or _backoff_of(spec, None)
        self._part_bytes = part_bytes

    @classmethod
    def from_spec(cls, spec: StoreSpec, on_outage: OnOutage | None = None) -> S3Store:
        """The bucket that `spec` names; makes no request yet. Raises SpecError where `spec` names none."""
        return cls(spec, backoff=_backoff_of(spec, on_outage))

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def head(self, key: str) -> ObjectInfo | None:
        try:
            found = self._call("read", key, lambda: self._head(key))
        except ObjectNotFound:
            return None
        return self._info(key, found)

    def get(self, key: str, *, limit: int = SMALL_OBJECT) -> bytes:
        return self._call("read", key, lambda: self._read(key, limit))[0]

    def get_if_changed(self, key: str, etag: str | None) -> tuple[bytes, str] | None:
        condition = {} if etag is None else {"IfNoneMatch": etag}

        def read() -> tuple[bytes, str] | None:
            from botocore.exceptions import ClientError

            try:
                return self._read(key, SMALL_OBJECT, **condition)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 304:
                    return None
                raise

        return self._call("read", key, read)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        digest = hashlib.sha256(data).hexdigest()
        write = secrets.token_hex(16)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match else {}

        def once() -> ObjectInfo:
            metadata = {SHA256: digest, WRITE: write}
            answer = self.client.put_object(**self._at(key), Body=data, Metadata=metadata, **condition)
            return ObjectInfo(key, len(data), answer["ETag"], digest)

        try:
            return self._call("write", key, once)
        except (PreconditionFailed, ObjectNotFound):
            if not condition:
                raise
            # The condition may have failed because of our own write, whose response was lost.
            written = self._own_write(key, write)
            if written is None:
                raise PreconditionFailed(
                    f"{self.url}: the key is taken: {key}" if if_absent else f"{self.url}: {key} has changed"
                ) from None
            return written

    def upload(
        self, key: str, path: Path, *, transferred: Transferred | None = None, state_file: Path | None = None
    ) -> ObjectInfo:
        """As every store does. With `state_file`, which records the upload, an interrupted upload is resumed."""
        size = path.stat().st_size
        if size < MULTIPART_BYTES and size <= self._part_bytes:
            info = self.put(key, path.read_bytes())
            if transferred is not None:
                transferred(info.size)
            return info
        source = Source(path, size, file_sha256(path))
        # Another process that resumes the upload has to know the number of the write.
        write = secrets.token_hex(16) if state_file is None else source.sha256[:32]
        kind = MultipartUpload if state_file is None else partial(ResumableUpload, state_file=state_file)
        upload = kind(
            self.client,
            self._at(key),
            source,
            call=lambda operation: self._call("write", key, operation),
            metadata={SHA256: source.sha256, WRITE: write},
            part_bytes=self._part_bytes,
        )
        etag = upload.run(transferred, written=lambda: self._own_write(key, write))
        return ObjectInfo(key, size, etag, source.sha256)

    def download(
        self,
        key: str,
        path: Path,
        *,
        sha256: str | None = None,
        etag: str | None = None,
        transferred: Transferred | None = None,
    ) -> ObjectInfo:
        download = Download(
            self.client,
            self._at(key),
            call=lambda operation: self._call("read", key, operation),
            name=f"{self.url}: {key}",
        )
        size, found, digest = download.to(path, sha256=sha256, etag=etag, transferred=transferred)
        return ObjectInfo(key, size, found, digest)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        token: str | None = None
        while True:
            page = self._call("list", prefix, partial(self._page, prefix, token))
            for item in page.get("Contents", ()):
                key, modified = item["Key"].removeprefix(self._prefix), item["LastModified"].timestamp()
                yield ObjectInfo(key, item["Size"], item["ETag"], modified_at=modified)
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or token is None:
                return

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectNotFound):
            self._call("delete", key, lambda: self.client.delete_object(**self._at(key)))

    def unfinished(self) -> Iterator[Unfinished]:
        """Multipart uploads below the store's prefix that are neither complete nor aborted."""
        marker: dict[str, Any] = {}
        while True:
            # Not `Prefix`: MinIO takes it for a complete key.
            page: Any = self._call("list uploads", "", partial(self._uploads_page, marker))
            for item in page.get("Uploads", ()):
                if item["Key"].startswith(self._prefix):
                    key = item["Key"].removeprefix(self._prefix)
                    yield Unfinished(key, item["UploadId"], item["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort(self, key: str, upload_id: str) -> None:
        """Aborts an unfinished upload; no error where there is none."""
        self._call("abort the upload to", key, lambda: abort(self.client, {**self._at(key), "UploadId": upload_id}))

    @property
    def client(self) -> S3Client:
        """The boto3 client, for requests that the store has no method for; it raises botocore's errors."""
        return self._connection.client

    @cached_property
    def _connection(self) -> Connection:
        return connect(self._spec)

    @cached_property
    def _name(self) -> str:
        return f"{self.url} at {self._spec.endpoint}" if self._spec.endpoint else self.url

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _call(self, action: str, key: str, operation: Callable[[], T]) -> T:
        """Calls `operation`, retries it as its errors require, and raises the store's errors for botocore's."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        def once() -> T:
            self._connection.check_credentials(self._name)
            try:
                return operation()
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                virtual = self._spec.addressing_style is AddressingStyle.VIRTUAL
                attempted = Attempted(action, key, self._name, virtual, proxy_of(self.client.meta.endpoint_url))
                # Not `from error`: a traceback would print botocore's message, which may have secrets.
                raise translated(error, attempted, self._connection.secrets()) from None

        return self._backoff.call(once)

    def _head(self, key: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self.client.head_object(**self._at(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 403, 404):
                raise
        # The response to HEAD has no body and so no reason: 404 is a missing object, a missing bucket, or an access key
        # that the server does not know. The response to GET says which.
        answer = self.client.get_object(**self._at(key))
        answer["Body"].close()
        return answer

    def _read(self, key: str, limit: int, **condition: Any) -> tuple[bytes, str]:
        """Tries once to get the whole object and its ETag."""
        answer = self.client.get_object(**self._at(key), **condition)
        with contextlib.closing(answer["Body"]) as body:
            data = body.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(f"{self.url}: {key} is larger than {limit} bytes, the most that is read at once")
        found, expected = hashlib.sha256(data).hexdigest(), answer["Metadata"].get(SHA256)
        if expected is not None and found != expected:
            text = f"{self._name}: {key} was written with sha256 {expected} and is read with {found}"
            raise Retryable(StoreError(Reason.INTEGRITY_MISMATCH, text), tries=3)
        return data, answer["ETag"]

    def _page(self, prefix: str, token: str | None) -> Any:
        more: dict[str, Any] = {} if token is None else {"ContinuationToken": token}
        return self.client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more)

    def _uploads_page(self, marker: dict[str, Any]) -> Any:
        return self.client.list_multipart_uploads(Bucket=self._bucket, **marker)

    def _info(self, key: str, answer: Any) -> ObjectInfo:
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["Metadata"].get(SHA256))

    def _own_write(self, key: str, write: str) -> ObjectInfo | None:
        """The object at `key`, if the write with this number made it."""
        try:
            found = self._call("read", key, lambda: self._head(key))
        except ObjectNotFound:
            return None
        return self._info(key, found) if found["Metadata"].get(WRITE) == write else None


def _backoff_of(spec: StoreSpec, on_outage: OnOutage | None) -> Backoff:
    total = Backoff.total if spec.patience_seconds is None else spec.patience_seconds
    if on_outage is None:
        return Backoff(total=total)
    notice = OutageNotice(on_outage, retry_timeout=total)
    return Backoff(total=total, on_failure=notice.failed, on_success=notice.answered)
