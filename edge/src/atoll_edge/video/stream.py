"""MJPEG streams through cscore, and their entries for dashboards. Frames are encoded only while somebody watches."""

import logging
import socket
import time
from dataclasses import dataclass
from typing import Any

from atoll_edge.camera.source import BgrImage
from atoll_edge.robot.networktables import NetworkTables

logger = logging.getLogger(__name__)


class PortTaken(RuntimeError):
    """Another program serves on the port; the text says what to do about it."""


@dataclass(frozen=True)
class StreamLimits:
    """Limits that keep within the bandwidth of a field, for viewers that request no others: frames per second, JPEG
    quality (0…100), and pixels."""

    fps: int = 15
    compression: int = 30
    width: int = 320
    height: int = 240


class MjpegStream:
    """One stream on one port; viewers open `http://<host>:<port>/?action=stream`.

    `camera` is a cscore camera whose own JPEGs are passed on; without one, frames are given to `put`.

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
        """Whether a frame that is put now would be shown."""
        return self._own and self.watched and time.monotonic() >= self._next

    def put(self, image: BgrImage) -> None:
        """Shows a BGR image. Call it when `due`."""
        self._next = time.monotonic() + self._interval
        self._source.putFrame(image)

    def close(self) -> None:
        """Stops serving: cscore frees the port once both objects are deleted."""
        del self._server
        del self._source


def _within(size: tuple[int, int], limits: StreamLimits) -> tuple[int, int]:
    factor = min(limits.width / size[0], limits.height / size[1])
    return round(size[0] * factor), round(size[1] * factor)


def _require_free(port: int, name: str) -> None:
    """Tries the port first, because cscore only logs that it is taken. Raises PortTaken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            raise PortTaken(
                f"port {port} for the stream {name} is taken, perhaps by WPILibPi's own camera program; "
                "stop that, or set streams.rawPort and streams.annotatedPort"
            ) from None


class CameraPublisher:
    """A stream's entry in `/CameraPublisher`, with the types that cscore's own CameraServer publishes."""

    def __init__(self, tables: NetworkTables, name: str, *, source: str, port: int, mode: str) -> None:
        table = f"/CameraPublisher/{name}"
        self._port = port
        self._known_hosts: list[str] = []
        self._streams = tables.string_arrays(f"{table}/streams")
        self._connected = tables.booleans(f"{table}/connected")
        tables.strings(f"{table}/source").set(source)
        tables.strings(f"{table}/description").set(name)
        tables.strings(f"{table}/mode").set(mode)
        tables.string_arrays(f"{table}/modes").set([mode])

    def hosts(self, hosts: list[str]) -> None:
        """Publishes the stream's URLs on these names and addresses, if they changed."""
        if hosts != self._known_hosts:
            self._known_hosts = hosts
            self._streams.set([f"mjpg:{url}" for url in stream_urls(hosts, self._port)])

    def connected(self, value: bool) -> None:
        self._connected.set(value)


def stream_urls(hosts: list[str], port: int) -> list[str]:
    return [f"http://{host}:{port}/?action=stream" for host in hosts]


def mode_text(width: int, height: int, fps: int) -> str:
    """Formats a mode as cscore does."""
    return f"{width}x{height} MJPEG {fps} fps"


def stream_hosts(device: str, team: int | None) -> list[str]:
    """Returns the names and addresses under which a dashboard reaches this device, towards the robot of `team`."""
    hosts = [f"{device}.local"]
    number = team or 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: the system only chooses the address that it would send from.
            probe.connect((f"10.{number // 100}.{number % 100}.2", 9))
            hosts.append(probe.getsockname()[0])
        except OSError:
            logger.debug("no network yet; streams are announced by name only")
    return hosts
