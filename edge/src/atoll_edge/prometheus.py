"""The agent's Prometheus metrics: counters, and gauges that are set from the status at each scrape."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from atoll_edge.detector.model import DetectionResult
from atoll_edge.status import HarvestStatus, Status

BUCKETS = (0.002, 0.004, 0.008, 0.012, 0.016, 0.024, 0.032, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0)


class Metrics:
    """The metrics of one agent, in their own registry."""

    def __init__(self) -> None:
        # The time at which each series began would only double the length of the page.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        prefix = "atoll_edge"
        self.inference = Histogram(
            f"{prefix}_inference_seconds", "Time of one inference", ["backend"], buckets=BUCKETS, registry=self.registry
        )
        self.detections = Counter(
            f"{prefix}_detections", "Detections by the model, before thresholds", ["label"], registry=self.registry
        )
        self.swaps = Counter(f"{prefix}_model_swap", "Model changes by result", ["result"], registry=self.registry)
        self.sync = Counter(f"{prefix}_sync", "Looks into the store by result", ["result"], registry=self.registry)
        self._backend = Gauge(f"{prefix}_backend_info", "What runs the model", ["backend"], registry=self.registry)
        self._model = Gauge(
            f"{prefix}_model_info", "The model", ["name", "digest", "sequence", "state"], registry=self.registry
        )
        names = {
            "fps": "Detections published per second",
            "frames": "Frames from the camera",
            "frames_dropped": "Frames that a newer one replaced",
            "detector_restarts": "Times that the detector was lost",
            "e2e_latency_seconds": "Capture to published, median",
            "nt_connected": "Whether the robot is connected",
            "camera_connected": "Whether the camera answers",
            "sync_age_seconds": "Seconds since the store last answered",
            "longest_gap_seconds": "Longest time between two answers",
            "soc_temperature_celsius": "Temperature of the processor",
            "harvest_waiting": "Doubtful frames on the card",
            "harvest_waiting_bytes": "Bytes of the doubtful frames on the card",
            "harvest_kept": "Doubtful frames kept since the start",
            "harvest_uploaded": "Doubtful frames uploaded since the start",
            "harvest_evicted": "Doubtful frames dropped for newer ones or for room",
            "harvest_failed": "Doubtful frames that could not be kept",
        }
        self._gauges = {name: Gauge(f"{prefix}_{name}", text, registry=self.registry) for name, text in names.items()}

    def observe(self, result: DetectionResult) -> None:
        """Counts one result of the detector."""
        self.inference.labels(result.backend).observe(result.seconds)
        for found in result.detections:
            if 0 <= found.class_id < len(result.model.labels):
                self.detections.labels(result.model.labels[found.class_id]).inc()

    def exposition(self, status: Status) -> bytes:
        """Returns the metrics in Prometheus' text format, with the gauges set from `status`."""
        values: dict[str, float | None] = {
            "fps": status.fps,
            "frames": status.camera.frames,
            "frames_dropped": status.camera.dropped,
            "detector_restarts": status.detector.losses,
            "e2e_latency_seconds": _seconds(status.latency_millis.p50),
            "nt_connected": status.network_tables.connected,
            "camera_connected": status.camera.connected,
            "sync_age_seconds": status.sync.seconds_since_success,
            "longest_gap_seconds": status.longest_gap_millis / 1000,
            "soc_temperature_celsius": soc_temperature(),
            **_harvest(status.harvest),
        }
        for name, value in values.items():
            self._gauges[name].set(float("nan") if value is None else float(value))
        self._backend.clear()
        self._model.clear()
        if status.detector.backend is not None:
            self._backend.labels(status.detector.backend).set(1)
        model = status.model
        self._model.labels(model.name or "", model.digest or "", str(model.sequence or 0), model.state).set(1)
        return generate_latest(self.registry)


def soc_temperature() -> float | None:
    """Returns the temperature of the first thermal zone in °C; None where the machine has none."""
    try:
        with open("/sys/class/thermal/thermal_zone0/temp", encoding="ascii") as file:  # noqa: PTH123 (a kernel file)
            return int(file.read()) / 1000
    except (OSError, ValueError):
        return None


def _harvest(status: HarvestStatus | None) -> dict[str, float | None]:
    names = ("waiting", "waiting_bytes", "kept", "uploaded", "evicted", "failed")
    return {f"harvest_{name}": getattr(status, name, None) for name in names}


def _seconds(millis: float | None) -> float | None:
    return None if millis is None else millis / 1000
