"""`frc.json` as WPILibPi writes it: team, NetworkTables mode and cameras. Some of its keys contain spaces."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

# The mount point of a Raspberry Pi's first partition before Debian 12, and since.
PATHS = (Path("/boot/frc.json"), Path("/boot/firmware/frc.json"))


class FrcError(ValueError):
    """The file cannot be used; the text names the file and the key."""


class NtMode(StrEnum):
    """Whether the robot serves NetworkTables (`client` here) or this device does, on a bench without a robot."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class FrcCamera:
    """One camera. `settings` is its whole entry, which cscore takes as it is; sizes are None where they are not set."""

    name: str
    path: str
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrcConfig:
    """The content of the file. `switched` names the switched cameras, which Atoll reads but does not serve."""

    team: int | None
    nt_mode: NtMode
    cameras: tuple[FrcCamera, ...]
    switched: tuple[str, ...] = ()


def read_frc(paths: tuple[Path, ...] = PATHS) -> FrcConfig | None:
    """Reads the first of `paths` that exists; returns None if none does.

    Raises:
        FrcError: it cannot be read, is not JSON, or a field has the wrong type.
    """
    for path in paths:
        if path.is_file():
            try:
                text = path.read_text("utf-8", errors="replace")
            except OSError as error:
                raise FrcError(f"{path} cannot be read: {error}") from None
            return parse_frc(text, name=str(path))
    return None


def parse_frc(text: str, *, name: str) -> FrcConfig:
    """Reads the text of the file `name`. Raises FrcError."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise FrcError(f"{name} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise FrcError(f"{name} must hold an object")
    mode = document.get("ntmode", "client")
    if not isinstance(mode, str) or mode.lower() not in list(NtMode):
        raise FrcError(f"{name}: ntmode must be client or server, not {mode!r}")
    cameras = tuple(_camera(entry, f"{name}: cameras[{i}]") for i, entry in enumerate(_list(document, "cameras", name)))
    switched = tuple(str(entry.get("name", "")) for entry in _list(document, "switched cameras", name))
    return FrcConfig(_integer(document, "team", name), NtMode(mode.lower()), cameras, switched)


def _camera(entry: Mapping[str, Any], where: str) -> FrcCamera:
    for key in ("name", "path"):
        if not isinstance(entry.get(key), str):
            raise FrcError(f"{where}: {key} is missing or not a string")
    sizes = {key: _integer(entry, key, where) for key in ("width", "height", "fps")}
    return FrcCamera(entry["name"], entry["path"], settings=entry, **sizes)


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    entries = document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FrcError(f"{where}: {key} must be a list of objects")
    return entries


def _integer(document: Mapping[str, Any], key: str, where: str) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise FrcError(f"{where}: {key} must be a whole number above 0, not {value!r}")
    return value
