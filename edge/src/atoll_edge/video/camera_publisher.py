"""A stream's entry in `/CameraPublisher`, by which dashboards find it."""

import logging
import socket

from atoll_edge.robot.networktables import NetworkTables

logger = logging.getLogger(__name__)


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
