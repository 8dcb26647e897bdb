"""Where a store is: what an engine tells a stage of it."""

from enum import StrEnum

from atoll_contract.document import Document


class StoreType(StrEnum):
    DIRECTORY = "directory"
    S3 = "s3"


class AddressingStyle(StrEnum):
    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class ChecksumMode(StrEnum):
    AUTO = "auto"
    WHEN_SUPPORTED = "whenSupported"
    WHEN_REQUIRED = "whenRequired"


class StoreSpec(Document, frozen=True):
    """Where a store is. Credentials are not in it, but files in `credentials_dir` (`AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, optionally `AWS_SESSION_TOKEN`), which are read again for each request; without it boto3's
    own chain applies (environment, shared file, web identity, instance role)."""

    type: StoreType
    path: str | None = None
    bucket: str | None = None
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing_style: AddressingStyle = AddressingStyle.AUTO
    checksum_mode: ChecksumMode = ChecksumMode.AUTO
    ca_bundle_path: str | None = None
    credentials_dir: str | None = None
    anonymous: bool = False
    # Seconds for which one call to a bucket is retried; None: the default of `store.retry.Backoff`.
    patience_seconds: float | None = None
