"""Reads `config.yaml`, and says which setting cannot be used, where it is, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_contract.document import DecodeError, from_dict
from atoll_contract.harvest import DEVICE
from atoll_edge.cameras import MAX_CAMERAS, cameras_problem, listed_cameras
from atoll_edge.config import MAX_OBJECT_WIDTH, MIN_OBJECT_WIDTH, EdgeConfig
from atoll_edge.frc import MAX_FPS, MAX_FRAME_SIDE, MAX_TEAM

if TYPE_CHECKING:
    import yaml

MAX_PORT = 65535
MAX_SECONDS = 86400
MAX_MEBIBYTES = 2**20
_HOST_AND_PORT = re.compile(r"[^\s:/]+(:[1-9][0-9]{0,4})?")

_Bound = tuple[str, float | None, float, float]


class ConfigError(ValueError):
    """A setting cannot be used; the text names the file and the field."""


def read_config(path: Path) -> EdgeConfig:
    """Reads the configuration from a YAML file.

    Raises:
        ConfigError: it cannot be read, or has an unknown field, a wrong type, a number out of range, or settings that
            exclude each other.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        config = from_dict(EdgeConfig, {} if document is None else document)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_yaml_problem(error)}") from None
    except DecodeError as error:
        # The name of the class says nothing to who writes the file.
        text = str(error).removeprefix(f"{EdgeConfig.__name__}.")
        raise ConfigError(f"{path}: {text.replace(EdgeConfig.__name__, 'the file', 1)}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    return checked(config, f"{path}: ")


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """The line, and what to mend in it."""
    mark, problem = error.problem_mark or error.context_mark, str(error.problem or error.context)
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces; indent with spaces"
    elif "expected <block end>" in problem:
        problem = "the line is not indented as its neighbours are; give all fields of a group the same indentation"
    elif "could not find expected ':'" in problem:
        # The scanner notices it on the next line.
        mark, problem = error.context_mark or mark, 'there is no ":" after the name; write "name: value"'
    elif "mapping values are not allowed" in problem:
        problem = 'a second ":" in one value; check the indentation and the line before, or quote the text'
    return f"{mark.line + 1 if mark else 1}: {problem}"


def checked(config: EdgeConfig, where: str) -> EdgeConfig:
    """Returns `config` if all of it can be used. Raises ConfigError, whose text begins with `where`."""
    wrong = problem(config)
    if wrong:
        raise ConfigError(f"{where}{wrong}")
    return config


def problem(config: EdgeConfig) -> str | None:
    """Describes the first setting that cannot be used: its name in the file, and what is allowed; None if all can."""
    for name, value, low, high in _bounds(config):
        # Written so that NaN is out of every range.
        if value is not None and not low <= value <= high:
            return f"{name} is {value:g}; it must be {low:g} to {high:g}"
    server = config.nt_server
    if server is not None and (_HOST_AND_PORT.fullmatch(server) is None or _port_of(server) > MAX_PORT):
        return f"ntServer is {server[:80]!r}; it must be host or host:port"
    if wrong := cameras_problem(config):
        return wrong
    if config.harvest.enabled and config.model is None:
        return "harvest.enabled needs model: the frames go to its store"
    if config.device is not None and DEVICE.fullmatch(config.device) is None:
        return (
            f"device is {config.device[:80]!r}; it must be 1 to 252 letters, digits and . _ -, the first of them a "
            "letter or digit: it is part of keys in the bucket"
        )
    return None


def _bounds(config: EdgeConfig) -> Iterator[_Bound]:
    """Yields the name, value, minimum and maximum of each number."""
    detection, streams, harvest = config.detection, config.streams, config.harvest
    yield "team", config.team, 1, MAX_TEAM
    yield "ntPort", config.nt_port, 1, MAX_PORT
    # 0 takes a free port.
    yield "http.port", config.http.port, 0, MAX_PORT
    for where, camera in listed_cameras(config):
        yield f"{where}.width", camera.width, 1, MAX_FRAME_SIDE
        yield f"{where}.height", camera.height, 1, MAX_FRAME_SIDE
        yield f"{where}.fps", camera.fps, 1, MAX_FPS
        yield f"{where}.horizontalFieldOfView", camera.horizontal_field_of_view, 1, 179
        yield f"{where}.verticalFieldOfView", camera.vertical_field_of_view, 1, 179
        if camera.calibration is not None:
            yield f"{where}.calibration.width", camera.calibration.width, 1, 2**16
            yield f"{where}.calibration.height", camera.calibration.height, 1, 2**16
        yield f"{where}.rawPort", camera.raw_port, 1, MAX_PORT
        yield f"{where}.annotatedPort", camera.annotated_port, 1, MAX_PORT
    yield "detection.threads", detection.threads, 0, 64
    yield "detection.processes", detection.processes, 1, MAX_CAMERAS
    yield "detection.minScore", detection.min_score, 0, 1
    if detection.tiling is not None:
        yield "detection.tiling.rows", detection.tiling.rows, 1, 3
        yield "detection.tiling.columns", detection.tiling.columns, 1, 3
        yield "detection.tiling.overlap", detection.tiling.overlap, 0, 0.5
    for label, width in detection.object_widths.items():
        yield f"detection.objectWidths.{label[:80]}", width, MIN_OBJECT_WIDTH, MAX_OBJECT_WIDTH
    yield "tracks.keepSeconds", config.tracks.keep_seconds, 0.05, 10
    yield "streams.rawPort", streams.raw_port, 1, MAX_PORT
    yield "streams.annotatedPort", streams.annotated_port, 1, MAX_PORT
    yield "streams.fps", streams.fps, 1, MAX_FPS
    yield "streams.compression", streams.compression, 0, 100
    yield "streams.width", streams.width, 1, MAX_FRAME_SIDE
    yield "streams.height", streams.height, 1, MAX_FRAME_SIDE
    yield "streams.maxViewers", streams.max_viewers, 1, 16
    yield "streams.megabitsPerSecond", streams.megabits_per_second, 0.1, 1000
    if config.model is not None:
        yield "model.pollSeconds", config.model.poll_seconds, 1, MAX_SECONDS
        yield "model.reportSeconds", config.model.report_seconds, 1, MAX_SECONDS
    # No camera has a new frame sooner.
    yield "harvest.intervalSeconds", harvest.interval_seconds, 0.1, MAX_SECONDS
    yield "harvest.minDoubt", harvest.min_doubt, 0, 1e6
    yield "harvest.maxMebibytes", harvest.max_mebibytes, 0, MAX_MEBIBYTES
    yield "harvest.minFreeMebibytes", harvest.min_free_mebibytes, 0, MAX_MEBIBYTES


def _port_of(server: str) -> int:
    return int(server.partition(":")[2] or 0)
