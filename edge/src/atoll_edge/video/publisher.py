"""`/CameraPublisher/<name>`: how dashboards find a stream."""

from atoll_edge.robot.nt import NetworkTables


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
