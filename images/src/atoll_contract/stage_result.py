"""The result of a stage, in its termination message and in `result.json`, and its progress lines on stdout."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TextIO

from msgspec import field

from atoll_contract.document import DecodeError, Document, from_json, replace, to_json
from atoll_contract.errors import Reason, bounded

RESULT_NAME = "result.json"
# Kubernetes cuts a termination message at 4096 bytes.
MAX_TERMINATION_MESSAGE = 3072
# Begins the keys that are relative to the folder of the attempt.
_HERE = "./"
# The figures of single classes, which are as many as the data set has classes.
_CLASS_FIGURES = "perClass"
# A progress line begins with this.
MARK = "ATOLL_PROGRESS "
MAX_OUTPUTS = 16
# The entry of every summary that says how long the stage would have taken on a machine that does nothing else.
UNLOADED_SECONDS = "unloadedSeconds"
# The entry of a failed stage's summary that names the step of the newest checkpoint.
CHECKPOINT_STEP = "checkpointStep"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9._/+=@ -]{1,512}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        """The result in at most `MAX_TERMINATION_MESSAGE` bytes, which `parse_result` reads.

        Where it is longer, keys are written relative to the attempt's folder; then the figures of single classes are
        left out, the message is cut further, and the largest entries of the summary are left out, `metrics` last
        (`result.json` has them all). Outputs are always complete.
        """
        for shorter in self._shrinking():
            if len(data := to_json(shorter)) <= MAX_TERMINATION_MESSAGE:
                break
        return data

    def _shrinking(self) -> Iterator["StageResult"]:
        short = replace(self, message=bounded(self.message, 400))
        yield short
        short = replace(short, outputs=_relative(short.outputs, self.result))
        yield short
        summary = _without(_CLASS_FIGURES, self.summary)
        yield replace(short, summary=summary)
        short = replace(short, message=bounded(self.message, 100))
        yield replace(short, summary=summary)
        for name in sorted(summary, key=lambda name: (name == "metrics", -len(to_json(summary[name])))):
            del summary[name]
            yield replace(short, summary=summary)


def _relative(outputs: tuple[Artifact, ...], result: Artifact | None) -> tuple[Artifact, ...]:
    """The outputs, with `./` in place of the folder that `result` lies in."""
    if result is None:
        return outputs
    folder = _folder(result)
    return tuple(
        replace(item, key=_HERE + item.key.removeprefix(folder)) if item.key.startswith(folder) else item
        for item in outputs
    )


def _folder(result: Artifact) -> str:
    return result.key.rpartition("/")[0] + "/"


def _without(name: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """`entries` without the one of this name, at any depth."""
    return {
        key: _without(name, value) if isinstance(value, Mapping) else value
        for key, value in entries.items()
        if key != name
    }


def parse_result(data: bytes | str, *, unknown_reason: Reason = Reason.INTERNAL_ERROR) -> StageResult:
    """Decodes a termination message or a `result.json`, also of another version of Atoll.

    Fields of a newer version are passed over; a reason of a newer version is read as `unknown_reason`.

    Raises:
        DecodeError: it is neither.
    """
    result = from_json(StageResult, data, skip_unknown=True, fallbacks={Reason: unknown_reason})
    if not any(item.key.startswith(_HERE) for item in result.outputs):
        return result
    if result.result is None:
        raise DecodeError(f"StageResult.outputs has keys that begin with {_HERE}, and no result that says where")
    folder = _folder(result.result)
    outputs = (
        replace(item, key=folder + item.key.removeprefix(_HERE)) if item.key.startswith(_HERE) else item
        for item in result.outputs
    )
    return replace(result, outputs=tuple(outputs))


def refused_output(result: StageResult, *, prefixes: Collection[str], handed_on: Collection[Artifact]) -> str:
    """Why the outputs of a result are refused, or nothing.

    A stage works on a user's data, so its result is a stranger's: its keys must be well-formed and lie under
    `prefixes`, except for artifacts of earlier stages that it hands on as they are.
    """
    outputs, stage = result.outputs, bounded(result.stage, 40)
    if len(outputs) > MAX_OUTPUTS or len({item.name for item in outputs}) != len(outputs):
        allowed = f"at most {MAX_OUTPUTS}, each with its own name, are allowed"
        return f"the result of stage {stage} has {len(outputs)} outputs; {allowed}"
    for item in outputs:
        well_formed = _NAME.fullmatch(item.name) and _KEY.fullmatch(item.key) and _SHA256.fullmatch(item.sha256)
        if not well_formed or item.size < 0:
            return f"the result of stage {stage} has a malformed output {bounded(item.name, 64)!r}"
        inside = any(item.key.startswith(prefix) for prefix in prefixes) or item in handed_on
        if not inside or ".." in item.key.split("/"):
            return f"the result of stage {stage} names {item.key!r}, which is not under {' or '.join(prefixes)}"
    return ""


class Progress(Document, frozen=True):
    """The progress of a stage. `percent` is 0…100; the other fields where the stage knows them.

    `checkpoint_step` is the step of the newest checkpoint that the store has; `ap50` is the best so far, and
    `best_step` the step at which it was measured; `waiting` says what the work waits for outside of itself, such as a
    store that does not answer.
    """

    percent: float
    message: str = ""
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    ap50: float | None = None
    pictures: int | None = None
    eta_seconds: float | None = None
    checkpoint_step: int | None = None
    waiting: str | None = None
    best_step: int | None = None


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


def without_progress(log: str) -> str:
    """The lines of a log that are there for people to read."""
    return "\n".join(line for line in log.splitlines() if not line.startswith(MARK))


def last_progress(log: str) -> Progress | None:
    """The last progress line in the end of a log."""
    for line in reversed(log.splitlines()):
        progress = parse_line(line)
        if progress is not None:
            return progress
    return None
