"""An HTTP proxy in front of a real S3 server that does to chosen requests what networks and servers do.

`with FaultProxy(server.endpoint) as proxy:` gives `proxy.endpoint`; `proxy.on(fault, method=…, …)` adds a rule. Every
request is written down in `proxy.requests`. Nothing of the client's is replaced: requests are signed and answered.
"""

import http.client
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

HOP_BY_HOP = frozenset({"connection", "expect", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True)
class Request:
    """A request as it came in; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Response:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


Forward = Callable[[Request], Response]


class Drop(Exception):
    """The connection is to end here, as by a reset."""


# A fault answers a request, with or without asking the server.
Fault = Callable[[Request, Forward], Response]


def answer(status: int, code: str, message: str = "injected", **extra: str) -> Fault:
    """An S3 error, without asking the server."""
    more = "".join(f"<{name}>{value}</{name}>" for name, value in extra.items())
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()

    def fault(request: Request, forward: Forward) -> Response:
        return Response(status, (("Content-Type", "application/xml"),), b"" if request.method == "HEAD" else body)

    return fault


def reset(request: Request, forward: Forward) -> Response:
    """The connection breaks before the server sees the request."""
    raise Drop


def lose_response(request: Request, forward: Forward) -> Response:
    """The server does what it is asked, and nobody hears of it."""
    forward(request)
    raise Drop


def flip_response(request: Request, forward: Forward) -> Response:
    response = forward(request)
    return Response(response.status, response.headers, _flipped(response.body))


def flip_request(request: Request, forward: Forward) -> Response:
    return forward(Request(request.method, request.path, request.query, request.headers, _flipped(request.body)))


def careless_put(client: Any, bucket: str) -> Fault:
    """As a server that takes conditional writes for plain ones. Conditions are signed, so that no proxy can take them
    out: the write is made anew with `client`, which speaks to the server itself."""

    def fault(request: Request, forward: Forward) -> Response:
        key = unquote(urlsplit(request.path).path).removeprefix(f"/{bucket}/")
        mark = "x-amz-meta-"
        metadata = {name.removeprefix(mark): v for name, v in request.headers.items() if name.startswith(mark)}
        done = client.put_object(Bucket=bucket, Key=key, Body=request.body, Metadata=metadata)
        return Response(200, (("ETag", done["ETag"]),), b"")

    return fault


def truncate(after: int) -> Fault:
    """Only the first bytes of the answer's body arrive."""

    def fault(request: Request, forward: Forward) -> Response:
        response = forward(request)
        return Response(response.status, (*response.headers, ("X-Truncate", str(after))), response.body)

    return fault


class OldListings:
    """Listings of the bucket as it was when nothing lay in it."""

    def __call__(self, request: Request, forward: Forward) -> Response:
        response = forward(request)
        assert response.status == 200
        body = re.sub(rb"<(Contents|CommonPrefixes)>.*?</\1>", b"", response.body, flags=re.DOTALL)
        body = re.sub(rb"<KeyCount>\d+</KeyCount>", b"<KeyCount>0</KeyCount>", body)
        return Response(200, response.headers, body)


class Hang:
    """Never answers; `reached` is set when somebody waits, `release` lets go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()

    def __call__(self, request: Request, forward: Forward) -> Response:
        self.reached.set()
        self.release.wait(120)
        raise Drop


@dataclass
class _Rule:
    fault: Fault
    matches: Callable[[Request], bool]
    skip: int
    left: int | None
    hits: int = 0

    def takes(self, request: Request) -> bool:
        if self.left == 0 or not self.matches(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        self.hits += 1
        return True


class FaultProxy:
    """A proxy on a free port of the loopback address. With `certificate` (a PEM file of both halves) it speaks TLS."""

    def __init__(self, upstream: str, *, certificate: Path | None = None) -> None:
        self._upstream = urlsplit(upstream)
        self._scheme = "https" if certificate else "http"
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self._server = _Server(self)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def on(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        where: Callable[[Request], bool] = lambda _: True,
        times: int | None = None,
        skip: int = 0,
    ) -> _Rule:
        """Do `fault` to matching requests: to all of them or `times`, after letting `skip` pass."""
        rule = _Rule(fault, lambda r: (method is None or r.method == method) and where(r), skip, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._rules.clear()

    def count(self, method: str | None = None) -> int:
        return sum(method is None or request.method == method for request in self.requests)

    def respond(self, request: Request) -> Response:
        with self._lock:
            self.requests.append(request)
            fault = next((rule.fault for rule in self._rules if rule.takes(request)), None)
        return fault(request, self.forward) if fault else self.forward(request)

    def forward(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port or 80, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            got = connection.getresponse()
            headers = tuple((k, v) for k, v in got.getheaders() if k.lower() not in HOP_BY_HOP)
            return Response(got.status, headers, got.read())
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def part_number(request: Request) -> int:
    """The number of the part that a request uploads; 0 for any other request."""
    return int(request.query.get("partNumber", ["0"])[0]) if request.method == "PUT" else 0


def _flipped(body: bytes) -> bytes:
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


class _Server(ThreadingHTTPServer):
    """Knows its proxy."""

    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _any(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(parts.query, keep_blank_values=True)
        try:
            response = self.server.proxy.respond(Request(self.command, self.path, query, headers, body))
        except (Drop, OSError):
            self._break()
            return
        self._send(response)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

    def _send(self, response: Response) -> None:
        given = {name.lower(): value for name, value in response.headers}
        body = b"" if self.command == "HEAD" else response.body
        arriving = body[: int(given.get("x-truncate", len(body)))]
        self.send_response_only(response.status)
        for name, value in response.headers:
            if name.lower() not in ("content-length", "x-truncate"):
                self.send_header(name, value)
        if response.status not in (204, 304):
            length = given.get("content-length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(arriving)
        self.close_connection = self.close_connection or len(arriving) < len(body)

    def _break(self) -> None:
        """End the connection with a reset instead of a farewell."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):  # broken on purpose
            return

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client broke it off
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The requests are written down in `requests`."""
