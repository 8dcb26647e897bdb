"""The process: a loop of reconciles, its log, and a page with health and metrics."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from atoll_contract.store.retry import Backoff
from atoll_operator.config import ConfigError
from atoll_operator.devices.bucket import Bucket
from atoll_operator.devices.config import DeviceSettings, from_environment
from atoll_operator.devices.metrics import DeviceMetrics
from atoll_operator.devices.objects import Devices
from atoll_operator.devices.reconcile import DeviceReconciler, Outcome
from atoll_operator.health import ALIVE_PATH, READY_PATH, Probe, serve_pages
from atoll_operator.kube.client import connect

logger = logging.getLogger("atoll_operator.devices")

MAX_WAIT_SECONDS = 300.0
# Far above the longest time between two heartbeats: a wait, or the deadline of one call.
HEARTBEAT_TIMEOUT_SECONDS = 600.0
_SEVERITIES = {"WARNING": "warn", "CRITICAL": "fatal"}


def main() -> int:
    try:
        settings = from_environment()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logger.info("mirrors devices of namespace %s from its ObjectStore %s", settings.namespace, settings.store)
    run(settings, stop)
    return 0


def run(settings: DeviceSettings, stop: threading.Event) -> None:
    """Reconciles until `stop` is set."""
    metrics = DeviceMetrics()
    health = Health(clock=time.monotonic, timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS)
    cluster = connect(timeout_seconds=settings.request_timeout, observe=metrics.observe_call)
    devices = Devices(cluster, namespace=settings.namespace, owner=settings.store)
    bucket = Bucket(cluster, settings)
    reconciler = DeviceReconciler(devices, bucket, settings, metrics=metrics, heartbeat=health.heartbeat)
    server = serve_pages(settings.port, health.probes, metrics.registry) if settings.port else None
    backoff = Backoff(first=settings.interval, largest=max(settings.interval, MAX_WAIT_SECONDS))
    failures = 0
    while not stop.is_set():
        health.heartbeat()
        health.ready = reconciler.reconcile() is Outcome.DONE
        health.heartbeat()
        failures = 0 if health.ready else failures + 1
        stop.wait(backoff.delay(failures) if failures else settings.interval)
    if server is not None:
        server.shutdown()


class Health:
    """When the loop last moved, and whether its last reconcile succeeded. Safe for several threads."""

    def __init__(self, *, clock: Callable[[], float], timeout_seconds: float) -> None:
        """After `timeout_seconds` without a heartbeat the loop counts as hung."""
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._last_heartbeat = clock()
        self.ready = False

    def heartbeat(self) -> None:
        self._last_heartbeat = self._clock()

    @property
    def probes(self) -> dict[str, Probe]:
        """By their paths."""
        return {ALIVE_PATH: self._hung, READY_PATH: lambda: "" if self.ready else "the last cycle failed; see the log"}

    def _hung(self) -> str:
        silence = self._clock() - self._last_heartbeat
        return f"no sign of life for {silence:.0f} s" if silence > self._timeout_seconds else ""


def configure_logging(log_format: str) -> None:
    """`json` or `text` lines on standard error."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # These log a line for each request.
    for name in ("botocore", "urllib3", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """JSON lines with message, severity and timestamp, as the operator writes them."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "message": record.getMessage(),
            "severity": _SEVERITIES.get(record.levelname, record.levelname.lower()),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
