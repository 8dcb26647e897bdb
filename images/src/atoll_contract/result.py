"""What a stage answers: one result in the termination message, the same and more in `result.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atoll_contract.codec import from_json, to_json
from atoll_contract.errors import bounded
from atoll_contract.reasons import Reason

RESULT_NAME = "result.json"
# Kubernetes cuts a termination message at 4096 bytes.
MAX_TERMINATION_MESSAGE = 3072


@dataclass(frozen=True)
class Artifact:
    """A file in the store: its key relative to the store's prefix, hex sha256 and size in bytes."""

    name: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StageResult:
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
