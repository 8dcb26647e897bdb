"""Live progress: lines `ATOLL_PROGRESS {json}` on a stage's standard output."""

import json
from dataclasses import dataclass
from typing import TextIO

from atoll_contract.codec import DecodeError, from_json, to_json

MARK = "ATOLL_PROGRESS "


@dataclass(frozen=True)
class Progress:
    """Where a stage is. `percent` 0…100; the rest where the stage knows it."""

    percent: float
    message: str = ""
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    ap50: float | None = None
    pictures: int | None = None
    eta_seconds: float | None = None


def emit(progress: Progress, stream: TextIO) -> None:
    """Write one progress line and flush it."""
    stream.write(f"{MARK}{to_json(progress).decode()}\n")
    stream.flush()


def parse_line(line: str) -> Progress | None:
    """The progress in `line`; `None` for any other line (stages may print what they like)."""
    if not line.startswith(MARK):
        return None
    try:
        return from_json(Progress, line[len(MARK) :].strip())
    except (DecodeError, json.JSONDecodeError):
        return None


def last_progress(log: str) -> Progress | None:
    """The newest progress in a log's tail."""
    for line in reversed(log.splitlines()):
        progress = parse_line(line)
        if progress is not None:
            return progress
    return None
