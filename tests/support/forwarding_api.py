"""An API server that forwards ports of pods, which a real one without a kubelet cannot.

Objects are what the test writes; `ports` leads from a pod and its port to a server of the test's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.certificates import Certificate
from support.kubeconfig import kubeconfig

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = b"\0", b"\1"
BINARY, CLOSE = 2, 8
POLL_SECONDS = 0.1
# Of RFC 6455.
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ForwardingApi:
    """`with ForwardingApi() as api:` answers `objects` by path, and port-forwards by `ports`."""

    def __init__(self, *, certificate: Certificate | None = None, token: str = "no-secret") -> None:
        self.objects: dict[str, Any] = {}
        self.ports: dict[tuple[str, int], int] = {}
        # By path: status and message of a refusal.
        self.refusals: dict[str, tuple[int, str]] = {}
        self.token = token
        self.ended = threading.Event()
        self._certificate = certificate
        self._server = _Server(self)
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate.both)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,))

    def write_kubeconfig(self, path: Path, *, namespace: str = "team") -> Path:
        server: dict[str, Any] = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        if self._certificate:
            authority = str(self._certificate.public)
            server = {"server": f"https://127.0.0.1:{self._server.server_port}", "certificate-authority": authority}
        path.write_text(kubeconfig(server, token=self.token, namespace=namespace), encoding="utf-8")
        return path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: ForwardingApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Nothing of a connection may lie in a buffer that `select` does not see.
    rbufsize = 0

    def do_GET(self) -> None:
        api, path = self.server.api, urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {api.token}":
            self._say(401, {"message": "Unauthorized"})
        elif path in api.refusals:
            code, message = api.refusals[path]
            self._say(code, {"kind": "Status", "message": message})
        elif path.endswith("/portforward"):
            self._forward(path)
        elif path in api.objects:
            self._say(200, api.objects[path])
        else:
            self._say(404, {"kind": "Status", "message": "not found"})

    def log_message(self, *_: object) -> None:
        """The test prints what matters."""

    def _say(self, code: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _forward(self, path: str) -> None:
        self.close_connection = True
        assert PROTOCOL in self.headers["Sec-WebSocket-Protocol"]
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + _GUID).encode()).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.send_header("Sec-WebSocket-Protocol", PROTOCOL)
        self.end_headers()
        pod, (port,) = path.split("/")[-2], map(int, parse_qs(urlsplit(self.path).query)["ports"])
        try:
            for channel in (DATA, ERROR):
                self._write(channel + port.to_bytes(2, "little"))
            self._carry(pod, port)
            self._write(b"", CLOSE)
        except OSError:
            pass  # the client went away

    def _carry(self, pod: str, port: int) -> None:
        try:
            there = socket.create_connection(("127.0.0.1", self.server.api.ports.get((pod, port), 1)), timeout=20)
        except ConnectionRefusedError:
            self._write(ERROR + f"error forwarding port {port} to pod {pod}: connection refused".encode())
            return
        with there:
            while not self.server.api.ended.is_set():
                pending = isinstance(self.connection, ssl.SSLSocket) and self.connection.pending()
                ready = select.select([self.connection, there], [], [], 0 if pending else POLL_SECONDS)[0]
                if pending or self.connection in ready:
                    message = self._read()
                    if message is None:
                        return
                    assert message[:1] == DATA
                    there.sendall(message[1:])
                if there in ready:
                    block = there.recv(32768)
                    if not block:
                        return
                    self._write(DATA + block)

    def _write(self, payload: bytes, kind: int = BINARY) -> None:
        size = len(payload)
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        self.connection.sendall(bytes([0x80 | kind]) + length + payload)

    def _read(self) -> bytes | None:
        """A client's message; None for its last. The client is known to send each in one frame."""
        head = self._exactly(2)
        if head[0] & 0x0F == CLOSE:
            return None
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        mask = self._exactly(4)
        masked, key = self._exactly(size), mask * (size // 4) + mask[: size % 4]
        return (int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            block = self.connection.recv(count - len(found))
            if not block:
                raise ConnectionResetError
            found += block
        return found
