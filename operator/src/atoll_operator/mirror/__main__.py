"""The mirror's process: `python -m atoll_operator.mirror`."""

import logging
import signal
import sys
import threading
import time

from atoll_contract.backoff import Backoff
from atoll_operator.config import ConfigError
from atoll_operator.kube.connection import connect
from atoll_operator.mirror import log
from atoll_operator.mirror.bucket import Bucket
from atoll_operator.mirror.metrics import Metrics
from atoll_operator.mirror.objects import Devices
from atoll_operator.mirror.pages import Pulse, serve_pages
from atoll_operator.mirror.settings import Settings, from_environment
from atoll_operator.mirror.turn import Mirror, Outcome

logger = logging.getLogger("atoll_operator.mirror")

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
    log.configure(settings.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logger.info("mirrors devices of namespace %s from its ObjectStore %s", settings.namespace, settings.store)
    serve(settings, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
