"""The HTTP server of the page. It answers only the page that this process served, in a browser on this machine.

It listens on 127.0.0.1 alone. Other pages in the same browser can still send requests there: under a name of their own
that resolves to this address (DNS rebinding), or by a form. The former have another Host, the latter another Origin,
and neither know the token, which is in the printed address and leaves the page only in a header.
"""

import hmac
import json
import logging
import re
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

from atoll_cli.ui.handlers import Handlers
from atoll_cli.ui.links import DOWNLOAD_PREFIX, LinkedFile
from atoll_cli.ui.tasks import JsonObject, respond
from atoll_cli.ui.trials import MAX_IMAGE_BYTES
from atoll_contract.errors import SpecError

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-Atoll-Token"
LOOPBACK = "127.0.0.1"
# A browser that stalls must not hold a thread for ever.
REQUEST_SECONDS = 60
MAX_JSON_BYTES = 512 * 1024
_HOST_NAMES = (LOOPBACK, "localhost")
_SCRIPT = "text/javascript; charset=utf-8"
_STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/ui.css": ("ui.css", "text/css; charset=utf-8"),
    "/ui.js": ("ui.js", _SCRIPT),
    "/base.js": ("base.js", _SCRIPT),
    "/editor.js": ("editor.js", _SCRIPT),
    "/gallery.js": ("gallery.js", _SCRIPT),
    "/pictures.js": ("pictures.js", _SCRIPT),
    "/releases.js": ("releases.js", _SCRIPT),
    "/training.js": ("training.js", _SCRIPT),
    "/trial.js": ("trial.js", _SCRIPT),
}
_TRIAL = re.compile(r"/api/releases/([^/]+)/trial")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report contains text from somebody's archive: the browser may show it, but run and load nothing.
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Guard:
    """Refuses foreign requests. `port` is the one that the server listens on."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def address(self) -> str:
        """The address for the user. Browsers send the part after # to no server and in no Referer."""
        return f"http://{LOOPBACK}:{self.port}/#{self.token}"

    def refusal(self, headers: Message, *, needs_token: bool) -> str:
        """Why a request is refused; empty if it is not."""
        host = headers.get("Host", "")
        if host not in {f"{name}:{self.port}" for name in _HOST_NAMES}:
            return f"this page is asked for as {host[:80]!r}; open the address that atoll ui printed"
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return f"another page ({origin[:80]}) may not ask here"
        if needs_token and not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return "the token is missing or old; open the address that atoll ui printed"
        return ""


class UiServer:
    """Serves the page from `start` to `close`; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, handlers: Handlers, port: int) -> None:
        request_handler = type("RequestHandler", (_RequestHandler,), {"handlers": handlers})
        self._server = ThreadingHTTPServer((LOOPBACK, port), request_handler)
        self._server.daemon_threads = True
        self.guard = request_handler.guard = Guard(self._server.server_address[1])  # type: ignore[attr-defined]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _RequestHandler(BaseHTTPRequestHandler):
    handlers: Handlers
    guard: Guard
    timeout = REQUEST_SECONDS
    server_version = "atoll-ui"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        file = self.handlers.links.find(path) if path.startswith(DOWNLOAD_PREFIX) else None
        public = path in _STATIC or file is not None
        if refusal := self.guard.refusal(self.headers, needs_token=not public):
            self._send_json(HTTPStatus.FORBIDDEN, {"error": refusal})
        elif path in _STATIC:
            name, media_type = _STATIC[path]
            data = resources.files("atoll_cli.ui").joinpath("static", name).read_bytes()
            self._send(data, media_type, _PAGE_POLICY)
        elif file is not None:
            self._send_file(file)
        else:
            self._respond(self._get_handler(path))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        if refusal := self.guard.refusal(self.headers, needs_token=True):
            self._send_json(HTTPStatus.FORBIDDEN, {"error": refusal})
        elif path == "/api/archives":
            self._receive_upload()
        elif (match := _TRIAL.fullmatch(path)) is not None:
            self._receive_image(unquote(match.group(1)))
        else:
            self._respond(self._post_handler(path))

    def _get_handler(self, path: str) -> Callable[[], JsonObject] | None:
        handlers, query = self.handlers, self._query()
        match path.strip("/").split("/"):
            case ["api", "state"]:
                return handlers.state
            case ["api", "runs", name]:
                return lambda: handlers.run(unquote(name))
            case ["api", "runs", name, "log"]:
                return lambda: handlers.log(unquote(name), query.get("stage", ""))
            case ["api", "archives", name, "images"]:
                start = query.get("start", "")
                number = int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 0
                return lambda: handlers.images(unquote(name), query.get("class", ""), number)
            case ["api", "errands", task]:
                return lambda: handlers.task(task)
            case ["api", "comparison"]:
                return lambda: handlers.comparison(query.get("old", ""), query.get("new", ""))
        return None

    def _post_handler(self, path: str) -> Callable[[], JsonObject] | None:
        handlers = self.handlers
        match path.strip("/").split("/"):
            case ["api", "comparisons"]:
                return lambda: handlers.compare(self._body())
            case ["api", "runs"]:
                return lambda: handlers.start(self._body())
            case ["api", "runs", name, "report"]:
                return lambda: handlers.report(unquote(name))
            case ["api", "runs", name, action]:
                return lambda: handlers.act(unquote(name), action)
            case ["api", "releases", name, "bundle"]:
                return lambda: handlers.bundle(unquote(name))
        return self._editor_handler(path)

    def _editor_handler(self, path: str) -> Callable[[], JsonObject] | None:
        handlers = self.handlers
        match path.strip("/").split("/"):
            case ["api", "drafts"]:
                return lambda: handlers.draft(self._body())
            case ["api", "archives", name, "inspection"]:
                return lambda: handlers.inspect(unquote(name))
            case ["api", "timings"]:
                return lambda: handlers.time(self._body())
            case ["api", "timings", "skip"]:
                return handlers.skip_timing
            case ["api", "checks"]:
                return lambda: handlers.check(self._body())
        return None

    def _receive_upload(self) -> None:
        length = self._length()
        if length is None:
            self._send_json(HTTPStatus.LENGTH_REQUIRED, {"error": "the browser does not say how large the file is"})
            return
        name = self._query().get("name", "")
        status, document = respond(lambda: self.handlers.upload(name, self.rfile, length))
        # The unread rest of a refused upload is not the next request.
        self.close_connection = True
        self._send_json(status, document)

    def _receive_image(self, release: str) -> None:
        length = self._length()
        if length is None or length > MAX_IMAGE_BYTES:
            message = f"the image has {length} bytes; at most {MAX_IMAGE_BYTES} are taken" if length else "no length"
            self.close_connection = True
            self._send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": message})
            return
        data = self.rfile.read(length)
        self._respond(lambda: self.handlers.detect(release, data))

    def _respond(self, work: Callable[[], JsonObject] | None) -> None:
        if work is None:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is nothing under this address"})
        else:
            self._send_json(*respond(work))

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

    def _send_file(self, file: LinkedFile) -> None:
        status, document = respond(lambda: {"data": file.read()})
        if status is not HTTPStatus.OK:
            self._send_json(status, document)
            return
        extra = {} if file.sandboxed else {"Content-Disposition": f'attachment; filename="{file.name}"'}
        self._send(document["data"], file.media_type, _FILE_POLICY, extra=extra)

    def _send_json(self, status: HTTPStatus, document: JsonObject) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        self._send(body, "application/json; charset=utf-8", "default-src 'none'", status=status)

    def _send(
        self,
        body: bytes,
        media_type: str,
        policy: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": media_type,
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
