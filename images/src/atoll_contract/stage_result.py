"""What a stage answers: one result in the termination message, the same and more in `result.json`."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, replace, to_json
from atoll_contract.errors import Reason, bounded

RESULT_NAME = "result.json"
# Kubernetes cuts a termination message at 4096 bytes.
MAX_TERMINATION_MESSAGE = 3072


class Artifact(Document, frozen=True):
    """A file in the store: its key relative to the store's prefix, hex sha256 and size in bytes."""

    name: str
    key: str
    sha256: str
    size: int


class StageResult(Document, frozen=True):
    """How a stage ended. `summary` holds the few figures that the run's status shows (see docs/contract.md)."""

    stage: str
    attempt: int
    reason: Reason
    message: str
    outputs: tuple[Artifact, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    # Where the full result lies; set in the termination message only.
    result: Artifact | None = None
    schema_version: int = 1

    def termination_message(self) -> bytes:
        """The result in at most `MAX_TERMINATION_MESSAGE` bytes: text is shortened, then the summary's largest
        entries are left out (they stand in `result.json`); outputs are always whole."""
        short = replace(self, message=bounded(self.message, 400))
        summary = dict(self.summary)
        while len(data := to_json(replace(short, summary=summary))) > MAX_TERMINATION_MESSAGE and summary:
            largest = max(summary, key=lambda key: len(to_json(summary[key])))
            del summary[largest]
        return data


def parse_result(data: bytes | str) -> StageResult:
    """A termination message or a `result.json`.

    Raises:
        DecodeError: it is neither.
    """
    return from_json(StageResult, data)


MARK = "ATOLL_PROGRESS "


class Progress(Document, frozen=True):
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
