"""The result of a stage, in its termination message and in `result.json`, and its progress lines on stdout."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, replace, to_json
from atoll_contract.errors import Reason, bounded

RESULT_NAME = "result.json"
# Kubernetes cuts a termination message at 4096 bytes.
MAX_TERMINATION_MESSAGE = 3072
# A progress line begins with this.
MARK = "ATOLL_PROGRESS "


class Artifact(Document, frozen=True):
    """A file in the store: its key relative to the store's prefix, hex sha256 and size in bytes."""

    name: str
    key: str
    sha256: str
    size: int


class StageResult(Document, frozen=True):
    """How a stage ended. `summary` has the figures that the run's status shows (see docs/contract.md)."""

    stage: str
    attempt: int
    reason: Reason
    message: str
    outputs: tuple[Artifact, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    # The full result; set in the termination message only.
    result: Artifact | None = None
    schema_version: int = 1

    def termination_message(self) -> bytes:
        """The result in at most `MAX_TERMINATION_MESSAGE` bytes: the message is shortened, then the largest entries of
        the summary are left out (`result.json` has them); outputs are always complete."""
        short = replace(self, message=bounded(self.message, 400))
        summary = dict(self.summary)
        while len(data := to_json(replace(short, summary=summary))) > MAX_TERMINATION_MESSAGE and summary:
            largest = max(summary, key=lambda key: len(to_json(summary[key])))
            del summary[largest]
        return data


def parse_result(data: bytes | str, *, unknown_reason: Reason = Reason.INTERNAL_ERROR) -> StageResult:
    """Decodes a termination message or a `result.json`, also of another version of Atoll.

    Fields of a newer version are passed over; a reason of a newer version is read as `unknown_reason`.

    Raises:
        DecodeError: it is neither.
    """
    return from_json(StageResult, data, skip_unknown=True, fallbacks={Reason: unknown_reason})


class Progress(Document, frozen=True):
    """The progress of a stage. `percent` is 0…100; the other fields where the stage knows them."""

    percent: float
    message: str = ""
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    ap50: float | None = None
    pictures: int | None = None
    eta_seconds: float | None = None


def emit(progress: Progress, stream: TextIO) -> None:
    """Writes one progress line and flushes it."""
    stream.write(f"{MARK}{to_json(progress).decode()}\n")
    stream.flush()


def parse_line(line: str) -> Progress | None:
    """The progress in `line`; `None` for any other line."""
    if not line.startswith(MARK):
        return None
    try:
        return from_json(Progress, line[len(MARK) :].strip(), skip_unknown=True)
    except (DecodeError, json.JSONDecodeError):
        return None


def last_progress(log: str) -> Progress | None:
    """The last progress line in the end of a log."""
    for line in reversed(log.splitlines()):
        progress = parse_line(line)
        if progress is not None:
            return progress
    return None
