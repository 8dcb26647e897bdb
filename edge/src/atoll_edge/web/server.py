"""The status server: the page, `/status`, the probes, the metrics, the newest frame, and the page's buttons."""

import hmac
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs

from atoll_contract.document import to_json
from atoll_edge.status import HealthCheck, Status
from atoll_edge.threads import RepeatingThread
from atoll_edge.web.bounded import BoundedServer, ConnectionLimits

logger = logging.getLogger(__name__)

# A request has to be whole, and its answer taken, within this time.
REQUEST_SECONDS = 10.0
# Each connection costs a thread and a file, which the detector and the robot's network need, too. One client must not
# keep others out, such as the kubelet's probes.
MAX_CONNECTIONS = 32
MAX_CONNECTIONS_OF_A_CLIENT = 8
# Interval between two attempts to bind a port that is taken.
BIND_SECONDS = 2.0


@dataclass(frozen=True)
class Handlers:
    """The functions behind the paths. `actions` are the page's buttons by name; each returns a sentence."""

    status: Callable[[], Status]
    live: Callable[[], HealthCheck]
    ready: Callable[[], HealthCheck]
    started: Callable[[], HealthCheck]
    metrics: Callable[[], bytes]
    # Of the camera of that name; of the first without one.
    image: Callable[[str | None], bytes | None]
    actions: dict[str, Callable[[], str]] = field(default_factory=dict)
    token_file: Path | None = None


class StatusServer:
    """Serves from `start` to `close`; port 0 takes a free one. A port that is taken is retried until it is free;
    detection does not wait for it."""

    def __init__(self, handlers: Handlers, port: int, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._limits = ConnectionLimits(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_A_CLIENT, request_seconds)
        self._handler = type("Handler", (_Handler,), {"handlers": handlers, "timeout": request_seconds})
        self.port = port
        self._closing = threading.Event()
        self._thread = RepeatingThread("http", self._serve, self._closing)
        self._server = self._bound()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(1.0)
        if self._server is not None:
            self._server.server_close()

    def _bound(self) -> BoundedServer | None:
        try:
            server = BoundedServer(self.port, self._handler, self._limits)
        except OSError as error:
            logger.error("no status page on port %d, which is tried again: %s", self.port, error)
            return None
        self.port = server.server_port
        return server

    def _serve(self) -> None:
        if self._server is not None:
            self._server.handle_request()
            self._server.end_overdue()
        elif not self._closing.wait(BIND_SECONDS):
            self._server = self._bound()


class _Handler(BaseHTTPRequestHandler):
    handlers: Handlers
    server_version = "atoll-edge"
    sys_version = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        routes: dict[str, Callable[[], None]] = {
            "/": lambda: self._send(page(), "text/html; charset=utf-8"),
            "/status": lambda: self._send(to_json(self.handlers.status()), "application/json"),
            "/livez": lambda: self._probe(self.handlers.live()),
            "/readyz": lambda: self._probe(self.handlers.ready()),
            "/startupz": lambda: self._probe(self.handlers.started()),
            "/metrics": lambda: self._send(self.handlers.metrics(), "text/plain; version=0.0.4; charset=utf-8"),
            "/picture.jpg": lambda: self._image(parse_qs(query, max_num_fields=8).get("camera", [None])[0]),
        }
        routes.get(path, self._unknown)()

    def do_POST(self) -> None:
        """`/actions/<name>` with `Authorization: Bearer <token>`."""
        action = self.handlers.actions.get(self.path.removeprefix("/actions/"))
        if action is None:
            self._unknown()
        elif not self._allowed():
            self._send(b"the token is missing or wrong\n", "text/plain", HTTPStatus.FORBIDDEN)
        else:
            self._send(f"{action()}\n".encode(), "text/plain; charset=utf-8")

    def _allowed(self) -> bool:
        if self.handlers.token_file is None:
            return False
        try:
            expected = self.handlers.token_file.read_text("utf-8").strip()
        except OSError as error:
            logger.error("the token file cannot be read: %s", error)
            return False
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(expected) and hmac.compare_digest(expected.encode(), given.encode())

    def _image(self, camera: str | None) -> None:
        image = self.handlers.image(camera)
        if image is None:
            self._send(b"no frame yet\n", "text/plain", HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._send(image, "image/jpeg")

    def _probe(self, check: HealthCheck) -> None:
        status = HTTPStatus.OK if check.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(f"{check.reason}\n".encode(), "text/plain; charset=utf-8", status)

    def _unknown(self) -> None:
        self._send(b"not found\n", "text/plain", HTTPStatus.NOT_FOUND)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'self'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'",
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        logger.debug("http %s", format % args)


def page() -> bytes:
    """Returns the status page, which loads `/status` and `/picture.jpg` itself."""
    return resources.files("atoll_edge.web").joinpath("page.html").read_bytes()
