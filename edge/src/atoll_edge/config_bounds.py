"""What settings may be, beyond their types: a number out of range is told by name before anything starts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from atoll_contract.harvest import DEVICE
from atoll_edge.detector.messages import PIXEL_BYTES

if TYPE_CHECKING:
    from atoll_edge.config import EdgeConfig

# 10.TE.AM.2 has room for no more.
MOST_TEAM = 25599
MOST_PORT = 65535
# Of a frame: the detector's process has room for a square of this side.
MOST_SIDE = math.isqrt(PIXEL_BYTES // 3)
MOST_FPS = 240
MOST_SECONDS = 86400
MOST_MEBIBYTES = 2**20
_HOST_AND_PORT = re.compile(r"[^\s:/]+(:[1-9][0-9]{0,4})?")

_Bound = tuple[str, float | None, float, float]


def problem(config: EdgeConfig) -> str | None:
    """The first setting that cannot be used, by its name in the file, with what is allowed; None where there is
    none."""
    for name, value, low, high in _bounds(config):
        # Not a number is in no range either.
        if value is not None and not low <= value <= high:
            return f"{name} is {value:g}; it must be {low:g} to {high:g}"
    server = config.nt_server
    if server is not None and (_HOST_AND_PORT.fullmatch(server) is None or _port_of(server) > MOST_PORT):
        return f"ntServer is {server[:80]!r}; it must be host or host:port"
    streams = config.streams
    if streams.enabled and streams.raw_port == streams.annotated_port:
        return f"streams.rawPort and streams.annotatedPort are both {streams.raw_port}"
    if config.harvest.enabled and config.model is None:
        return "harvest.enabled needs model: the frames go to its store"
    if config.harvest.enabled and DEVICE.fullmatch(config.device_name) is None:
        return f"device is {config.device_name[:80]!r}; to harvest, it must be letters, digits and . _ - alone"
    return None


def _bounds(config: EdgeConfig) -> Iterator[_Bound]:
    """Name, value, lowest, highest."""
    camera, detection, streams, harvest = config.camera, config.detection, config.streams, config.harvest
    yield "team", config.team, 1, MOST_TEAM
    yield "ntPort", config.nt_port, 1, MOST_PORT
    # 0 takes a free one.
    yield "http.port", config.http.port, 0, MOST_PORT
    yield "camera.width", camera.width, 1, MOST_SIDE
    yield "camera.height", camera.height, 1, MOST_SIDE
    yield "camera.fps", camera.fps, 1, MOST_FPS
    yield "camera.horizontalFieldOfView", camera.horizontal_field_of_view, 1, 179
    yield "camera.verticalFieldOfView", camera.vertical_field_of_view, 1, 179
    yield "detection.threads", detection.threads, 0, 64
    yield "detection.minScore", detection.min_score, 0, 1
    yield "streams.rawPort", streams.raw_port, 1, MOST_PORT
    yield "streams.annotatedPort", streams.annotated_port, 1, MOST_PORT
    yield "streams.fps", streams.fps, 1, MOST_FPS
    yield "streams.compression", streams.compression, 0, 100
    yield "streams.width", streams.width, 1, MOST_SIDE
    yield "streams.height", streams.height, 1, MOST_SIDE
    if config.model is not None:
        yield "model.pollSeconds", config.model.poll_seconds, 1, MOST_SECONDS
        yield "model.reportSeconds", config.model.report_seconds, 1, MOST_SECONDS
    # No camera shows anything new sooner.
    yield "harvest.intervalSeconds", harvest.interval_seconds, 0.1, MOST_SECONDS
    yield "harvest.minDoubt", harvest.min_doubt, 0, 1e6
    yield "harvest.maxMebibytes", harvest.max_mebibytes, 0, MOST_MEBIBYTES
    yield "harvest.minFreeMebibytes", harvest.min_free_mebibytes, 0, MOST_MEBIBYTES


def _port_of(server: str) -> int:
    return int(server.partition(":")[2] or 0)
