"""A proxy in front of the API server that sees every write and may have its sender killed around it.

Plain HTTP on loopback; the client's own token goes through, watches stream. One thread for each connection.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

# Between two bytes of a watch; the server sends a bookmark about once a minute.
READ_SECONDS = 120


class Fate(Enum):
    """What happens to a write."""

    PASS = "pass"
    # It never reaches the API server.
    LOSE_REQUEST = "lose the request"
    # The API server carries it out; nobody learns of it.
    LOSE_ANSWER = "lose the answer"
    # It never reaches the API server; the proxy answers in its place.
    BUSY = "429 TooManyRequests"
    BROKEN = "500 InternalError"
    CONFLICT = "409 Conflict"


@dataclass(frozen=True)
class Write:
    """A request that changes something."""

    method: str
    path: str
    body: bytes


class WatchFate(Enum):
    """What happens to a watch that begins."""

    PASS = "pass"
    # The server's answer to a version that it no longer has, as an event of the stream.
    GONE = "410 as an event"


class ApiProxy:
    """`with ApiProxy(server, ca_file, judge):` serves on `url`. `judge` decides a write's fate; where that is a loss,
    `on_loss` is called before the connection is closed (kill the sender there)."""

    def __init__(
        self, server: str, ca_file: str, *, judge: Callable[[Write], Fate], on_loss: Callable[[], None]
    ) -> None:
        self._target = urlsplit(server)
        self._context = ssl.create_default_context(cafile=ca_file)
        self.judge = judge
        self.on_loss = on_loss
        # While set, streams stay open and nothing comes through them, as behind a firewall that forgot them.
        self.deaf = threading.Event()
        # Seconds that each piece of a watch comes late.
        self.watch_delay_seconds = 0.0
        # What becomes of the next watches; PASS for those after them.
        self.watch_fates: list[WatchFate] = []
        # Of every watch that began: its path.
        self.watches: list[str] = []
        # Seconds that every request takes before it reaches the API server.
        self.delay_seconds = 0.0
        # Changes what the API server is sent, as an admission webhook would.
        self.rewrite: Callable[[Write], bytes] = lambda write: write.body
        # Writes are judged and carried out one after the other, so that a loss has one cause.
        self.one_write = threading.Lock()
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, name="API proxy")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def connect(self) -> http.client.HTTPSConnection:
        host, port = self._target.hostname or "", self._target.port
        return http.client.HTTPSConnection(host, port, timeout=READ_SECONDS, context=self._context)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(30)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: ApiProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    """One request; the connection ends with it."""

    server: _Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (OSError, http.client.HTTPException):  # either side went away in the middle
            self.close_connection = True

    def do_GET(self) -> None:
        proxy, body = self.server.proxy, self._body()
        time.sleep(proxy.delay_seconds)
        if "watch=true" in self.path:
            proxy.watches.append(self.path)
            fate = proxy.watch_fates.pop(0) if proxy.watch_fates else WatchFate.PASS
            if fate is WatchFate.GONE:
                self._send_gone()
                return
        self._forward(body, answer=True)

    def do_POST(self) -> None:
        proxy, body = self.server.proxy, self._body()
        time.sleep(proxy.delay_seconds)
        with proxy.one_write:
            write = Write(self.command, self.path, body)
            fate, body = proxy.judge(write), proxy.rewrite(write)
            if fate in _REFUSALS:
                self._refuse(fate)
                return
            if fate is not Fate.LOSE_REQUEST:
                self._forward(body, answer=fate is Fate.PASS)
            if fate is not Fate.PASS:
                proxy.on_loss()

    def _refuse(self, fate: Fate) -> None:
        code, reason = fate.value.split()
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": int(code), "reason": reason}
        details = {"retryAfterSeconds": 1} if fate is Fate.BUSY else {}
        body = json.dumps(status | {"message": f"injected: {reason}", "details": details}).encode()
        self.send_response(int(code))
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _send_gone(self) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
        event = {"type": "ERROR", "object": status | {"message": "too old resource version (injected)"}}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        # Without spaces, as the API server writes it: the operator tells lines apart by how they begin.
        self.wfile.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def do_PUT(self) -> None:
        self.do_POST()

    def do_PATCH(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Requests are not printed."""

    def _body(self) -> bytes:
        self.close_connection = True
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self, body: bytes, *, answer: bool) -> None:
        connection = self.server.proxy.connect()
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection.request(self.command, self.path, body or None, headers)
            with connection.getresponse() as response:
                if answer:
                    self._answer(response)
                else:
                    response.read()
        finally:
            connection.close()

    def _answer(self, response: http.client.HTTPResponse) -> None:
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while chunk := response.read1(65536):
            if "watch=true" in self.path:
                time.sleep(self.server.proxy.watch_delay_seconds)
                if self.server.proxy.deaf.is_set():
                    continue
            self.wfile.write(chunk)
            self.wfile.flush()


_REFUSALS = frozenset({Fate.BUSY, Fate.BROKEN, Fate.CONFLICT})
# Of one connection only; the length is told by the connection's end.
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "host", "accept-encoding", "keep-alive"})
