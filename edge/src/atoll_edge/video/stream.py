"""MJPEG streams by cscore. A frame is encoded only while somebody looks, and no faster than the cap."""

import logging
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll_edge.robot.networktables import NetworkTables

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)


class PortTaken(RuntimeError):
    """Another program serves on the port; the text says what to do."""


@dataclass(frozen=True)
class StreamLimits:
    """Keeps the field's bandwidth: frames per second and JPEG quality where the viewer asks for nothing else."""

    fps: int = 15
    compression: int = 30
    width: int = 320
    height: int = 240


class MjpegStream:
    """One stream on one port; viewers open `http://<host>:<port>/?action=stream`.

    Raises:
        PortTaken: the port is in use.
    """

    def __init__(
        self, name: str, port: int, *, size: tuple[int, int], limits: StreamLimits, camera: Any = None
    ) -> None:
        import cscore

        _require_free(port, name)
        self.name = name
        self.port = port
        self._interval = 1.0 / limits.fps
        self._next = 0.0
        pixels = cscore.VideoMode.PixelFormat.kMJPEG
        # A camera's own JPEG is passed on as it is; anything else is encoded here.
        self._own = camera is None
        self._source = camera or cscore.CvSource(name, pixels, *size, limits.fps)
        self._server = cscore.MjpegServer(f"serve_{name}", "", port)
        self._server.setSource(self._source)
        self._server.setFPS(limits.fps)
        self._server.setDefaultCompression(limits.compression)
        if size[0] * size[1] > limits.width * limits.height:
            self._server.setResolution(*_within(size, limits))

    @property
    def watched(self) -> bool:
        return bool(self._source.isEnabled())

    @property
    def due(self) -> bool:
        """Whether a frame put now would be shown."""
        return self._own and self.watched and time.monotonic() >= self._next

    def put(self, picture: "NDArray[uint8]") -> None:
        """Show a BGR picture; call it when `due`."""
        self._next = time.monotonic() + self._interval
        self._source.putFrame(picture)

    def close(self) -> None:
        """Stop serving: cscore frees the port when both objects are gone."""
        del self._server
        del self._source


def _within(size: tuple[int, int], limits: StreamLimits) -> tuple[int, int]:
    factor = min(limits.width / size[0], limits.height / size[1])
    return round(size[0] * factor), round(size[1] * factor)


def _require_free(port: int, name: str) -> None:
    """cscore only logs that a port is taken, so it is tried first."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            raise PortTaken(
                f"port {port} for the stream {name} is taken, perhaps by WPILibPi's own camera program; "
                "stop that, or set streams.rawPort and streams.annotatedPort"
            ) from None


class CameraEntry:
    """One stream's entry, with the types that cscore's own CameraServer publishes."""

    def __init__(self, tables: NetworkTables, name: str, *, source: str, port: int, mode: str) -> None:
        table = f"/CameraPublisher/{name}"
        self._port = port
        self._hosts: list[str] = []
        self._streams = tables.string_arrays(f"{table}/streams")
        self._connected = tables.booleans(f"{table}/connected")
        tables.strings(f"{table}/source").set(source)
        tables.strings(f"{table}/description").set(name)
        tables.strings(f"{table}/mode").set(mode)
        tables.string_arrays(f"{table}/modes").set([mode])

    def at(self, hosts: list[str]) -> None:
        """Names and addresses under which the stream's port is reached."""
        if hosts != self._hosts:
            self._hosts = hosts
            self._streams.set([f"mjpg:{url}" for url in stream_urls(hosts, self._port)])

    def connected(self, value: bool) -> None:
        self._connected.set(value)


def stream_urls(hosts: list[str], port: int) -> list[str]:
    return [f"http://{host}:{port}/?action=stream" for host in hosts]


def mode_text(width: int, height: int, fps: int) -> str:
    """As cscore writes a mode."""
    return f"{width}x{height} MJPEG {fps} fps"
