"""The Prometheus metrics, explained in docs/operator.md. No label is per device."""

import collections
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class DeviceMetrics:
    """One set of metrics in a registry of its own, so that tests have theirs."""

    def __init__(self) -> None:
        # The start time of each series is of no use, and doubles a page that people read.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "atoll_mirror_turns", "Turns over all reports, by how they ended", ["outcome"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "atoll_mirror_turn_seconds", "Time of one turn", buckets=SECONDS, registry=self.registry
        )
        self.devices = Gauge("atoll_mirror_devices", "Devices by condition Ready", ["ready"], registry=self.registry)
        self.ignored = Gauge(
            "atoll_mirror_ignored", "Keys and names that the mirror leaves alone", registry=self.registry
        )
        self.succeeded_at = Gauge(
            "atoll_mirror_last_success_timestamp_seconds", "When a turn last succeeded", registry=self.registry
        )
        self.api_requests = Counter(
            "atoll_api_requests",
            "Calls to the API server; code 0: no answer",
            ["method", "resource", "code"],
            registry=self.registry,
        )

    def observe_call(self, method: str, resource: str, status: int, _seconds: float) -> None:
        """Counts a call; the Observer of `kube.client.Cluster`."""
        self.api_requests.labels(method, resource, str(status)).inc()

    def show_devices(self, ready: Iterable[str]) -> None:
        """Counts the devices by the status of their condition Ready."""
        counts = collections.Counter(ready)
        for status in ("True", "False", "Unknown"):
            self.devices.labels(status).set(counts[status])
