"""A robot for the edge's tests: a real NT4 server on a free port, read through ntcore itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ntcore

from atoll_edge.demo import free_ports
from atoll_edge.robot.networktables import NetworkTables, Server
from support.polling import wait_until


@dataclass(frozen=True)
class Sample:
    """One value with the time of its publication, in microseconds of the server's clock."""

    value: Any
    time_us: int


class Robot:
    """The server's side. `watch` subscribes before anything is published, so that no sample is missed."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.tables = NetworkTables("robot")
        self.tables.start_server("127.0.0.1", self.port)
        self._instance = self.tables.instance
        self._subscribers: dict[str, Any] = {}
        # A server knows a topic's type by a subscription of its own only.
        self._everything = ntcore.MultiSubscriber(self._instance, [""])

    def close(self) -> None:
        self._subscribers.clear()
        self._everything.close()
        self.tables.close()

    def connect(self, client: NetworkTables) -> None:
        client.start_client(Server(host="127.0.0.1", port=self.port))
        wait_until(lambda: client.peers, what="the client's connection to the robot")

    def watch(self, *topics: str) -> None:
        options = ntcore.PubSubOptions(periodic=0.01, sendAll=True, keepDuplicates=True, pollStorage=1000)
        for name in topics:
            topic = self._instance.getTopic(name)
            self._subscribers[name] = topic.genericSubscribe("", options)

    def type_of(self, topic: str) -> str:
        return str(wait_until(lambda: self._instance.getTopic(topic).getTypeString(), what=f"the topic {topic}"))

    def sample(self, topic: str, wanted: Callable[[Any], bool] = lambda _: True) -> Sample:
        """The newest value of a watched topic once it is a wanted one."""

        def probe() -> Sample | None:
            value = self._subscribers[topic].get()
            if not value.isValid() or not wanted(value.value()):
                return None
            return Sample(value.value(), value.time())

        return wait_until(probe, what=f"a value of {topic}", timeout_seconds=60, interval_seconds=0.01)

    def struct_reader(self, topic: str, kind: type) -> Callable[[int], list[tuple[int, list[Any]]]]:
        """Subscribes now; the function waits for so many samples of the struct array, with their times, in order."""
        read = self.tables.struct_array_queue(topic, kind)
        found: list[tuple[int, list[Any]]] = []

        def samples(count: int) -> list[tuple[int, list[Any]]]:
            def probe() -> bool:
                found.extend(read())
                return len(found) >= count

            wait_until(probe, what=f"{count} samples of {topic}", timeout_seconds=60, interval_seconds=0.01)
            return found

        return samples
