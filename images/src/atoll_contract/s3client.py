"""The boto3 client of a store: addressing, checksums, certificates, credentials, timeouts."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.errors import SpecError
from atoll_contract.s3credentials import FileCredentialsProvider, secret_values
from atoll_contract.stage import AddressingStyle, ChecksumMode, StoreSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
CONNECTIONS = 32
DEFAULT_REGION = "us-east-1"

# At DEBUG these write request headers, signatures included.
_TOO_OPEN = ("botocore", "boto3", "urllib3")


@dataclass(frozen=True)
class Connection:
    """A client, and the session that knows what its messages must not show."""

    client: "S3Client"
    session: Any

    def secrets(self) -> frozenset[str]:
        return secret_values(self.session.get_credentials)


def connect(spec: StoreSpec) -> Connection:
    """A client for the store; no request is made yet.

    Raises:
        SpecError: endpoint, region or CA bundle are not what they should be.
    """
    import boto3
    import botocore.session
    from botocore.exceptions import BotoCoreError

    for name in _TOO_OPEN:
        logger = logging.getLogger(name)
        # Never more open than the process asked for: a command line that logs errors alone gets no notes of botocore's.
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
    if spec.ca_bundle_path and not Path(spec.ca_bundle_path).is_file():
        raise SpecError(f"the CA bundle {spec.ca_bundle_path} of the store is not a file")
    session = botocore.session.Session()
    if spec.credentials_dir and not spec.anonymous:
        session.register_component("credential_provider", FileCredentialsProvider(Path(spec.credentials_dir)))
    try:
        client = boto3.session.Session(botocore_session=session).client(
            "s3",
            region_name=_region(spec, session),
            endpoint_url=spec.endpoint,
            verify=spec.ca_bundle_path or None,
            config=_config(spec),
        )
    except (ValueError, BotoCoreError) as error:
        raise SpecError(
            f"the store's endpoint {spec.endpoint!r} or region {spec.region!r} is not valid: {error}"
        ) from None
    return Connection(client, session)


def _region(spec: StoreSpec, session: Any) -> str:
    return spec.region or (None if spec.endpoint else session.get_config_variable("region")) or DEFAULT_REGION


def _config(spec: StoreSpec) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    checksums: Any = "when_supported" if _checksums(spec) else "when_required"
    addressing: Any = {"addressing_style": _addressing(spec)}
    return Config(
        signature_version=UNSIGNED if spec.anonymous else "s3v4",
        s3=addressing,
        # One try a call: `backoff` alone repeats, and so knows of every answer that was lost.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_extra="atoll",
    )


def _addressing(spec: StoreSpec) -> str:
    if spec.addressing_style is AddressingStyle.AUTO:
        # Own servers seldom have a wildcard name for their buckets.
        return "path" if spec.endpoint else "virtual"
    return str(spec.addressing_style)


def _checksums(spec: StoreSpec) -> bool:
    """Whether requests carry CRC32 headers. Many S3-compatible servers refuse them, and Atoll has its own digests."""
    if spec.checksum_mode is ChecksumMode.AUTO:
        return spec.endpoint is None
    return spec.checksum_mode is ChecksumMode.WHEN_SUPPORTED
