"""An HTTP server that a client on the robot's network cannot exhaust: connections, time and threads are bounded."""

import contextlib
import logging
import socket
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections there may be, of all clients and of one; `request_seconds` is the time in which a request
    has to be whole and its answer taken."""

    connections: int
    of_a_client: int
    request_seconds: float


class BoundedServer(ThreadingHTTPServer):
    """Serves one request at a call of `handle_request`, each in a thread of its own."""

    daemon_threads = True
    # How soon the server notices that it is to end.
    timeout = 0.2

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], limits: ConnectionLimits) -> None:
        self._limits = limits
        self.request_queue_size = limits.connections
        # Client address and end of time of each open connection.
        self._open: dict[socket.socket, tuple[str, float]] = {}
        self._lock = threading.Lock()
        super().__init__(("", port), handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Takes a connection unless there are too many, in all or of this client; the others are closed at once."""
        client = str(client_address[0])
        with self._lock:
            of_client = sum(1 for address, _ in self._open.values() if address == client)
            if len(self._open) >= self._limits.connections or of_client >= self._limits.of_a_client:
                return False
            self._open[request] = (client, time.monotonic() + self._limits.request_seconds)
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def keep_open(self, request: socket.socket) -> None:
        """Lets the answer to `request` take any time, as that of a stream does."""
        with self._lock:
            if request in self._open:
                self._open[request] = (self._open[request][0], float("inf"))

    def end_overdue(self) -> None:
        """Ends connections whose time is over: a client that sends a byte now and then stalls no single read."""
        self._end(time.monotonic())

    def end_all(self) -> None:
        """Ends every connection."""
        self._end(float("inf"))

    def _end(self, now: float) -> None:
        with self._lock:
            overdue = [request for request, (_, ends_at) in self._open.items() if now >= ends_at]
        for request in overdue:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Omits the base class's lookup of the machine's full name, which takes minutes on a field without DNS."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (the base class's)
        """Logs errors, but not that a client disconnected."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.error("http: the answer to %s failed: %r", client_address, error)
