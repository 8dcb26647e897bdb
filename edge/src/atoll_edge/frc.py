"""`frc.json` as WPILibPi writes it: team, NetworkTables mode and cameras. Some of its keys contain spaces.

People edit the file by hand on the boot partition. A field or camera that cannot be used is therefore left out with a
warning, and the rest of the file counts.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from atoll_edge.detector.protocol import PIXEL_BYTES

# The mount point of a Raspberry Pi's first partition before Debian 12, and since.
PATHS = (Path("/boot/frc.json"), Path("/boot/firmware/frc.json"))
# The largest number that fits the address 10.TE.AM.2.
MAX_TEAM = 25599
# The detector's worker has memory for a square frame of this side.
MAX_FRAME_SIDE = math.isqrt(PIXEL_BYTES // 3)
MAX_FPS = 240
MAX_WARNINGS = 20
_CAMERA_PATH = re.compile(r"/dev/\S+|https?://\S+")


class FrcError(ValueError):
    """Nothing in the file can be used; the text names the file and says why."""


class NtMode(StrEnum):
    """Whether the robot serves NetworkTables (`client` here) or this device does, on a bench without a robot."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class FrcCamera:
    """One camera. `settings` is its whole entry, which cscore takes as it is; sizes are None where they are not set.

    `name` is empty where the file has none.
    """

    name: str
    path: str
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrcConfig:
    """The content of the file. `switched` names the switched cameras, which Atoll reads but does not serve.

    Each of `warnings` names the file, a field or camera that was left out, its value, and what is allowed.
    """

    team: int | None
    nt_mode: NtMode
    cameras: tuple[FrcCamera, ...]
    switched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_frc(paths: tuple[Path, ...] = PATHS) -> FrcConfig | None:
    """Reads the first of `paths` that exists; returns None if none does.

    Raises:
        FrcError: it cannot be read, or is no JSON object.
    """
    for path in paths:
        try:
            if path.is_file():
                data = path.read_bytes()
                # Windows' editors begin a file with a byte order mark, and may write UTF-16.
                text = data.decode(json.detect_encoding(data), errors="replace")
                return parse_frc(text, name=str(path))
        except OSError as error:
            raise FrcError(f"{path} cannot be read: {error.strerror or error}; nothing of it is used") from None
    return None


def parse_frc(text: str, *, name: str) -> FrcConfig:
    """Reads the text of the file `name`. Raises FrcError."""
    reader = _Reader(name)
    if not text.strip():
        raise FrcError(f"{name} is empty; save the settings in WPILibPi again, or remove the file")
    try:
        document = json.loads(text, object_pairs_hook=reader.unique)
    except (ValueError, RecursionError) as error:
        raise FrcError(f"{name} is not JSON: {error}; nothing of it is used") from None
    if not isinstance(document, dict):
        raise FrcError(f"{name} must hold an object, {{…}}, not {_shown(document)}; nothing of it is used")
    team = reader.integer(document, "team", MAX_TEAM, "team")
    mode = reader.mode(document.get("ntmode"))
    cameras = reader.cameras(document)
    switched = tuple(reader.text(entry, "name", where) for where, entry in reader.objects(document, "switched cameras"))
    return FrcConfig(team, mode, cameras, tuple(item for item in switched if item), tuple(reader.warnings))


class _Reader:
    """Reads the fields one by one, and collects a warning for each that it leaves out."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.warnings: list[str] = []

    def unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Makes an object of JSON; of a key that is there twice the last value counts, as in WPILibPi."""
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                self._warn(f"{_shown(key)} is there {count} times; the last value counts")
        return dict(pairs)

    def cameras(self, document: Mapping[str, Any]) -> tuple[FrcCamera, ...]:
        cameras: list[FrcCamera] = []
        for where, entry in self.objects(document, "cameras"):
            camera = self._camera(entry, where)
            if camera is not None and camera.name and any(camera.name == other.name for other in cameras):
                self._warn(f"{where} is left out: its name, {_shown(camera.name)}, is that of a camera before it")
            elif camera is not None:
                cameras.append(camera)
        return tuple(cameras)

    def _camera(self, entry: Mapping[str, Any], where: str) -> FrcCamera | None:
        name = self.text(entry, "name", where)
        label = f"{where} ({_shown(name)})" if name else where
        path = _camera_path(entry.get("path"))
        if path is None:
            self._warn(
                f"{label} is left out: its path must be a device such as /dev/video0 or an http address, "
                f"not {_shown(entry.get('path'))}"
            )
            return None
        width, height = (self.integer(entry, key, MAX_FRAME_SIDE, f"{label}: {key}") for key in ("width", "height"))
        fps = self.integer(entry, "fps", MAX_FPS, f"{label}: fps")
        return FrcCamera(name, path, width, height, fps, settings=entry)

    def mode(self, value: object) -> NtMode:
        if value is None:
            return NtMode.CLIENT
        if isinstance(value, str) and value.strip().lower() in list(NtMode):
            return NtMode(value.strip().lower())
        self._warn(f"ntmode must be client or server, not {_shown(value)}; it is taken as client")
        return NtMode.CLIENT

    def objects(self, document: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The objects of the list `key`, each with its place in the file."""
        entries = document.get(key)
        if entries is not None and not isinstance(entries, list):
            self._warn(f"{key} must be a list of objects, not {_shown(entries)}; it is left out")
        found: list[tuple[str, Mapping[str, Any]]] = []
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                found.append((f"{key}[{number}]", entry))
            else:
                self._warn(f"{key}[{number}] is left out: it must be an object, {{…}}, not {_shown(entry)}")
        return found

    def text(self, entry: Mapping[str, Any], key: str, where: str) -> str:
        """A text of printable characters, or an empty one where there is none."""
        value = entry.get(key)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value
        self._warn(f"{where}: {key} must be a text of printable characters, not {_shown(value)}; it is left out")
        return ""

    def integer(self, document: Mapping[str, Any], key: str, highest: int, where: str) -> int | None:
        value = document.get(key)
        if value is None:
            return None
        number = _whole_number(value)
        if number is None or not 1 <= number <= highest:
            self._warn(f"{where} must be a whole number from 1 to {highest}, not {_shown(value)}; it is left out")
            return None
        return number

    def _warn(self, text: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"{self._name}: {text}")


def _camera_path(value: object) -> str | None:
    """The path of a device or an address; None for all else."""
    path = value.strip() if isinstance(value, str) else ""
    return path if path.isprintable() and _CAMERA_PATH.fullmatch(path) else None


def _whole_number(value: object) -> int | None:
    """A whole number, also where it is written as a text or with a decimal point; None for all else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _shown(value: object) -> str:
    """The value as JSON has it, in ASCII and cut short; in words if it is missing or holds others."""
    if value is None or isinstance(value, dict | list):
        return "nothing" if value is None else "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"
