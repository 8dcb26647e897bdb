"""An API server whose answers a test writes, for those that need a kubelet, such as pods' logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from support.kubeconfig import kubeconfig

Answer = tuple[int, Any]
# Given the query; a str goes out as it is, anything else as JSON.
Answerer = Callable[[Mapping[str, str]], Answer]


def _missing(query: Mapping[str, str]) -> Answer:
    return 404, {"reason": "NotFound", "message": "not found"}


class ScriptedApi:
    """`with ScriptedApi() as api:` serves `answers` by path; what is missing is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Answerer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="scripted-api")

    def write_kubeconfig(self, path: Path, *, namespace: str = "team") -> Path:
        server = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        path.write_text(kubeconfig(server, token="no-secret", namespace=namespace), encoding="utf-8")
        return path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                api.requests.append((parts.path, query))
                answer = api.answers.get(parts.path, _missing)
                status, body = answer(query)
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """The test prints what matters."""

        return Handler
