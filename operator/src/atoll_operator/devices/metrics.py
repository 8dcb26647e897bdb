"""The mirror's Prometheus metrics. Names and meaning stand in docs/operator.md; no label is per device."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One set of metrics in a registry of its own, so that tests have theirs."""

    def __init__(self) -> None:
        # When each series began is of use to nobody, and doubles a page that people read.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.turns = Counter(
            "atoll_mirror_turns", "Turns over all reports, by how they ended", ["outcome"], registry=self.registry
        )
        self.turn_seconds = Histogram(
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
        """An Observer of `cluster.Cluster`."""
        self.api_requests.labels(method, resource, str(status)).inc()

    def show_devices(self, ready: Iterable[str]) -> None:
        """One word, True, False or Unknown, for each device."""
        tally = Tally(ready)
        for word in ("True", "False", "Unknown"):
            self.devices.labels(word).set(tally[word])
