"""What a process of the operator's image answers to the kubelet's probes and to Prometheus."""

import logging
import threading
from collections.abc import Callable, Mapping
from http.server import ThreadingHTTPServer

from prometheus_client import CollectorRegistry, MetricsHandler

logger = logging.getLogger(__name__)

# Returns what is wrong; empty: nothing.
Probe = Callable[[], str]

# Where probes are asked, by the chart's manifests.
ALIVE_PATH, READY_PATH = "/healthz", "/readyz"
REPORT_EVERY_SECONDS = 60.0
_ADVICE = (
    "If the cluster enforces NetworkPolicies, the chart's value networkPolicy.apiServerPorts has to hold the port at"
    " which the server itself listens, which need not be that of its Service:"
    " kubectl get endpointslice kubernetes -n default"
)


class ApiReach:
    """Whether the API server has answered yet. `observe` is called after each call, from any thread.

    Until the first answer the log says once a minute what usually keeps a pod from the server: a refusal by a
    NetworkPolicy looks like a server that is silent.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._reported_at = -REPORT_EVERY_SECONDS
        self._answered = False

    def observe(self, status: int) -> None:
        """`status` is that of the answer; 0: none came."""
        if self._answered:
            return
        self._answered = status != 0
        now = self._clock()
        if not self._answered and now - self._reported_at >= REPORT_EVERY_SECONDS:
            self._reported_at = now
            logger.warning("%s. %s", self.problem(), _ADVICE)

    def problem(self) -> str:
        """A `Probe`."""
        if self._answered:
            return ""
        return f"the API server has answered none of the calls of the first {self._clock() - self._began:.0f} s"


def serve_pages(port: int, probes: Mapping[str, Probe], registry: CollectorRegistry) -> ThreadingHTTPServer:
    """Serves each probe at its path and the metrics at every other, in a thread until `shutdown`; port 0 takes a free
    one. A probe's answer is 200, or 503 with what is wrong."""
    metrics = MetricsHandler.factory(registry)

    class Pages(metrics):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:  # noqa: N802
            probe = probes.get(self.path)
            if probe is None:
                super().do_GET()
                return
            problem = probe()
            text = f"{problem or 'ok'}\n".encode()
            self.send_response(503 if problem else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("", port), Pages)
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server
