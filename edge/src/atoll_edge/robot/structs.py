"""The struct of `/Atoll/<camera>/detections`. Field order and types are the wire format: 36 bytes, little-endian."""

import functools
from typing import Any

from atoll_edge.robot.observation import Observation

# As published in the schema topic `/.schema/struct:Detection`; robot code in Java and C++ declares the same.
SCHEMA = (
    "int32 class_id; float score; float xmin; float ymin; float xmax; float ymax; float yaw; float pitch; float area"
)


@functools.cache
def detection_struct() -> Any:
    """The class that ntcore packs."""
    import dataclasses

    from wpiutil import wpistruct

    fields = [
        (part.split()[1], {"int32": wpistruct.int32, "float": float}[part.split()[0]]) for part in SCHEMA.split("; ")
    ]
    return wpistruct.make_wpistruct(dataclasses.make_dataclass("Detection", fields), name="Detection")


def to_structs(observations: tuple[Observation, ...]) -> list[Any]:
    kind = detection_struct()
    return [
        kind(seen.class_id, seen.score, seen.xmin, seen.ymin, seen.xmax, seen.ymax, seen.yaw, seen.pitch, seen.area)
        for seen in observations
    ]
