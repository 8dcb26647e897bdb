"""Live, ready, started: pure answers from a status. None depends on the store, the robot, DNS or an API server."""

import hmac
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socketserver import TCPServer

from atoll_contract.document import to_json
from atoll_edge.status import ModelState, Status
from atoll_edge.threads import SteadyThread

FRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str


def live(threads_alive: bool, seconds_since_tick: float) -> Verdict:
    """Whether the program works at all; a missing camera or model is no reason to restart it."""
    if not threads_alive:
        return Verdict(False, "a thread of the pipeline ended")
    if seconds_since_tick > 5.0:
        return Verdict(False, f"the supervisor has not ticked for {seconds_since_tick:.0f} s")
    return Verdict(True, "live")


def ready(status: Status) -> Verdict:
    """Whether the robot gets detections of fresh frames."""
    if status.model.state == ModelState.NO_MODEL:
        return Verdict(False, "there is no model")
    for what, seconds in (
        ("frame of the camera", status.camera.seconds_since_frame),
        ("answer of the detector", status.seconds_since_answer),
    ):
        if seconds is None or seconds > FRESH_SECONDS:
            return Verdict(False, f"no {what} for {FRESH_SECONDS:.0f} s")
    return Verdict(True, "ready")


logger = logging.getLogger(__name__)

# A reader that stalls does not hold a thread for ever.
REQUEST_SECONDS = 10
# How often a port that was taken is tried again.
BIND_SECONDS = 2.0


@dataclass(frozen=True)
class Site:
    """What the server shows. `actions` are the page's buttons: a name and what it does; it answers with a sentence."""

    status: Callable[[], Status]
    live: Callable[[], Verdict]
    ready: Callable[[], Verdict]
    started: Callable[[], Verdict]
    metrics: Callable[[], bytes]
    picture: Callable[[], bytes | None]
    actions: dict[str, Callable[[], str]] = field(default_factory=dict)
    token_file: Path | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # How soon it notices that it shall end.
    timeout = 0.2

    def server_bind(self) -> None:
        """Without the base class's question for this machine's full name: on a field no DNS answers it, for minutes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (the base class's)
        """A reader who went away is no news, a fault of ours is."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.error("http: the answer to %s failed: %r", client_address, error)


class StatusServer:
    """Serves a Site from `start` to `close`; port 0 takes a free one. While the port is taken it is tried again and
    again: the robot's detections do not wait for a page."""

    def __init__(self, site: Site, port: int) -> None:
        self._handler = type("Handler", (_Handler,), {"site": site})
        self.port = port
        self._closing = threading.Event()
        self._thread = SteadyThread("http", self._serve, self._closing)
        self._server = self._bound()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(1.0)
        if self._server is not None:
            self._server.server_close()

    def _bound(self) -> _Server | None:
        try:
            server = _Server(("", self.port), self._handler)
        except OSError as error:
            logger.error("no status page on port %d, which is tried again: %s", self.port, error)
            return None
        self.port = server.server_port
        return server

    def _serve(self) -> None:
        if self._server is not None:
            self._server.handle_request()
        elif not self._closing.wait(BIND_SECONDS):
            self._server = self._bound()


class _Handler(BaseHTTPRequestHandler):
    site: Site
    timeout = REQUEST_SECONDS
    server_version = "atoll-edge"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        routes: dict[str, Callable[[], None]] = {
            "/": lambda: self._send(page(), "text/html; charset=utf-8"),
            "/status": lambda: self._send(to_json(self.site.status()), "application/json"),
            "/livez": lambda: self._probe(self.site.live()),
            "/readyz": lambda: self._probe(self.site.ready()),
            "/startupz": lambda: self._probe(self.site.started()),
            "/metrics": lambda: self._send(self.site.metrics(), "text/plain; version=0.0.4; charset=utf-8"),
            "/picture.jpg": self._picture,
        }
        routes.get(path, self._unknown)()

    def do_POST(self) -> None:
        """`/actions/<name>` with `Authorization: Bearer <token>`."""
        action = self.site.actions.get(self.path.removeprefix("/actions/"))
        if action is None:
            self._unknown()
        elif not self._allowed():
            self._send(b"the token is missing or wrong\n", "text/plain", HTTPStatus.FORBIDDEN)
        else:
            self._send(f"{action()}\n".encode(), "text/plain; charset=utf-8")

    def _allowed(self) -> bool:
        if self.site.token_file is None:
            return False
        try:
            expected = self.site.token_file.read_text("utf-8").strip()
        except OSError as error:
            logger.error("the token file cannot be read: %s", error)
            return False
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(expected) and hmac.compare_digest(expected.encode(), given.encode())

    def _picture(self) -> None:
        picture = self.site.picture()
        if picture is None:
            self._send(b"no frame yet\n", "text/plain", HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._send(picture, "image/jpeg")

    def _probe(self, verdict: Verdict) -> None:
        status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(f"{verdict.reason}\n".encode(), "text/plain; charset=utf-8", status)

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
    """The status page; it asks `/status` and `/picture.jpg` by itself."""
    return resources.files("atoll_edge.web").joinpath("page.html").read_bytes()
