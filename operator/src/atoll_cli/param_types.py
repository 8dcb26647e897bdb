"""Types of command-line options: files that are read, durations, points in time, sizes of files and of images."""

from __future__ import annotations

import datetime
import re
import time
from os import PathLike
from pathlib import Path
from typing import Any

import click

from atoll_cli.folders import did_you_mean

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class InputPath(click.Path):
    """A file that is read, or a folder where `folders` allows it; a missing one is answered with a likely name. `-` is
    standard input with `dash`."""

    def __init__(self, *, folders: bool = False, dash: bool = False) -> None:
        super().__init__(path_type=Path, exists=True, dir_okay=folders, allow_dash=dash)

    def convert(self, value: str | PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value)
        if not self.exists or path.exists() or (self.allow_dash and str(path) == "-"):
            return super().convert(value, param, ctx)
        parent = path.parent
        near = did_you_mean(str(path)) if parent.is_dir() else f"; there is no folder {parent} either"
        raise click.UsageError(f"there is no file {path}{near}", ctx)


class Duration(click.ParamType[float]):
    """Seconds, from `90`, `90s`, `10m`, `1h30m` or `30d`; 0 is accepted only with `allow_zero`."""

    name = "duration"

    def __init__(self, *, allow_zero: bool = False) -> None:
        self._allow_zero = allow_zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        elif re.fullmatch(f"(?:{_DURATION.pattern})+", text):
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
        else:
            self.fail(f"{text!r} is no duration; write 90s, 10m, 1h30m or 30d", param, ctx)
        if seconds == 0 and not self._allow_zero:
            self.fail(f"{text!r}: a duration is more than 0", param, ctx)
        return seconds


class PointInTime(click.ParamType[float]):
    """Seconds since 1970, from a duration before now (`7d`, `12h`) or a date (`2027-01-31`: its midnight here)."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value)
        if re.fullmatch(f"(?:{_DURATION.pattern})+", text):
            return time.time() - Duration().convert(text, param, ctx)
        try:
            return datetime.datetime.strptime(text, "%Y-%m-%d").astimezone().timestamp()
        except ValueError:
            self.fail(f"{text!r} is no time; write 7d, 12h or 2027-01-31", param, ctx)


class ByteSize(click.ParamType[int]):
    """Bytes, from `500MB`, `2GB` or `2GiB`."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        found = _SIZE.fullmatch(text)
        unit = next((unit for unit in _BYTES if found and unit.lower() == found.group(2).lower()), None)
        if found is None or unit is None:
            self.fail(f"{text!r} is no size; write 500MB, 2GB or 2GiB", param, ctx)
        return round(float(found.group(1)) * _BYTES[unit])


def format_size(count: int) -> str:
    """Bytes as people read them: `512 B`, `1.5 MB` (of 10^6 bytes)."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value >= 999.95 or larger == "kB":
            value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


class ImageSize(click.ParamType[tuple[int, int]]):
    """Width and height in pixels, from `640x480`."""

    name = "pixels"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", str(value))
        if found is None:
            self.fail(f"{str(value)!r} is no size of a picture; write 640x480", param, ctx)
        return int(found.group(1)), int(found.group(2))
