"""The boto3 client of a store: endpoint, timeouts, checksums, and credentials that are read from files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll_contract.errors import SpecError
from atoll_contract.stage import AddressingStyle, ChecksumMode, StoreSpec
from atoll_contract.store.base import StoreForbidden

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_s3 import S3Client


ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN = "AWS_SESSION_TOKEN"
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
CONNECTIONS = 32
DEFAULT_REGION = "us-east-1"

# At DEBUG these loggers write request headers with signatures.
_VERBOSE_LOGGERS = ("botocore", "boto3", "urllib3")

# Kubernetes replaces this link when a mounted Secret changes; the files behind it belong together.
_MOUNTED = "..data"


class FileCredentials:
    """Credentials in files of a folder, read for every request, so that a rotated Secret is used at once. For botocore
    this is both the only credential provider and the credentials."""

    method = "atoll-files"
    account_id = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_credentials(self) -> FileCredentials:
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        from botocore.credentials import ReadOnlyCredentials

        mounted = self._folder / _MOUNTED
        folder = mounted.resolve() if mounted.exists() else self._folder
        token = folder / SESSION_TOKEN
        return ReadOnlyCredentials(
            self._read(folder / ACCESS_KEY),
            self._read(folder / SECRET_KEY),
            self._read(token) if token.exists() else None,
        )

    @property
    def access_key(self) -> str | None:
        return self.get_frozen_credentials().access_key

    @property
    def secret_key(self) -> str | None:
        return self.get_frozen_credentials().secret_key

    @property
    def token(self) -> str | None:
        return self.get_frozen_credentials().token

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name)

    def _read(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreForbidden(f"cannot read the credential file {path}: {error.strerror}") from error
        if not text:
            raise StoreForbidden(f"the credential file {path} is empty")
        return text


@dataclass(frozen=True)
class Connection:
    """A client and its session."""

    client: S3Client
    session: Any

    def secrets(self) -> frozenset[str]:
        """The credentials in use, which no message may contain."""
        try:
            found = self.session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except StoreForbidden:
            return frozenset()
        values = (frozen.access_key, frozen.secret_key, frozen.token) if frozen else ()
        return frozenset(value for value in values if value)


def connect(spec: StoreSpec) -> Connection:
    """A client for the store; no request is made yet.

    Raises:
        SpecError: endpoint, region or CA bundle is not valid.
    """
    import boto3
    import botocore.session
    from botocore.exceptions import BotoCoreError

    for name in _VERBOSE_LOGGERS:
        logger = logging.getLogger(name)
        # Not below the level of the process: a command line that logs only errors shows no messages of botocore.
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
    if spec.ca_bundle_path and not Path(spec.ca_bundle_path).is_file():
        raise SpecError(f"the CA bundle {spec.ca_bundle_path} of the store is not a file")
    session = botocore.session.Session()
    if spec.credentials_dir and not spec.anonymous:
        session.register_component("credential_provider", FileCredentials(Path(spec.credentials_dir)))
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


def _addressing(spec: StoreSpec) -> str:
    if spec.addressing_style is AddressingStyle.AUTO:
        # Self-hosted servers seldom have a DNS wildcard for their buckets.
        return "path" if spec.endpoint else "virtual"
    return str(spec.addressing_style)


def _checksums(spec: StoreSpec) -> bool:
    """Whether requests have CRC32 headers. Many S3-compatible servers refuse them, and Atoll has its own digests."""
    if spec.checksum_mode is ChecksumMode.AUTO:
        return spec.endpoint is None
    return spec.checksum_mode is ChecksumMode.WHEN_SUPPORTED
