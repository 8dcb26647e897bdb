"""What of a run's files, and of the conversions that runs share, may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll_contract import keys
from atoll_contract.codec import DecodeError
from atoll_contract.dataset import DATASET_NAME
from atoll_contract.errors import SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import Stage
from atoll_contract.store import ObjectInfo
from atoll_operator.decide.retry import MAX_VALUE
from atoll_operator.pruning.group import Group, Kind, Limits, days, group, newest
from atoll_operator.status import DONE, Phase, parse_time
from atoll_operator.status_document import read_status
from atoll_operator.views_spec import RETRY_ANNOTATION


@dataclass(frozen=True)
class KnownRun:
    """A run that the engine has. `ended` in seconds since 1970, None while it is not over or asked to start again."""

    uid: str
    ended: float | None
    has_converted: bool
    # What its stages put out, and what it starts from.
    outputs: frozenset[str]
    starts_from: str = ""

    @property
    def is_over(self) -> bool:
        return self.ended is not None


def known_run(body: Mapping[str, Any]) -> KnownRun:
    """The run as its object shows it.

    Raises:
        SpecError: its status cannot be read, so that nobody knows what it needs.
    """
    metadata, start = body["metadata"], (body["spec"].get("training") or {}).get("initFrom") or {}
    try:
        status = read_status(body.get("status"))
    except DecodeError as error:
        raise SpecError(f"the status of run {metadata['name']} cannot be read: {error}; nothing is removed") from None
    starts_from = (start.get("checkpoint") or {}).get("key") or (start.get("releaseRef") or {}).get("name") or ""
    if status is None:
        return KnownRun(metadata["uid"], None, has_converted=False, outputs=frozenset(), starts_from=starts_from)
    asked = (metadata.get("annotations") or {}).get(RETRY_ANNOTATION) or ""
    restarts = status.phase is Phase.FAILED and asked and asked[:MAX_VALUE] != status.last_handled_retry
    is_over = status.is_terminal and not restarts
    ended = parse_time(status.completion_time or metadata["creationTimestamp"]).timestamp() if is_over else None
    done = any(item.name is Stage.CONVERT and item.phase in DONE for item in status.stages)
    outputs = frozenset(artifact.key for item in status.stages for artifact in item.outputs)
    return KnownRun(metadata["uid"], ended, done, outputs, starts_from)


def run_group(
    namespace: str,
    uid: str,
    objects: Sequence[ObjectInfo],
    *,
    known: Mapping[str, KnownRun],
    limits: Limits,
    now: float,
) -> Group | None:
    """The files of a run, where they may go."""
    prefix = keys.run_prefix(RunRef(namespace, "", uid))
    age = now - newest(objects)
    if age < limits.older_than or any(not run.is_over and prefix in run.starts_from for run in known.values()):
        return None
    run = known.get(uid)
    if run is None:
        return group(Kind.RUN, prefix, f"its run is gone, the last file {days(age)} old", objects)
    if run.ended is None or now - run.ended < limits.older_than:
        return None
    return group(Kind.RUN, prefix, f"its run ended {days(now - run.ended)} ago", objects)


def conversion_group(
    prefix: str,
    objects: Sequence[ObjectInfo],
    *,
    known: Iterable[KnownRun],
    released: Collection[str],
    limits: Limits,
    now: float,
) -> Group | None:
    """A converted dataset, where no run has used it or may be about to, and no release names it: `atoll compare` looks
    at the pictures there. `released` has the digests."""
    runs = list(known)
    age = now - newest(objects)
    used = any(key.startswith(prefix) for run in runs for key in run.outputs)
    if age < limits.older_than or used or waits_to_convert(runs) or prefix.split("/")[-2] in released:
        return None
    return group(
        Kind.CONVERSION, prefix, f"no run or release uses it, {days(age)} old", objects, first=f"/{DATASET_NAME}"
    )


def waits_to_convert(runs: Iterable[KnownRun]) -> bool:
    """Whether a run has yet to convert, or to find that the conversion is there."""
    return any(not run.is_over and not run.has_converted for run in runs)
