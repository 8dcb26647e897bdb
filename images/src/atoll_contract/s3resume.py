"""Uploads in parts that a later process goes on with: what a user's laptop sends over a school's network."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.codec import DecodeError, from_json, to_json
from atoll_contract.s3upload import Call, MultipartUpload, Source
from atoll_contract.store import ObjectInfo, StoreError, Transferred

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """An upload as its process noted it. Parts of another file, or cut otherwise, must not be mixed with its own."""

    bucket: str
    key: str
    sha256: str
    size: int
    part_bytes: int
    upload_id: str = ""


class ResumableUpload(MultipartUpload):
    """An upload that is noted in the file `memory`, left there when it breaks off, and gone on with from there.

    A part counts as sent where the store has it with the MD5 of the very bytes; where a store has other ETags
    (server-side encryption with own keys) it is sent again.
    """

    def __init__(
        self,
        client: "S3Client",
        address: Mapping[str, Any],
        source: Source,
        *,
        call: Call,
        metadata: Mapping[str, str],
        part_bytes: int,
        memory: Path,
    ) -> None:
        super().__init__(client, address, source, call=call, metadata=metadata, part_bytes=part_bytes)
        self._memory = memory
        self._sent: Mapping[int, str] = {}

    def run(self, transferred: Transferred | None, *, written: Callable[[], ObjectInfo | None]) -> str:
        """Upload what is missing and complete; the object's ETag."""
        upload = self._resumed() or self._begun()
        etag = self._complete(upload, self._send(upload, transferred), written)
        self._memory.unlink(missing_ok=True)
        return etag

    def _resumed(self) -> Mapping[str, Any] | None:
        """The upload that was broken off, if the store still has it and the file is the same."""
        with contextlib.suppress(FileNotFoundError, DecodeError):
            noted = from_json(Begun, self._memory.read_bytes())
            upload = {**self._address, "UploadId": noted.upload_id}
            if noted != self._noted(noted.upload_id):
                self._abort(upload)
                return None
            try:
                self._sent = self._parts_there(upload)
            except StoreError as error:
                logger.info("the upload starts anew: %s", error)
                return None
            return upload
        return None

    def _begun(self) -> Mapping[str, Any]:
        self._abort_stale()
        created = self._call(
            lambda: self._client.create_multipart_upload(**self._address, Metadata=dict(self._metadata))
        )
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_bytes(to_json(self._noted(created["UploadId"])))
        return {**self._address, "UploadId": created["UploadId"]}

    def _noted(self, upload_id: str) -> Begun:
        address, source = self._address, self._source
        return Begun(address["Bucket"], address["Key"], source.sha256, source.size, self._part_bytes, upload_id)

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
