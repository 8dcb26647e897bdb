"""The status of a TrainingRun as the API server stores it: read, written within its bound, and as a patch."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from atoll_contract.document import DecodeError, Fallbacks, from_dict, replace, to_dict
from atoll_contract.errors import Reason, bounded
from atoll_contract.stage import Stage
from atoll_operator.api.status import MAX_STATUS_BYTES, TERMINAL, CompileStatus, Phase, RunStatus, StagePhase

_STAGES, _STAGE_PHASES = tuple(Stage), tuple(StagePhase)
# What unknown words of a newer version are read as; an unknown stage of the progress counts as none.
_FALLBACKS: Fallbacks = {
    Reason: Reason.INTERNAL_ERROR,
    Phase: Phase.PENDING,
    StagePhase: StagePhase.PENDING,
    Stage: None,
}


def read_status(data: Mapping[str, Any] | None) -> RunStatus | None:
    """Decodes the status of an object of the API; None where there is none yet.

    Of a newer version unknown fields and stages are skipped, and unknown words are read as those of `_FALLBACKS`,
    so that an older operator can go on with its runs. A run that is over stays so, whatever else cannot be read.

    Raises:
        DecodeError: a known field of an unfinished run has the wrong type (a hand-written status).
    """
    if not data or "phase" not in data:
        return None
    known = _with_known_stages(data)
    try:
        status = _decode(known)
    except DecodeError:
        if not isinstance(data["phase"], str) or data["phase"] not in TERMINAL:
            raise
        return _decode({name: value for name, value in known.items() if _is_readable(name, value)})
    if data["phase"] not in tuple(Phase) and status.completion_time is not None:
        # An end that only a newer version knows; the run must not begin anew.
        return replace(status, phase=Phase.FAILED, reason=Reason.INTERNAL_ERROR)
    return status


def _decode(data: Mapping[str, Any]) -> RunStatus:
    return from_dict(RunStatus, data, skip_unknown=True, fallbacks=_FALLBACKS)


def _with_known_stages(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data` without stages of a newer version. A stage in a phase of a newer version counts as announced, so that its
    Job is looked up."""
    stages = data.get("stages")
    if not isinstance(stages, list) or not all(isinstance(item, dict) for item in stages):
        return data
    known = [item for item in stages if item.get("name") in _STAGES]
    return {**data, "stages": [_announced(item) for item in known]}


def _announced(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    if stage.get("phase", StagePhase.PENDING) in _STAGE_PHASES:
        return stage
    return {name: value for name, value in stage.items() if name not in ("jobRef", "nextRetryTime")}


def _is_readable(name: str, value: Any) -> bool:
    try:
        _decode({name: value})
    except DecodeError:
        return False
    return True


def write_status(status: RunStatus) -> dict[str, Any]:
    """`status` as JSON of at most `MAX_STATUS_BYTES`: per-class metrics and class counts are cut, then messages."""
    for shorter in _shrinking(status):
        written: dict[str, Any] = to_dict(shorter)
        if len(msgspec.json.encode(written)) <= MAX_STATUS_BYTES:
            break
    return written


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `old` into `new`; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value or key not in old:
            patch[key] = value
    return patch


def patched(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON merge patch (RFC 7386) makes of `old`, which stays as it is."""
    new = {key: value for key, value in old.items() if key not in patch}
    for key, value in patch.items():
        if isinstance(value, Mapping):
            before = old.get(key)
            new[key] = patched(before if isinstance(before, Mapping) else {}, value)
        elif value is not None:
            new[key] = value
    return new


def status_patch(stored: Mapping[str, Any] | None, before: RunStatus | None, after: RunStatus) -> dict[str, Any]:
    """The JSON merge patch from the status that was read as `before` to `after`; empty where nothing has changed.

    What another version has written and `before` does not show stays as it is.
    """
    if before == after:
        return {}
    new = write_status(after)
    patch = merge_patch(stored or {}, new)
    return merge_patch(write_status(before), new) if patch and before is not None else patch


def _shrinking(status: RunStatus) -> Iterator[RunStatus]:
    yield status
    for keep in (50, 20, 5, 0):
        status = replace(status, per_class=status.per_class[:keep])
        if status.dataset:
            status = replace(status, dataset=replace(status.dataset, classes=status.dataset.classes[:keep]))
        yield status
    short_stages = tuple(replace(item, message=bounded(item.message, 100)) for item in status.stages)
    short_targets = tuple(map(_shortened, status.compile))
    yield replace(status, stages=short_stages, compile=short_targets, message=bounded(status.message, 200))


def _shortened(entry: CompileStatus) -> CompileStatus:
    if entry.stage is None:
        return entry
    failure = entry.stage.last_failure
    if failure is not None:
        failure = replace(failure, message=bounded(failure.message, 100))
    stage = replace(entry.stage, message=bounded(entry.stage.message, 100), last_failure=failure)
    return replace(entry, stage=stage)
