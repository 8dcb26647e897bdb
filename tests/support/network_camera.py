"""A network camera: an HTTP server that sends numbered pictures as MJPEG, then holds the line or hangs up."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from support.videos import mjpeg_parts, numbered

PACE = 0.05


class NetworkCamera:
    """Each connection gets the next `burst` pictures; the numbers go on from one connection to the next."""

    def __init__(self, *, burst: int, hang_up: bool) -> None:
        self.burst, self.hang_up = burst, hang_up
        self.connections = 0
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://viewer:open-sesame@127.0.0.1:{self._server.server_port}/stream.mjpg"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                first = camera.connections * camera.burst
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for part in mjpeg_parts([_jpeg(first + n) for n in range(camera.burst)], pace=PACE):
                        self.wfile.write(part)
                except OSError:
                    return
                if not camera.hang_up:
                    camera.closing.wait()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        return Handler

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def network_camera(*, burst: int, hang_up: bool = False) -> Iterator[NetworkCamera]:
    """A camera that runs for the length of the block."""
    camera = NetworkCamera(burst=burst, hang_up=hang_up)
    thread = threading.Thread(target=camera.serve)
    thread.start()
    try:
        yield camera
    finally:
        camera.close()
        thread.join()


def _jpeg(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(numbered(number)).save(data, "JPEG", quality=90)
    return data.getvalue()
