"""The mirror's HTTP page: /healthz, /readyz and /metrics on one port."""

import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, MetricsHandler


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
