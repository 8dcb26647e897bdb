"""The settings, from the environment. `docs/operator.md` lists them for admins."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from atoll_operator.config import ConfigError, Reader


@dataclass(frozen=True)
class DeviceSettings:
    """Times are in seconds."""

    namespace: str
    # Name of the ObjectStore in that namespace.
    store: str
    interval: float = 30.0
    # A device without a new report for so long is offline; devices report every 60 s.
    offline: float = 300.0
    # How long an EdgeDevice whose report was removed is kept.
    forget: float = 3600.0
    request_timeout: float = 30.0
    # Of the page with /healthz, /readyz and /metrics.
    port: int = 8081
    # Where the Secret with the bucket's keys is mounted; None: boto3's own chain.
    credentials_dir: str | None = None
    # Where the ConfigMap of the ObjectStore's `caBundleRef` is mounted.
    ca_dir: str = "/etc/atoll/ca"
    log_format: str = "json"


def from_environment(environ: Mapping[str, str] = os.environ) -> DeviceSettings:
    """The settings in `environ`.

    Raises:
        ConfigError: a setting is missing, not a number, or out of its range.
    """
    read = Reader(environ)
    return DeviceSettings(
        namespace=_required(environ, "ATOLL_MIRROR_NAMESPACE"),
        store=_required(environ, "ATOLL_MIRROR_STORE"),
        interval=read.seconds("ATOLL_MIRROR_INTERVAL_SECONDS", DeviceSettings.interval),
        offline=read.seconds("ATOLL_MIRROR_OFFLINE_SECONDS", DeviceSettings.offline),
        forget=read.seconds("ATOLL_MIRROR_FORGET_SECONDS", DeviceSettings.forget),
        request_timeout=read.seconds("ATOLL_REQUEST_TIMEOUT_SECONDS", DeviceSettings.request_timeout),
        port=read.integer("ATOLL_MIRROR_PORT", DeviceSettings.port, minimum=0),
        credentials_dir=environ.get("ATOLL_MIRROR_CREDENTIALS_DIR") or None,
        ca_dir=environ.get("ATOLL_MIRROR_CA_DIR") or DeviceSettings.ca_dir,
        log_format=read.choice("ATOLL_LOG_FORMAT", DeviceSettings.log_format, allowed=("json", "text")),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set")
    return value
