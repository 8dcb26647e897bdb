"""Adapter of ntcore, the only module that uses its API: of 2026 (camelCase, NT3 and NT4) or of 2027 (snake_case).

`NetworkTables` gives publishers with `set(value, time_us)`, and readers that are plain functions.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import msgpack

logger = logging.getLogger(__name__)

T = TypeVar("T")

NT4_PORT = 5810
# Every value is sent in order and with its time; the server gets it within 10 ms.
EVERY_SAMPLE_SECONDS = 0.01


@dataclass(frozen=True)
class Server:
    """The address of the robot's server: a team number, for every address that a robot may have, or one host."""

    team: int | None = None
    host: str | None = None
    port: int = NT4_PORT


@dataclass(frozen=True)
class TopicPublisher:
    """Who publishes a topic: the client's name as the server knows it, empty for the server's own program, and its
    address where the server tells it."""

    client: str
    address: str = ""


def now_us() -> int:
    """Returns the time of NetworkTables' clock in microseconds; cscore stamps frames with it."""
    import ntcore

    clock = _method(ntcore, "_now")
    return int(clock())


def _method(owner: Any, *names: str) -> Any:
    """Returns the first of `names` that this version of ntcore has."""
    for name in names:
        if hasattr(owner, name):
            return getattr(owner, name)
    raise AttributeError(f"this version of ntcore has none of {', '.join(names)}; Atoll knows 2026 and 2027")


class Publisher(Generic[T]):
    """Publishes the values of one topic."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    def set(self, value: T, time_us: int = 0) -> None:
        """Publishes a value; `time_us` is its time on the clock of `now_us`, 0 for now."""
        self._publisher.set(value, time_us)


class NetworkTables:
    """One NetworkTables instance: a client of the robot's server, or a server itself for `ntmode: server`."""

    def __init__(self, identity: str) -> None:
        import ntcore

        self._ntcore = ntcore
        self._identity = identity
        self.instance = ntcore.NetworkTableInstance.create()
        self._serving = False
        self._stop: Callable[[], None] = lambda: None
        self._handles: list[Any] = []

    def start_client(self, server: Server) -> None:
        """Connects, and reconnects for ever; returns at once."""
        _method(self.instance, "start_client", "startClient4")(self._identity)
        if server.host is not None:
            _method(self.instance, "set_server", "setServer")(server.host, server.port)
        elif server.team is not None:
            _method(self.instance, "set_server_team", "setServerTeam")(server.team, server.port)
            # The Driver Station of a laptop knows the address of a simulated robot.
            _method(self.instance, "start_ds_client", "startDSClient")()
        self._stop = _method(self.instance, "stop_client", "stopClient")

    def start_server(self, address: str, port: int, port3: int = 0) -> None:
        """Serves, without a file on disk. 2027 has no NT3."""
        self._serving = True
        if hasattr(self.instance, "startServer"):
            self.instance.startServer("", address, port3, port)
        else:
            self.instance.start_server("", address, "", port)
        self._stop = _method(self.instance, "stop_server", "stopServer")

    def close(self) -> None:
        """Disconnects, and releases all topics."""
        # Publishers and subscribers before their instance: ntcore gives its number to the next instance, where a
        # handle that is collected later would close the one with its own number.
        self._stop()
        for handle in self._handles:
            handle.close()
        self._handles.clear()
        self._ntcore.NetworkTableInstance.destroy(self.instance)

    @property
    def peers(self) -> tuple[str, ...]:
        """The addresses of the other ends; for a client that of the server."""
        connections = _method(self.instance, "get_connections", "getConnections")()
        return tuple(f"{peer.remote_ip}:{peer.remote_port}" for peer in connections)

    def is_own_name(self, client: str) -> bool:
        """Whether the server would call this instance so: it adds `@` and a number to a client's name. A client with
        the same name, such as a copied card, has such a name too."""
        return client == "" if self._serving else client.partition("@")[0] == self._identity.partition("@")[0]

    def publishers_of(self, topic: str) -> Callable[[], list[TopicPublisher]]:
        """Returns a function that gives all publishers of a topic, of every client and of this instance itself."""
        publishers, clients = (self._meta_reader(name) for name in (f"$pub${topic}", "$clients"))

        def read() -> list[TopicPublisher]:
            addresses = {str(client["id"]): str(client["conn"]).rpartition(":")[0] for client in clients()}
            names = [str(publisher["client"]) for publisher in publishers()]
            return [TopicPublisher(name, addresses.get(name, "")) for name in names]

        return read

    def _meta_reader(self, topic: str) -> Callable[[], list[dict[str, Any]]]:
        """Reads a topic that the server keeps about its clients: a list of objects, as MessagePack."""
        handle = _method(self.instance, "get_raw_topic", "getRawTopic")(topic)
        read = self._reader(handle.subscribe("msgpack", b""))
        return lambda: msgpack.decode(value, type=list[dict[str, Any]]) if (value := read()) else []

    def flush(self) -> None:
        """Sends the published values now instead of at the next interval."""
        self.instance.flush()

    def strings(self, topic: str) -> Publisher[str]:
        return self._publish(_method(self.instance, "get_string_topic", "getStringTopic")(topic))

    def doubles(self, topic: str) -> Publisher[float]:
        return self._publish(_method(self.instance, "get_double_topic", "getDoubleTopic")(topic))

    def integers(self, topic: str) -> Publisher[int]:
        return self._publish(_method(self.instance, "get_integer_topic", "getIntegerTopic")(topic))

    def booleans(self, topic: str) -> Publisher[bool]:
        return self._publish(_method(self.instance, "get_boolean_topic", "getBooleanTopic")(topic))

    def double_arrays(self, topic: str) -> Publisher[list[float]]:
        return self._publish(_method(self.instance, "get_double_array_topic", "getDoubleArrayTopic")(topic))

    def string_arrays(self, topic: str, *, retained: bool = False) -> Publisher[list[str]]:
        handle = _method(self.instance, "get_string_array_topic", "getStringArrayTopic")(topic)
        publisher: Publisher[list[str]] = self._publish(handle)
        if retained:
            _method(handle, "set_retained", "setRetained")(True)
        return publisher

    def struct_arrays(self, topic: str, kind: type) -> Publisher[list[Any]]:
        """Sends every sample, also equal ones, so that the robot sees each frame."""
        handle = _method(self.instance, "get_struct_array_topic", "getStructArrayTopic")(topic, kind)
        return self._publish(handle, self._options(every=True))

    def integer_reader(self, topic: str, default: int) -> Callable[[], int]:
        handle = _method(self.instance, "get_integer_topic", "getIntegerTopic")(topic)
        return self._reader(handle.subscribe(default))

    def double_reader(self, topic: str, default: float) -> Callable[[], float]:
        handle = _method(self.instance, "get_double_topic", "getDoubleTopic")(topic)
        return self._reader(handle.subscribe(default))

    def boolean_reader(self, topic: str, default: bool) -> Callable[[], bool]:
        handle = _method(self.instance, "get_boolean_topic", "getBooleanTopic")(topic)
        return self._reader(handle.subscribe(default))

    def string_array_reader(self, topic: str) -> Callable[[], list[str]]:
        handle = _method(self.instance, "get_string_array_topic", "getStringArrayTopic")(topic)
        return self._reader(handle.subscribe([]))

    def struct_array_queue(self, topic: str, kind: type) -> Callable[[], list[tuple[int, list[Any]]]]:
        """Returns a function that gives all samples since its last call, each with its time.

        It reads bytes: ntcore's own struct subscribers skip empty arrays in their queue.
        """
        from wpiutil import wpistruct

        handle = _method(self.instance, "get_raw_topic", "getRawTopic")(topic)
        subscriber = handle.subscribe(f"struct:{kind.__name__}[]", b"", self._options(every=True))
        self._handles.append(subscriber)
        read = _method(subscriber, "read_queue", "readQueue")
        unpack = _method(wpistruct, "unpack_array", "unpackArray")
        return lambda: [(int(item.time), unpack(kind, item.value) if item.value else []) for item in read()]

    def _options(self, *, every: bool) -> Any:
        options = self._ntcore.PubSubOptions()
        options.periodic = EVERY_SAMPLE_SECONDS
        if hasattr(options, "send_all"):
            options.send_all = options.keep_duplicates = every
        else:
            options.sendAll = options.keepDuplicates = every
        return options

    def _publish(self, topic: Any, options: Any = None) -> Publisher[Any]:
        publisher = topic.publish(options if options is not None else self._options(every=False))
        self._handles.append(publisher)
        return Publisher(publisher)

    def _reader(self, subscriber: Any) -> Callable[[], Any]:
        self._handles.append(subscriber)
        reader: Callable[[], Any] = subscriber.get
        return reader
