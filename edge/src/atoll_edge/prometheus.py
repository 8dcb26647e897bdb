"""The agent's Prometheus metrics: counters, and gauges that are set from the status at each scrape."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from atoll_edge.detector.model import DetectionResult
from atoll_edge.status import CameraStatus, HarvestStatus, Status

BUCKETS = (0.002, 0.004, 0.008, 0.012, 0.016, 0.024, 0.032, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0)


class _Totals(Collector):
    """Counts that the agent's parts keep since its start, as counters of the status at a scrape."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.status: Status | None = None

    def collect(self) -> Iterator[Metric]:
        for name, (text, count) in _COUNTS.items():
            value = None if self.status is None else count(self.status)
            if value is not None:
                yield CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)
        for name, (text, of_camera) in _CAMERA_COUNTS.items():
            family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=["camera"])
            for camera in self.status.cameras if self.status is not None else ():
                family.add_metric([camera.name], of_camera(camera))
            yield family

    def describe(self) -> Iterator[Metric]:
        for name, (text, _) in _COUNTS.items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", text)
        for name, (text, _) in _CAMERA_COUNTS.items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", text, labels=["camera"])


def _of_harvest(count: Callable[[HarvestStatus], int]) -> Callable[[Status], int | None]:
    return lambda status: None if status.harvest is None else count(status.harvest)


_COUNTS: Mapping[str, tuple[str, Callable[[Status], int | None]]] = MappingProxyType(
    {
        "detector_restarts": ("Times that the detector was lost", lambda status: status.detector.losses),
        "harvest_kept": ("Doubtful frames kept", _of_harvest(lambda harvest: harvest.kept)),
        "harvest_uploaded": ("Doubtful frames uploaded", _of_harvest(lambda harvest: harvest.uploaded)),
        "harvest_evicted": ("Doubtful frames dropped for newer ones", _of_harvest(lambda harvest: harvest.evicted)),
        "harvest_failed": ("Doubtful frames that could not be kept", _of_harvest(lambda harvest: harvest.failed)),
    }
)

_CAMERA_COUNTS: Mapping[str, tuple[str, Callable[[CameraStatus], int]]] = MappingProxyType(
    {
        "frames": ("Frames from the camera", lambda camera: camera.frames),
        "frames_dropped": ("Frames that a newer one replaced", lambda camera: camera.dropped),
    }
)


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
        self._latency = Histogram(
            f"{prefix}_capture_to_publish_seconds",
            "Time from a frame's capture to its detections' publication",
            ["camera"],
            buckets=BUCKETS,
            registry=self.registry,
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
            "nt_connected": "Whether the robot is connected",
            "sync_age_seconds": "Seconds since the store last answered",
            "soc_temperature_celsius": "Temperature of the processor",
            "harvest_waiting": "Doubtful frames on the card",
            "harvest_waiting_bytes": "Bytes of the doubtful frames on the card",
        }
        self._gauges = {name: Gauge(f"{prefix}_{name}", text, registry=self.registry) for name, text in names.items()}
        of_cameras = {
            "fps": "Detections published per second",
            "e2e_latency_seconds": "Capture to published, median",
            "camera_connected": "Whether the camera answers",
            "longest_gap_seconds": "Longest time between two answers",
        }
        self._camera_gauges = {
            name: Gauge(f"{prefix}_{name}", text, ["camera"], registry=self.registry)
            for name, text in of_cameras.items()
        }
        self._totals = _Totals(prefix)
        self.registry.register(self._totals)

    def observe(self, result: DetectionResult) -> None:
        """Counts one result of the detector."""
        self.inference.labels(result.backend).observe(result.seconds)
        for found in result.detections:
            if 0 <= found.class_id < len(result.model.labels):
                self.detections.labels(result.model.labels[found.class_id]).inc()

    def observe_latency(self, camera: str, seconds: float) -> None:
        """Counts the time from a frame's capture to the publication of its detections."""
        self._latency.labels(camera).observe(seconds)

    def exposition(self, status: Status) -> bytes:
        """Returns the metrics in Prometheus' text format, with the gauges set from `status`."""
        values: dict[str, float | None] = {
            "nt_connected": status.network_tables.connected,
            "sync_age_seconds": status.sync.seconds_since_success,
            "soc_temperature_celsius": soc_temperature(),
            "harvest_waiting": status.harvest.waiting if status.harvest else None,
            "harvest_waiting_bytes": status.harvest.waiting_bytes if status.harvest else None,
        }
        self._totals.status = status
        for name, value in values.items():
            self._gauges[name].set(_number(value))
        for camera in status.cameras:
            self._set_camera(camera)
        self._backend.clear()
        self._model.clear()
        if status.detector.backend is not None:
            self._backend.labels(status.detector.backend).set(1)
        model = status.model
        self._model.labels(model.name or "", model.digest or "", str(model.sequence or 0), model.state).set(1)
        return generate_latest(self.registry)

    def _set_camera(self, camera: CameraStatus) -> None:
        values: dict[str, float | None] = {
            "fps": camera.fps,
            "e2e_latency_seconds": _seconds(camera.latency_millis.p50 if camera.latency_millis else None),
            "camera_connected": camera.connected,
            "longest_gap_seconds": camera.longest_gap_millis / 1000,
        }
        for name, value in values.items():
            self._camera_gauges[name].labels(camera.name).set(_number(value))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def soc_temperature() -> float | None:
    """Returns the temperature of the first thermal zone in °C; None where the machine has none."""
    try:
        with open("/sys/class/thermal/thermal_zone0/temp", encoding="ascii") as file:  # noqa: PTH123 (a kernel file)
            return int(file.read()) / 1000
    except (OSError, ValueError):
        return None


def _seconds(millis: float | None) -> float | None:
    return None if millis is None else millis / 1000
