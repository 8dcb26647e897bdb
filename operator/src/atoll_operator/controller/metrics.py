"""The operator's Prometheus metrics. `docs/operator.md` lists their names and meanings; no label is per run."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class OperatorMetrics:
    """The metrics in a registry of their own, so that each test has its own."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        # The creation time of each series is of no use, and doubles the length of a page that people read.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._clock = clock
        self._event_at = clock()
        self.reconciles = Counter(
            "atoll_reconciles", "Reconciles of one run, by outcome", ["outcome"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "atoll_reconcile_seconds", "Time of one reconcile", buckets=SECONDS, registry=self.registry
        )
        self.api_requests = Counter(
            "atoll_api_requests",
            "Calls to the API server; code 0: no answer",
            ["method", "resource", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "atoll_api_request_seconds", "Time of one call", ["method"], buckets=SECONDS, registry=self.registry
        )
        self.runs = Gauge("atoll_runs", "TrainingRuns by phase", ["phase"], registry=self.registry)
        self.stages_ended = Counter(
            "atoll_stages_ended", "Stages that reached their end", ["stage", "phase", "reason"], registry=self.registry
        )
        self.sweeps = Gauge("atoll_sweeps", "TrainingSweeps by phase", ["phase"], registry=self.registry)
        self.sweeps_ended = Counter(
            "atoll_sweeps_ended", "TrainingSweeps that reached their end", ["phase", "reason"], registry=self.registry
        )
        self.trials_started = Counter("atoll_sweep_trials_started", "Runs that sweeps made", registry=self.registry)
        self.trials_pruned = Counter(
            "atoll_sweep_trials_pruned", "Runs of sweeps that were ended early", registry=self.registry
        )
        self.leader = Gauge("atoll_leader", "1 while this process holds the Lease", registry=self.registry)
        self.queue_depth = Gauge("atoll_queue_depth", "Keys that wait in the work queue", registry=self.registry)
        self.unreadable = Gauge(
            "atoll_namespace_unreadable",
            "1 while the operator may not read this named namespace",
            ["namespace"],
            registry=self.registry,
        )
        silence = Gauge("atoll_seconds_since_event", "Since the last watch event or re-sync", registry=self.registry)
        silence.set_function(self.seconds_since_event)

    def observe_call(self, method: str, resource: str, status: int, seconds: float) -> None:
        """An `Observer` of `kube.client.Cluster`."""
        self.api_requests.labels(method, resource, str(status)).inc()
        self.api_seconds.labels(method).observe(seconds)

    def on_event(self) -> None:
        """Called for each watch event and re-sync."""
        self._event_at = self._clock()

    def seconds_since_event(self) -> float:
        return self._clock() - self._event_at
