"""Who may ask: only the page that this process gave out, in a browser on this machine.

The server listens on 127.0.0.1 alone. Other pages in the same browser can still send requests there: by a name of
their own that they let point to it (DNS rebinding), or by a form. The first has another Host, the second another
Origin, and neither knows the token, which is in the address that was printed and never leaves the page but in a header.
"""

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from atoll_cli.ui.download_links import PREFIX, Linked
from atoll_cli.ui.handlers import Site
from atoll_cli.ui.tasks import Document, answered
from atoll_contract.errors import SpecError

TOKEN_HEADER = "X-Atoll-Token"
LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")


@dataclass(frozen=True)
class Guard:
    """`port` is the one that the server listens on."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        """What the user opens. What stands behind # is sent to no server and in no Referer."""
        return f"http://{LOOPBACK}:{self.port}/#{self.token}"

    def refusal(self, headers: Message, *, needs_token: bool) -> str:
        """Why a request is not answered; empty where it is."""
        host = headers.get("Host", "")
        if host not in {f"{name}:{self.port}" for name in _NAMES}:
            return f"this page is asked for as {host[:80]!r}; open the address that atoll ui printed"
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return f"another page ({origin[:80]}) may not ask here"
        if needs_token and not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return "the token is missing or old; open the address that atoll ui printed"
        return ""


logger = logging.getLogger(__name__)

# A browser that stalls does not hold a thread for ever.
REQUEST_SECONDS = 60
MAX_JSON_BYTES = 512 * 1024

_STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/ui.css": ("ui.css", "text/css; charset=utf-8"),
    "/ui.js": ("ui.js", "text/javascript; charset=utf-8"),
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report shows what stood in somebody's archive: it may show, and do nothing.
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class UiServer:
    """Serves a Site from `start` to `close`; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, site: Site, port: int) -> None:
        handler = type("Handler", (_Handler,), {"site": site})
        self._server = ThreadingHTTPServer((LOOPBACK, port), handler)
        self._server.daemon_threads = True
        self.guard = handler.guard = Guard(self._server.server_address[1])  # type: ignore[attr-defined]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site
    guard: Guard
    timeout = REQUEST_SECONDS
    server_version = "atoll-ui"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        linked = self.site.links.find(path) if path.startswith(PREFIX) else None
        public = path in _STATIC or linked is not None
        if refusal := self.guard.refusal(self.headers, needs_token=not public):
            self._json(HTTPStatus.FORBIDDEN, {"error": refusal})
        elif path in _STATIC:
            name, kind = _STATIC[path]
            self._send(resources.files("atoll_cli.ui").joinpath("static", name).read_bytes(), kind, _PAGE_POLICY)
        elif linked is not None:
            self._file(linked)
        else:
            self._answer(self._asked_for(path))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        if refusal := self.guard.refusal(self.headers, needs_token=True):
            self._json(HTTPStatus.FORBIDDEN, {"error": refusal})
        elif path == "/api/archives":
            self._upload()
        else:
            self._answer(self._told_to(path))

    def _asked_for(self, path: str) -> Callable[[], Document] | None:
        site, query = self.site, self._query()
        match path.strip("/").split("/"):
            case ["api", "state"]:
                return site.state
            case ["api", "runs", name]:
                return lambda: site.run(unquote(name))
            case ["api", "errands", number]:
                return lambda: site.errand(number)
            case ["api", "comparison"]:
                return lambda: site.comparison(query.get("old", ""), query.get("new", ""))
        return None

    def _told_to(self, path: str) -> Callable[[], Document] | None:
        site = self.site
        match path.strip("/").split("/"):
            case ["api", "drafts"]:
                return lambda: site.draft(self._body())
            case ["api", "checks"]:
                return lambda: site.check(self._body())
            case ["api", "comparisons"]:
                return lambda: site.compare(self._body())
            case ["api", "runs"]:
                return lambda: site.start(self._body())
            case ["api", "runs", name, "report"]:
                return lambda: site.report(unquote(name))
            case ["api", "runs", name, action]:
                return lambda: site.act(unquote(name), action)
            case ["api", "releases", name, "bundle"]:
                return lambda: site.bundle(unquote(name))
        return None

    def _upload(self) -> None:
        length = self._length()
        if length is None:
            self._json(HTTPStatus.LENGTH_REQUIRED, {"error": "the browser does not say how large the file is"})
            return
        status, document = answered(lambda: self.site.upload(self._query().get("name", ""), self.rfile, length))
        # What was not read of a refused upload is not the next request.
        self.close_connection = True
        self._json(status, document)

    def _answer(self, work: Callable[[], Document] | None) -> None:
        if work is None:
            self._json(HTTPStatus.NOT_FOUND, {"error": "there is nothing under this address"})
        else:
            self._json(*answered(work))

    def _body(self) -> Mapping[str, Any]:
        length = self._length() or 0
        if length > MAX_JSON_BYTES:
            raise SpecError(f"the text has {length} bytes; at most {MAX_JSON_BYTES} are taken")
        try:
            document = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise SpecError("the request is no JSON object")
        return document

    def _length(self) -> int | None:
        given = self.headers.get("Content-Length", "")
        return int(given) if given.isascii() and given.isdigit() else None

    def _query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def _file(self, linked: Linked) -> None:
        status, document = answered(lambda: {"data": linked.read()})
        if status is not HTTPStatus.OK:
            self._json(status, document)
            return
        extra = {} if linked.sandboxed else {"Content-Disposition": f'attachment; filename="{linked.name}"'}
        self._send(document["data"], linked.kind, _FILE_POLICY, extra=extra)

    def _json(self, status: HTTPStatus, document: Document) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        self._send(body, "application/json; charset=utf-8", "default-src 'none'", status=status)

    def _send(
        self,
        body: bytes,
        kind: str,
        policy: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": policy,
        }
        for name, value in (headers | dict(extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        logger.debug("http %s", format % args)
