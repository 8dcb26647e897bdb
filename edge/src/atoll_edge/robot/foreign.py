"""Finds other programs that write this device's own topics, whose values robot code gets in turn with the device's."""

import logging
from collections.abc import Callable, Mapping, Sequence

from atoll_edge.robot.networktables import NetworkTables, TopicPublisher
from atoll_edge.robot.seed_topics import Compatibility

logger = logging.getLogger(__name__)

# A server forgets a connection that broke only after a while: the device's own one must not count as foreign.
FOREIGN_SECONDS = 5.0


def own_topics(cameras: Sequence[str], compatibility: Compatibility) -> dict[str, tuple[str, str]]:
    """Returns the topics that only this device may write: the table of each, and what to do where another does too."""
    rename = "Give one of the two cameras another name (`camera.name`)."
    topics = {f"/Atoll/{camera}/heartbeat": (f"/Atoll/{camera}", rename) for camera in cameras}
    if compatibility is not Compatibility.NONE:
        topics["/ML/detections"] = ("/ML", "Set `detection.compatibility: none` on all devices but one.")
    return topics


class ForeignPublishers:
    """Watches `tables` for other publishers. `topics` gives, by topic, the table that it stands for and what to do."""

    def __init__(
        self,
        tables: NetworkTables,
        topics: Mapping[str, tuple[str, str]],
        *,
        foreign_seconds: float = FOREIGN_SECONDS,
    ) -> None:
        self._tables = tables
        self._foreign_seconds = foreign_seconds
        self._watched = [(*texts, tables.publishers_of(topic)) for topic, texts in topics.items()]
        self._since: dict[str, float] = {}
        self._warnings: dict[str, str] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each table that another program has written for FOREIGN_SECONDS, and still does."""
        return tuple(self._warnings.values())

    def step(self, now: float) -> None:
        """Looks once; call it every few seconds, with the monotonic time."""
        found: dict[str, str] = {}
        for table, remedy, publishers in self._watched:
            others = self._others(publishers)
            if not others:
                self._since.pop(table, None)
            elif now - self._since.setdefault(table, now) >= self._foreign_seconds:
                names = ", ".join(self._described(other) for other in others)
                found[table] = (
                    f"{table} is also written by {names}; robot code gets the values of both in turn. {remedy}"
                )
        for table, text in found.items():
            if text != self._warnings.get(table):
                logger.warning("%s", text)
        for table in self._warnings.keys() - found.keys():
            logger.info("%s is written by this device alone again", table)
        self._warnings = found

    def _others(self, publishers: Callable[[], list[TopicPublisher]]) -> list[TopicPublisher]:
        """The publishers but for one that has this device's name, which is this device."""
        others = sorted(publishers(), key=lambda publisher: publisher.client)
        own = next((publisher for publisher in others if self._tables.is_own_name(publisher.client)), None)
        if own is not None:
            others.remove(own)
        return others

    def _described(self, other: TopicPublisher) -> str:
        name = other.client or "the robot's own program"
        where = f" at {other.address}" if other.address else ""
        twin = ", which has this device's name (set `device` on one of them)"
        return f"{name}{where}{twin if self._tables.is_own_name(other.client) else ''}"
