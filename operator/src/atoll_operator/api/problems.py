"""What is wrong with an object, in the API server's words, and what to do about it."""

import json
from dataclasses import dataclass
from typing import Any

from atoll_operator.api.yaml import Path

_MAX_SHOWN = 80


@dataclass(frozen=True)
class Problem:
    """`message` says what the API server would say of `path`; `advice` what to do, where that is known."""

    path: Path
    message: str
    advice: str = ""

    @property
    def field(self) -> str:
        return field_name(self.path)

    def __str__(self) -> str:
        place = f"{self.field}: " if self.path else ""
        return f"{place}{self.message}" + (f"; {self.advice}" if self.advice else "")


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
    """A value as it stands in a message: JSON, shortened; of lists and objects only the kind, as the server does."""
    if isinstance(value, dict):
        return '"object"'
    if isinstance(value, list):
        return '"array"'
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def invalid(path: Path, value: Any, message: str, advice: str = "") -> Problem:
    return Problem(path, f"Invalid value: {shown(value)}: {message}", advice)
