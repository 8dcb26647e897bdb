"""Problems of an object: the message of the API server, and advice."""

import json
from dataclasses import dataclass
from typing import Any

from atoll_operator.api.yaml import Path

_MAX_SHOWN = 80


@dataclass(frozen=True)
class Problem:
    """`message` is the API server's for the field `path`; `advice` says what to do, where that is known. `plain` is the
    message without what only programs read, and is shown to people in its place."""

    path: Path
    message: str
    advice: str = ""
    plain: str = ""

    @property
    def field(self) -> str:
        return field_name(self.path)

    def __str__(self) -> str:
        prefix = f"{self.field}: " if self.path else ""
        return f"{prefix}{self.plain or self.message}" + (f"; {self.advice}" if self.advice else "")


def field_name(path: Path) -> str:
    """A path as Kubernetes writes it: `spec.datasets[0].key`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() or not text:
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text


def shown(value: Any) -> str:
    """A value in a message: shortened JSON; for lists and objects only the type, as the API server does."""
    if isinstance(value, dict):
        return '"object"'
    if isinstance(value, list):
        return '"array"'
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def invalid(path: Path, value: Any, message: str, advice: str = "") -> Problem:
    return Problem(path, f"Invalid value: {shown(value)}: {message}", advice)
