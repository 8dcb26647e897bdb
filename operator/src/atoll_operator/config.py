"""The operator's settings, from the environment. `docs/operator.md` lists them for admins."""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from atoll_operator.kube.lease import LeaseTiming
from atoll_operator.lifecycle.model import PollIntervals, RetryTiming

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting cannot be used; the text names the variable and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """Seconds unless said otherwise."""

    # The namespace of the Lease and of the profiles' snapshots.
    own_namespace: str = "atoll-system"
    # The namespaces whose runs are reconciled; empty: all.
    namespaces: tuple[str, ...] = ()
    # Unique per operator pod and the same after a restart of its container.
    identity: str = field(default_factory=socket.gethostname)
    lease_name: str = "atoll-operator"
    lease: LeaseTiming = field(default_factory=LeaseTiming)
    workers: int = 8
    # All runs are listed and reconciled this often, which makes up for missed events.
    resync: float = 300.0
    request_timeout: float = 30.0
    # A watch that brings nothing for this long, not even the bookmark that the server sends every minute, is replaced.
    watch_silence: float = 70.0
    poll: PollIntervals = field(default_factory=PollIntervals)
    retries: RetryTiming = field(default_factory=RetryTiming)
    # How long a stage retries one call to its store before its attempt ends; None: the stage's own default.
    store_retry_timeout: float | None = None
    # 0: no metrics server.
    metrics_port: int = 8081
    # The address of the liveness probe; empty: none.
    liveness: str = "http://0.0.0.0:8080/healthz"
    # `json` or `text`.
    log_format: str = "json"
    # The address of the published documentation; empty: Events name its pages by their paths.
    docs_url: str = ""


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Returns the settings in `environ`; absent ones have their defaults.

    Raises:
        ConfigError: a value is not a number, or out of its range.
    """
    default = Settings()
    read = Reader(environ)
    try:
        lease = LeaseTiming(
            duration=read.seconds("ATOLL_LEASE_DURATION_SECONDS", default.lease.duration),
            renew_deadline=read.seconds("ATOLL_LEASE_RENEW_DEADLINE_SECONDS", default.lease.renew_deadline),
            retry=read.seconds("ATOLL_LEASE_RETRY_SECONDS", default.lease.retry),
        )
    except ValueError as error:
        raise ConfigError(f"ATOLL_LEASE_*_SECONDS: {error}") from None
    return Settings(
        own_namespace=environ.get("ATOLL_NAMESPACE") or default.own_namespace,
        namespaces=tuple(part.strip() for part in environ.get("ATOLL_NAMESPACES", "").split(",") if part.strip()),
        identity=environ.get("ATOLL_IDENTITY") or default.identity,
        lease_name=environ.get("ATOLL_LEASE_NAME") or default.lease_name,
        lease=lease,
        workers=read.integer("ATOLL_WORKERS", default.workers, minimum=1),
        resync=read.seconds("ATOLL_RESYNC_SECONDS", default.resync),
        request_timeout=read.seconds("ATOLL_REQUEST_TIMEOUT_SECONDS", default.request_timeout),
        watch_silence=read.seconds("ATOLL_WATCH_SILENCE_SECONDS", default.watch_silence),
        poll=PollIntervals(
            first=read.seconds("ATOLL_PODS_AFTER_SECONDS", default.poll.first),
            starting=read.seconds("ATOLL_PODS_STARTING_SECONDS", default.poll.starting),
            running=read.seconds("ATOLL_PODS_RUNNING_SECONDS", default.poll.running),
        ),
        retries=RetryTiming(
            first=read.seconds("ATOLL_RETRY_FIRST_SECONDS", default.retries.first),
            longest=read.seconds("ATOLL_RETRY_LONGEST_SECONDS", default.retries.longest),
            storage_window=read.seconds("ATOLL_STORAGE_WINDOW_SECONDS", default.retries.storage_window),
        ),
        store_retry_timeout=read.seconds_or_none("ATOLL_STORE_PATIENCE_SECONDS"),
        metrics_port=read.integer("ATOLL_METRICS_PORT", default.metrics_port, minimum=0),
        liveness=environ.get("ATOLL_LIVENESS", default.liveness),
        log_format=read.choice("ATOLL_LOG_FORMAT", default.log_format, allowed=("json", "text")),
        docs_url=read.url("ATOLL_DOCS_URL"),
    )


@dataclass(frozen=True)
class Reader:
    """Reads typed and bounded settings from an environment. Its methods raise ConfigError."""

    environ: Mapping[str, str]

    def seconds(self, name: str, default: float) -> float:
        value = self._parsed(name, default, float, "a number of seconds")
        if not 0 < value < 86_400:
            raise ConfigError(f"{name} is {value:g}; allowed are seconds above 0 and below 86400")
        return value

    def seconds_or_none(self, name: str) -> float | None:
        return self.seconds(name, 1.0) if self.environ.get(name) else None

    def integer(self, name: str, default: int, *, minimum: int) -> int:
        value = self._parsed(name, default, int, "a whole number")
        if value < minimum:
            raise ConfigError(f"{name} is {value}; the least is {minimum}")
        return value

    def choice(self, name: str, default: str, *, allowed: tuple[str, ...]) -> str:
        value = self.environ.get(name) or default
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
        return value

    def url(self, name: str) -> str:
        value = self.environ.get(name, "")
        if value and not re.fullmatch(r"https?://[^\s#?]{1,200}", value):
            allowed = "http:// or https:// and at most 200 characters, none of them a space, ? or #"
            raise ConfigError(f"{name} is {value!r}; allowed are {allowed}")
        return value

    def _parsed(self, name: str, default: T, parse: Callable[[str], T], allowed: str) -> T:
        text = self.environ.get(name, "")
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            raise ConfigError(f"{name} is {text!r}; it must be {allowed}") from None
