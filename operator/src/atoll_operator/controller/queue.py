"""All runs in a few words each, for the queue: who works, who waits, how long it takes.

Fed by watch events and by every look at a run; filled once from a list before the first worker starts. It is a view
of the API server's objects, never the only place of anything.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from atoll_contract.document import DecodeError
from atoll_contract.errors import Reason
from atoll_operator.api.status import TERMINAL, Phase, RunStatus, parse_time, read_status, seconds_between
from atoll_operator.controller.estimates import Timings
from atoll_operator.controller.workqueue import Key
from atoll_operator.lifecycle.admission import QueueEntry, queue_position
from atoll_operator.lifecycle.model import QueueView

# How many of those that wait are woken when a slot comes free; the others look again by themselves.
WOKEN = 8
_INCOMPLETE = frozenset({Reason.OBJECT_STORE_NOT_FOUND, Reason.PROFILE_NOT_FOUND})


@dataclass(frozen=True)
class _Entry:
    uid: str
    profile: str
    created: datetime
    phase: Phase
    # Whether the run holds one of its profile's slots.
    active: bool
    # Whether it waits for an object that does not exist; meanwhile it holds up nobody.
    incomplete: bool
    estimate: int | None
    active_since: str | None
    active_seconds: int
    # The profile's snapshot that the run keeps.
    revision: str

    @property
    def waits(self) -> bool:
        resting = self.phase in TERMINAL or self.phase is Phase.SUSPENDED
        return not (self.active or self.incomplete or resting)


class RunIndex:
    """Safe for several threads. Hold `deciding` from asking for a place until `settle` or the place is another's."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[Key, _Entry] = {}
        # By profile: the runs that hold a slot or wait for one.
        self._contenders: dict[str, dict[Key, _Entry]] = {}
        self.timings = Timings()

    @property
    def deciding(self) -> AbstractContextManager[Any]:
        return self._lock

    def observe(self, run: Mapping[str, Any]) -> None:
        """A watch event or list entry. It may be older than what `settle` knows, so it never takes a slot away from
        a run that still goes on."""
        key, status = _key(run), _status(run)
        entry = _with_status(_head(run), status)
        with self._lock:
            self.timings.learn(run, status)
            known = self._entries.get(key)
            if known is not None and known.uid == entry.uid and known.active and entry.phase not in TERMINAL:
                entry = replace(entry, active=entry.phase is not Phase.SUSPENDED)
            self._put(key, entry)

    def forget(self, key: Key) -> list[Key]:
        """The run is gone; returns those that may have its slot now."""
        with self._lock:
            gone = self._remove(key)
            if gone is not None:
                self.timings.forget(gone.uid)
            return self._next(gone.profile) if gone is not None and gone.active else []

    def settle(self, run: Mapping[str, Any], status: RunStatus) -> list[Key]:
        """What was decided for the run; returns those that may have its slot now, if it leaves one."""
        key = _key(run)
        with self._lock:
            before = self._entries.get(key)
            entry = _with_status(_head(run), status)
            self._put(key, entry)
            self.timings.learn(run, status)
            left = before is not None and before.active and not entry.active
            return self._next(entry.profile) if left else []

    def place(self, run: Mapping[str, Any], *, slots: int, now: datetime) -> QueueView:
        """The run's place among the runs of its profile. Ask while holding `deciding`."""
        key = _key(run)
        with self._lock:
            own = self._entries.get(key)
            if own is None:
                own = _with_status(_head(run), _status(run))
                self._put(key, own)
            contenders = self._contenders.get(own.profile, {})
            if own.active or len(contenders) - (key in contenders) < slots:
                # There is room, whatever the order; with very many runs it is the order that costs.
                others = (entry.active for mate, entry in contenders.items() if mate != key)
                return QueueView(others_active=any(others))
            mates = [_queue_entry(mate, entry, now) for mate, entry in (contenders | {key: own}).items()]
            return queue_position(*key, mates, slots=slots)

    def keys(self) -> list[Key]:
        with self._lock:
            return list(self._entries)

    def revisions(self) -> set[str]:
        """The profiles' snapshots that unfinished runs keep."""
        with self._lock:
            return {entry.revision for entry in self._entries.values() if entry.phase not in TERMINAL}

    def phases(self) -> Counter[str]:
        """How many runs are in each phase."""
        with self._lock:
            return Counter(str(entry.phase) for entry in self._entries.values())

    def _put(self, key: Key, entry: _Entry) -> None:
        self._remove(key)
        self._entries[key] = entry
        if entry.active or entry.waits:
            self._contenders.setdefault(entry.profile, {})[key] = entry

    def _remove(self, key: Key) -> _Entry | None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            _drop(self._contenders, gone.profile, key)
        return gone

    def _next(self, profile: str) -> list[Key]:
        waiting = [(entry.created, key) for key, entry in self._contenders.get(profile, {}).items() if entry.waits]
        return [key for _, key in heapq.nsmallest(WOKEN, waiting)]


def _drop(groups: dict[str, dict[Key, _Entry]], group: str, key: Key) -> None:
    members = groups.get(group, {})
    members.pop(key, None)
    if not members:
        groups.pop(group, None)


def _key(run: Mapping[str, Any]) -> Key:
    return run["metadata"]["namespace"], run["metadata"]["name"]


def _status(run: Mapping[str, Any]) -> RunStatus:
    try:
        return read_status(run.get("status")) or RunStatus()
    except DecodeError:
        # Somebody wrote the status by hand; the worker deals with it.
        return RunStatus()


def _head(run: Mapping[str, Any]) -> _Entry:
    """The run without its status."""
    metadata, spec = run["metadata"], run["spec"]
    return _Entry(
        uid=metadata["uid"],
        profile=spec["profileRef"]["name"],
        created=parse_time(metadata["creationTimestamp"]),
        phase=Phase.PENDING,
        active=False,
        incomplete=False,
        estimate=None,
        active_since=None,
        active_seconds=0,
        revision="",
    )


def _with_status(entry: _Entry, status: RunStatus) -> _Entry:
    return replace(
        entry,
        phase=status.phase,
        active=status.active_since is not None and not status.is_terminal,
        incomplete=status.reason in _INCOMPLETE,
        estimate=status.estimate.seconds if status.estimate else None,
        active_since=status.active_since,
        active_seconds=status.active_seconds,
        revision=status.resolved.profile_revision if status.resolved else "",
    )


def _queue_entry(key: Key, entry: _Entry, now: datetime) -> QueueEntry:
    remaining = entry.estimate
    if remaining is not None:
        spent = entry.active_seconds + (seconds_between(entry.active_since, now) if entry.active_since else 0.0)
        remaining = max(0, round(remaining - spent))
    return QueueEntry(*key, created=entry.created, active=entry.active, remaining_seconds=remaining)
