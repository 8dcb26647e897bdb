"""Log lines as the operator writes them: JSON with message, severity and timestamp."""

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, MetricsHandler

from atoll_contract.store.retry import Backoff
from atoll_operator.config import ConfigError
from atoll_operator.devices.channels import Bucket
from atoll_operator.devices.config import Settings, from_environment
from atoll_operator.devices.metrics import Metrics
from atoll_operator.devices.objects import Devices
from atoll_operator.devices.reconcile import Mirror, Outcome
from atoll_operator.kube.client import connect

_SEVERITIES = {"WARNING": "warn", "CRITICAL": "fatal"}


class JsonFormatter(logging.Formatter):
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


def configure(log_format: str) -> None:
    """`json` or `text` lines on standard error."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Each line of theirs is a request.
    for name in ("botocore", "urllib3", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Pulse:
    """When the loop last moved, and whether its last turn succeeded. Safe for several threads."""

    def __init__(self, *, clock: Callable[[], float], patience: float) -> None:
        """`patience`: seconds without a beat after which the loop counts as hung."""
        self._clock = clock
        self._patience = patience
        self._beat_at = clock()
        self.ready = False

    def beat(self) -> None:
        self._beat_at = self._clock()

    @property
    def alive(self) -> bool:
        return self._clock() - self._beat_at <= self._patience


def serve_pages(port: int, pulse: Pulse, registry: CollectorRegistry) -> ThreadingHTTPServer:
    """A server that runs until its `shutdown`; port 0 takes a free one."""
    metrics = MetricsHandler.factory(registry)

    class Pages(metrics):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:  # noqa: N802
            answers = {"/healthz": pulse.alive, "/readyz": pulse.ready}
            if self.path not in answers:
                super().do_GET()
                return
            good = answers[self.path]
            text = b"ok\n" if good else b"not ok\n"
            self.send_response(200 if good else 503)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("", port), Pages)
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


logger = logging.getLogger("atoll_operator.devices")

LONGEST_WAIT_SECONDS = 300.0
# Far above the longest time between two beats: a wait, or one call's own deadline.
PATIENCE_SECONDS = 600.0


def serve(settings: Settings, stop: threading.Event) -> None:
    """Takes turns until `stop` is set."""
    metrics = Metrics()
    pulse = Pulse(clock=time.monotonic, patience=PATIENCE_SECONDS)
    cluster = connect(timeout_seconds=settings.request_timeout, observe=metrics.observe_call)
    devices = Devices(cluster, namespace=settings.namespace, owner=settings.store)
    mirror = Mirror(devices, Bucket(cluster, settings), settings, metrics=metrics, alive=pulse.beat)
    pages = serve_pages(settings.port, pulse, metrics.registry) if settings.port else None
    backoff = Backoff(first=settings.interval, largest=max(settings.interval, LONGEST_WAIT_SECONDS))
    failures = 0
    while not stop.is_set():
        pulse.beat()
        pulse.ready = mirror.turn() is Outcome.DONE
        pulse.beat()
        failures = 0 if pulse.ready else failures + 1
        stop.wait(backoff.delay(failures) if failures else settings.interval)
    if pages is not None:
        pages.shutdown()


def main() -> int:
    try:
        settings = from_environment()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    configure(settings.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logger.info("mirrors devices of namespace %s from its ObjectStore %s", settings.namespace, settings.store)
    serve(settings, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
