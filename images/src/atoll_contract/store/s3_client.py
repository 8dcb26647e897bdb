"""The boto3 client of a store: endpoint, timeouts, addressing and checksums."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from atoll_contract.errors import SpecError
from atoll_contract.store.s3_credentials import CredentialChain, FileCredentials
from atoll_contract.store_spec import AddressingStyle, ChecksumMode, StoreSpec

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
CONNECTIONS = 32
DEFAULT_REGION = "us-east-1"

# At DEBUG these loggers write request headers with signatures.
_VERBOSE_LOGGERS = ("botocore", "boto3", "urllib3")
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# As botocore describes a setting: key in the file, environment name, default, conversion.
_NO_PROFILE = (None, None, None, None)


@dataclass(frozen=True)
class Connection:
    """A client and its credentials. `credentials` is None where requests are not signed."""

    client: S3Client
    credentials: CredentialChain | None

    def check_credentials(self, store: str) -> None:
        """Raises what `CredentialChain.check` raises; `store` is the store's name in the message."""
        if self.credentials is not None:
            self.credentials.check(store)

    def secrets(self) -> frozenset[str]:
        """The credentials in use, which no message may contain."""
        return frozenset() if self.credentials is None else self.credentials.seen()


def connect(spec: StoreSpec) -> Connection:
    """A client for the store; no request is made yet.

    Raises:
        SpecError: endpoint, region or CA bundle is not valid.
        StoreError: the environment names a profile that does not exist, or a profile's program fails.
    """
    from botocore.exceptions import BotoCoreError

    for name in _VERBOSE_LOGGERS:
        logger = logging.getLogger(name)
        # Not below the level of the process: a command line that logs only errors shows no messages of botocore.
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
    # It prints a traceback where a renewal fails, which the store's own error tells.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    if spec.ca_bundle_path and not Path(spec.ca_bundle_path).is_file():
        raise SpecError(f"the CA bundle {spec.ca_bundle_path} of the store is not a file")
    _check_endpoint(spec.endpoint)
    session = _session(spec)
    if not spec.anonymous:
        CredentialChain(session).find()
    try:
        client = _client(spec, session, on_aws=spec.endpoint is None)
        # The environment and ~/.aws/config may name an endpoint, too.
        if spec.endpoint is None and not is_aws(client.meta.endpoint_url):
            _check_endpoint(client.meta.endpoint_url)
            session = _session(spec)
            client = _client(spec, session, on_aws=False)
    except (ValueError, BotoCoreError) as error:
        raise SpecError(
            f"the store's endpoint {spec.endpoint!r} or region {spec.region!r} is not valid: {error}"
        ) from None
    return Connection(client, None if spec.anonymous else CredentialChain(session))


def _session(spec: StoreSpec) -> Any:
    import botocore.session

    own = bool(spec.credentials_dir) and not spec.anonymous
    # The user's profile is for stores without credentials of their own.
    session = botocore.session.Session(session_vars={"profile": _NO_PROFILE} if own or spec.anonymous else None)
    if spec.credentials_dir and own:
        session.register_component("credential_provider", FileCredentials(Path(spec.credentials_dir)))
    return session


def _client(spec: StoreSpec, session: Any, *, on_aws: bool) -> S3Client:
    import boto3

    return boto3.session.Session(botocore_session=session).client(
        "s3",
        region_name=_region(spec, session),
        endpoint_url=spec.endpoint,
        verify=spec.ca_bundle_path or None,
        config=_config(spec, on_aws=on_aws),
    )


def is_aws(endpoint: str) -> bool:
    """Returns whether the address is one of Amazon's."""
    host = urlsplit(endpoint).hostname or ""
    return host.endswith(_AWS_DOMAINS)


def _check_endpoint(endpoint: str | None) -> None:
    """Raises SpecError where an endpoint has more than scheme, host and port: boto3 would put a path before keys."""
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.path.strip("/") or parts.query or parts.fragment:
        rest = endpoint.split(parts.netloc, 1)[-1]
        raise SpecError(
            f"the store's endpoint {parts.scheme}://{parts.hostname}… ends in {rest!r}; an endpoint is scheme, host "
            "and port alone, such as http://minio:9000; bucket and prefix have fields of their own"
        )


def _region(spec: StoreSpec, session: Any) -> str:
    return spec.region or (None if spec.endpoint else session.get_config_variable("region")) or DEFAULT_REGION


def _config(spec: StoreSpec, *, on_aws: bool) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    checksums: Any = "when_supported" if _checksums(spec, on_aws=on_aws) else "when_required"
    addressing: Any = {"addressing_style": _addressing(spec, on_aws=on_aws)}
    return Config(
        signature_version=UNSIGNED if spec.anonymous else "s3v4",
        s3=addressing,
        # One try per call: only `Backoff` retries, so that it knows of every lost response.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_extra="atoll",
    )


def _addressing(spec: StoreSpec, *, on_aws: bool) -> str:
    if spec.addressing_style is AddressingStyle.AUTO:
        # Self-hosted servers seldom have a DNS wildcard for their buckets.
        return "virtual" if on_aws else "path"
    return str(spec.addressing_style)


def _checksums(spec: StoreSpec, *, on_aws: bool) -> bool:
    """Whether requests have CRC32 headers. Many S3-compatible servers refuse them, and Atoll has its own digests."""
    if spec.checksum_mode is ChecksumMode.AUTO:
        return on_aws
    return spec.checksum_mode is ChecksumMode.WHEN_SUPPORTED
