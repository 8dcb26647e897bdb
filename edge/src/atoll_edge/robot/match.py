"""The match: whether the robot is enabled or on the field, from the field's control word."""

from dataclasses import dataclass

from atoll_edge.robot.networktables import NetworkTables

# The topic of 2026 and before, and its name from 2027.
TOPICS = ("/FMSInfo/FMSControlData", "/FMSInfo/ControlWord")
ENABLED = 1 << 0
FMS_ATTACHED = 1 << 4


@dataclass(frozen=True)
class Match:
    """`locked`: nothing is changed on the robot now."""

    enabled: bool
    fms_attached: bool

    @property
    def locked(self) -> bool:
        return self.enabled or self.fms_attached


class MatchMonitor:
    """Reads the control word; without a robot the match is off. A robot that vanishes leaves its last word
    standing for as long as NetworkTables keeps the value."""

    def __init__(self, tables: NetworkTables) -> None:
        self._readers = [tables.integer_reader(topic, 0) for topic in TOPICS]

    def now(self) -> Match:
        word = 0
        for read in self._readers:
            word |= int(read())
        return Match(enabled=bool(word & ENABLED), fms_attached=bool(word & FMS_ATTACHED))
