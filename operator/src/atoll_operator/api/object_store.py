"""The spec of an ObjectStore, shaped as the YAML."""

from pathlib import Path

from msgspec import field

from atoll_contract.store_spec import AddressingStyle, ChecksumMode
from atoll_operator.api.types import ApiType, NameRef

# A folder as the store; only the embedded engine understands it.
DIRECTORY_ANNOTATION = "atoll.dev/directory"


class KeyRef(ApiType, frozen=True):
    """A key of a Secret or ConfigMap."""

    name: str
    key: str


class Credentials(ApiType, frozen=True):
    """Neither of the two: workload identity."""

    secret_ref: NameRef | None = None
    anonymous: bool = False


class ObjectStoreSpec(ApiType, frozen=True):
    """`directory` is set for a folder store of the embedded engine, which has no body; it wins over the bucket."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing_style: AddressingStyle = AddressingStyle.AUTO
    checksum_mode: ChecksumMode = ChecksumMode.AUTO
    credentials: Credentials = Credentials()
    publish_credentials_ref: NameRef | None = None
    signing_key: KeyRef | None = field(default=None, name="signingKeyRef")
    ca_bundle: KeyRef | None = field(default=None, name="caBundleRef")
    directory: Path | None = None
