"""MJPEG streams on the ports and URLs that dashboards know, and their entries in `/CameraPublisher`.

cscore's own server grants what a viewer's URL asks for, to ten viewers, and to every web page. This one keeps to the
settings. Frames are drawn and encoded by the viewers' threads, only while somebody watches, and once for all viewers
that get the same.
"""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from atoll_edge.camera.source import BgrImage
from atoll_edge.threads import RepeatingThread
from atoll_edge.video.bandwidth import Bandwidth
from atoll_edge.video.viewer import StreamLimits, fitted, limits_of
from atoll_edge.web.bounded import BoundedServer, ConnectionLimits

logger = logging.getLogger(__name__)

# The boundary of cscore and mjpg-streamer, which some dashboards take for granted.
BOUNDARY = "boundarydonotcross"
REQUEST_SECONDS = 10.0
# A viewer that does not take a frame within this time is gone.
SEND_SECONDS = 5.0
WAIT_SECONDS = 0.5
# Connections beside the viewers: the page, and viewers that are refused.
OTHER_CONNECTIONS = 8
# After a refusal no new connection is taken for this long: a dashboard tries again at once, and for ever.
REFUSED_PAUSE_SECONDS = 0.05
# Little, so that a slow viewer gets the newest frame and not a queue of old ones.
SEND_BUFFER_BYTES = 64 * 1024
STREAM_PATHS = frozenset({"/stream.mjpg", "/stream"})


class PortTaken(RuntimeError):
    """Another program serves on the port; the text says what to do about it."""


@dataclass(frozen=True)
class _Shown:
    """A frame to show; `draw` makes the image, in a viewer's thread."""

    number: int
    draw: Callable[[], BgrImage]


class MjpegStream:
    """One stream on one port; viewers open `http://<host>:<port>/?action=stream` or `/stream.mjpg`.

    Raises:
        PortTaken: the port is in use.
    """

    def __init__(self, name: str, port: int, *, limits: StreamLimits, max_viewers: int, bandwidth: Bandwidth) -> None:
        self.name = name
        self.port = port
        self.limits = limits
        self.bandwidth = bandwidth
        self._max_viewers = max_viewers
        self._viewers = 0
        self._interval = 1.0 / limits.fps
        self._next = 0.0
        self._condition = threading.Condition()
        self._shown: _Shown | None = None
        self._encoding = threading.Lock()
        self._encoded: tuple[int, dict[StreamLimits, bytes]] = (0, {})
        self._refused_at = 0.0
        self._closing = threading.Event()
        self._server = self._bound()
        self._thread = RepeatingThread(f"stream {port}", self._serve, self._closing)
        self._thread.start()

    @property
    def watched(self) -> bool:
        return self._viewers > 0

    @property
    def due(self) -> bool:
        """Whether a frame that is put now would be shown."""
        return self.watched and time.monotonic() >= self._next

    def put(self, draw: Callable[[], BgrImage]) -> None:
        """Shows the BGR image that `draw` returns, which is called in another thread, or never. Call it when `due`."""
        self._next = max(self._next + self._interval, time.monotonic())
        with self._condition:
            self._shown = _Shown(self._shown.number + 1 if self._shown else 1, draw)
            self._condition.notify_all()

    def close(self) -> None:
        """Ends every viewer's connection, and frees the port."""
        self._closing.set()
        self._server.end_all()
        self._thread.join(1.0)
        self._server.server_close()

    def admit(self) -> bool:
        """Counts one more viewer; returns False where there are too many already."""
        with self._condition:
            if self._viewers >= self._max_viewers:
                self._refused_at = time.monotonic()
                return False
            self._viewers += 1
        return True

    def dismiss(self) -> None:
        with self._condition:
            self._viewers -= 1

    def next_shown(self, after: int) -> _Shown | None:
        """Returns the newest frame if its number is not `after`, after waiting a while for one; None at the end too."""
        with self._condition:
            if self._shown is None or self._shown.number == after:
                self._condition.wait(WAIT_SECONDS)
            shown = self._shown
        return None if shown is None or shown.number == after or self._closing.is_set() else shown

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def jpeg(self, shown: _Shown, limits: StreamLimits) -> bytes:
        """Returns the frame as JPEG within `limits`."""
        wanted = StreamLimits(0, limits.compression, limits.width, limits.height)
        with self._encoding:
            if self._encoded[0] != shown.number:
                self._encoded = (shown.number, {})
            found = self._encoded[1].get(wanted)
            if found is None:
                found = self._encoded[1][wanted] = encoded(shown.draw(), limits)
        return found

    def _bound(self) -> BoundedServer:
        connections = self._max_viewers + OTHER_CONNECTIONS
        handler = type("StreamHandler", (_StreamHandler,), {"stream": self, "timeout": REQUEST_SECONDS})
        try:
            return BoundedServer(self.port, handler, ConnectionLimits(connections, connections, REQUEST_SECONDS))
        except OSError:
            raise PortTaken(
                f"port {self.port} for the stream {self.name} is taken, perhaps by WPILibPi's own camera program; "
                "stop that, or set streams.rawPort and streams.annotatedPort"
            ) from None

    def _serve(self) -> None:
        pause = self._refused_at + REFUSED_PAUSE_SECONDS - time.monotonic()
        if pause > 0 and self._closing.wait(pause):
            return
        self._server.handle_request()
        self._server.end_overdue()


def encoded(image: BgrImage, limits: StreamLimits) -> bytes:
    """Encodes a BGR image [h, w, 3] as JPEG, within the limits' size and quality."""
    import cv2

    height, width = image.shape[:2]
    size = fitted(width, height, limits)
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, limits.compression])[1].tobytes()
    return data


class _StreamHandler(BaseHTTPRequestHandler):
    stream: MjpegStream
    server: Any
    server_version = "atoll-edge"
    sys_version = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        fields = query.split("&")
        if path in STREAM_PATHS or (path == "/" and "action=stream" in fields):
            self._stream(query)
        elif path == "/":
            self._page()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Some dashboards ask so."""
        self.do_GET()

    def _page(self) -> None:
        body = f'<!doctype html><title>{self.stream.port}</title><img src="/?action=stream">'.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, query: str) -> None:
        if not self.stream.admit():
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers; streams.maxViewers sets how many")
            return
        share = self.stream.bandwidth.share()
        try:
            self.server.keep_open(self.request)
            self.connection.settimeout(SEND_SECONDS)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self._send_head()
            self._send_frames(limits_of(query, self.stream.limits), share)
        finally:
            share.close()
            self.stream.dismiss()

    def _send_head(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store, no-cache, must-revalidate, pre-check=0, post-check=0, max-age=0")
        self.send_header("Pragma", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(f"--{BOUNDARY}\r\n".encode())

    def _send_frames(self, limits: StreamLimits, share: Any) -> None:
        number, due = 0, 0.0
        while not self.stream.closing and not self._is_gone():
            shown = self.stream.next_shown(number)
            now = time.monotonic()
            if shown is None:
                continue
            number = shown.number
            if now < due or not share.allows(now):
                continue
            # A frame that comes a little early counts, so that a half of the camera's rate is a half.
            due = max(due, now - 1 / limits.fps) + 0.95 / limits.fps
            data = self.stream.jpeg(shown, limits)
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\nX-Timestamp: {time.time():.6f}\r\n\r\n"
            part = head.encode() + data + f"\r\n--{BOUNDARY}\r\n".encode()
            share.take(len(part))
            self.wfile.write(part)

    def _is_gone(self) -> bool:
        """Whether the viewer has hung up. A viewer sends nothing after its request."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        return bool(poller.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        logger.debug("http %s", format % args)
