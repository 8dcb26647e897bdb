"""The queue of runs: which hold a slot of their profile, which wait for one, and how long that takes.

It is filled from a list before the first worker starts, and updated by watch events and by each reconcile. All of it
can be read from the API server's objects again.
"""

import heapq
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from atoll_contract.document import DecodeError
from atoll_contract.errors import Reason, SpecError, bounded
from atoll_contract.recipe import sufficient_steps
from atoll_contract.stage import Stage
from atoll_contract.text import duration
from atoll_contract.train_spec import Preset
from atoll_operator.api.decode import training_run
from atoll_operator.api.status import TERMINAL, Estimate, Phase, RunStatus, StageStatus, parse_time, seconds_between
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import ESTIMATE_BATCH_SIZE, ProfileEstimate, Training, TrainingRunSpec
from atoll_operator.controller.cache import key_of
from atoll_operator.controller.workqueue import Key
from atoll_operator.kube.objects import resource_version
from atoll_operator.lifecycle.admission import QueueEntry, queue_position
from atoll_operator.lifecycle.model import QueueView

# How many waiting runs are reconciled when a slot comes free; the others are requeued by time.
MAX_WOKEN = 8
# Kinds of runs whose times are kept; the kind learned first is dropped.
MAX_KINDS = 1000
_MAX_BASIS = 256
_INCOMPLETE = frozenset({Reason.OBJECT_STORE_NOT_FOUND, Reason.PROFILE_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is kept of a run. Of finished ones there may be tens of thousands."""

    uid: str
    profile: str
    created: datetime
    phase: Phase
    # Whether the run holds one of its profile's slots.
    active: bool
    # Whether the run waits for an object that does not exist; meanwhile it holds up no other run.
    incomplete: bool
    estimate: int | None
    active_since: str | None
    active_seconds: int
    # How many of its profile's slots the run takes: one for each GPU of each worker.
    slots: int
    # The snapshot of the profile that the run started with.
    revision: str
    # The run's resourceVersion.
    version: int

    @property
    def waits(self) -> bool:
        """Whether the run wants a slot and has none."""
        resting = self.phase in TERMINAL or self.phase is Phase.SUSPENDED
        return not (self.active or self.incomplete or resting)


class QueueManager:
    """For several threads. Hold `lock` from `position` until `claim`: another worker could take the slot between."""

    def __init__(self) -> None:
        # Guards the entries and the estimates, and makes a decision to start and its record one step.
        self._lock = threading.RLock()
        self._entries: dict[Key, _Entry] = {}
        # Counted as they come and go: a scrape of the metrics must not hold up decisions.
        self._phases: Counter[Phase] = Counter()
        # By profile: the runs that hold a slot or wait for one.
        self._contenders: dict[str, dict[Key, _Entry]] = {}
        self.estimates = EstimateModel()

    @property
    def lock(self) -> AbstractContextManager[Any]:
        return self._lock

    def observe(self, run: Mapping[str, Any]) -> list[Key]:
        """Takes a run from a watch or a list, and returns the runs that may have its slot now, if it left one.

        It may be as old as the last `claim` or older, so it never takes a slot away from a run that goes on.
        """
        key, status = key_of(run), _status(run)
        entry = _entry(run, status)
        with self._lock:
            self.estimates.learn(run, status)
            known = self._entries.get(key)
            if known is not None and known.uid == entry.uid:
                if 0 < entry.version <= known.version:
                    return []
                if known.active and entry.phase not in TERMINAL:
                    entry = replace(entry, active=entry.phase is not Phase.SUSPENDED)
            return self._replace(key, entry)

    def forget(self, key: Key, *, uid: str = "") -> list[Key]:
        """Called when the run is deleted; returns the runs that may have its slot now. With its `uid`, a later run of
        the same name keeps its own."""
        with self._lock:
            known = self._entries.get(key)
            removed = None if known is not None and uid not in ("", known.uid) else self._remove(key)
            if removed is None:
                return []
            self.estimates.forget(removed.uid)
            return self._next(removed.profile) if removed.active else []

    def claim(self, run: Mapping[str, Any], status: RunStatus) -> None:
        """Takes what was decided for the run, before it is written: a slot is taken at once, and not yet left."""
        key, entry = key_of(run), _entry(run, status)
        with self._lock:
            known = self._entries.get(key)
            if known is None or known.uid != entry.uid or entry.active or not known.active:
                self._put(key, entry)

    def record(self, run: Mapping[str, Any], status: RunStatus) -> list[Key]:
        """Takes the run's status as written; returns the runs that may have its slot now, if it leaves one."""
        with self._lock:
            self.estimates.learn(run, status)
            return self._replace(key_of(run), _entry(run, status))

    def _replace(self, key: Key, entry: _Entry) -> list[Key]:
        before = self._entries.get(key)
        self._put(key, entry)
        left = before is not None and before.active and not entry.active
        return self._next(entry.profile) if left else []

    def position(self, run: Mapping[str, Any], *, slots: int, now: datetime) -> QueueView:
        """Returns the run's position among the runs of its profile. Call it while holding `lock`."""
        key = key_of(run)
        with self._lock:
            own = self._entries.get(key)
            if own is None:
                own = _entry(run, _status(run))
                self._put(key, own)
            contenders = self._contenders.get(own.profile, {})
            others = [entry for other, entry in contenders.items() if other != key]
            if own.active or sum(entry.slots for entry in others) + min(own.slots, slots) <= slots:
                # There are free slots whatever the order is; with very many runs, sorting them is slow.
                return QueueView(others_active=any(entry.active for entry in others))
            entries = [_queue_entry(other, entry, now) for other, entry in (contenders | {key: own}).items()]
            return queue_position(*key, entries, slots=slots)

    def is_at_work(self, key: Key) -> bool:
        """Returns whether the run holds a slot."""
        with self._lock:
            entry = self._entries.get(key)
            return entry is not None and entry.active

    def keys(self) -> list[Key]:
        with self._lock:
            return list(self._entries)

    def snapshots_in_use(self) -> set[str]:
        """Returns the snapshots of profiles that unfinished runs use."""
        with self._lock:
            return {entry.revision for entry in self._entries.values() if entry.phase not in TERMINAL}

    def count(self, phase: Phase) -> int:
        """Returns the number of runs in this phase."""
        return self._phases[phase]

    def _put(self, key: Key, entry: _Entry) -> None:
        self._remove(key)
        self._entries[key] = entry
        self._phases[entry.phase] += 1
        if entry.active or entry.waits:
            self._contenders.setdefault(entry.profile, {})[key] = entry

    def _remove(self, key: Key) -> _Entry | None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self._phases[removed.phase] -= 1
            contenders = self._contenders.get(removed.profile, {})
            contenders.pop(key, None)
            if not contenders:
                self._contenders.pop(removed.profile, None)
        return removed

    def _next(self, profile: str) -> list[Key]:
        waiting = [(entry.created, key) for key, entry in self._contenders.get(profile, {}).items() if entry.waits]
        return [key for _, key in heapq.nsmallest(MAX_WOKEN, waiting)]


def _status(run: Mapping[str, Any]) -> RunStatus:
    try:
        return read_status(run.get("status")) or RunStatus()
    except DecodeError:
        # Somebody wrote the status by hand. The reconcile handles it.
        return RunStatus()


def _entry(run: Mapping[str, Any], status: RunStatus) -> _Entry:
    metadata = run["metadata"]
    return _Entry(
        uid=metadata["uid"],
        profile=sys.intern(run["spec"]["profileRef"]["name"]),
        created=parse_time(metadata["creationTimestamp"]),
        phase=status.phase,
        active=status.active_since is not None and not status.is_terminal,
        incomplete=status.reason in _INCOMPLETE,
        estimate=status.estimate.seconds if status.estimate else None,
        active_since=None if status.is_terminal else status.active_since,
        active_seconds=status.active_seconds,
        slots=_slots(run["spec"]),
        revision=sys.intern(status.resolved.profile_revision) if status.resolved else "",
        version=resource_version(run),
    )


def _slots(spec: Mapping[str, Any]) -> int:
    training = spec.get("training") or {}
    return int(training.get("workers", 1)) * int(training.get("gpus", 1))


def _queue_entry(key: Key, entry: _Entry, now: datetime) -> QueueEntry:
    remaining = entry.estimate
    if remaining is not None:
        spent = entry.active_seconds + (seconds_between(entry.active_since, now) if entry.active_since else 0.0)
        remaining = max(0, round(remaining - spent))
    return QueueEntry(*key, created=entry.created, active=entry.active, remaining_seconds=remaining, slots=entry.slots)


@dataclass(frozen=True)
class _Kind:
    namespace: str
    profile: str
    architecture: str
    width: float
    on: str
    gpus: int
    workers: int


@dataclass(frozen=True)
class _Timing:
    run: str
    ended: str
    seconds_per_image: float
    # The time that the run was active and did not train.
    other_seconds: int


class EstimateModel:
    """The times of runs that succeeded. For one thread at a time."""

    def __init__(self) -> None:
        self._newest: dict[_Kind, _Timing] = {}
        self._learned: set[str] = set()

    def learn(self, run: Mapping[str, Any], status: RunStatus) -> None:
        """Learns the times of a run that succeeded, unless one of its kind ended later. Does nothing for others."""
        uid = run["metadata"]["uid"]
        if status.phase is not Phase.SUCCEEDED or uid in self._learned:
            return
        try:
            spec = training_run(run)
        except (SpecError, KeyError, DecodeError):
            # Written by another version.
            return
        self._learned.add(uid)
        if (timing := _timing(run["metadata"]["name"], spec, status)) is None:
            return
        kind = _kind(run["metadata"]["namespace"], spec, on=status.resolved.accelerator if status.resolved else "auto")
        known = self._newest.pop(kind, None)
        self._newest[kind] = known if known is not None and known.ended > timing.ended else timing
        if len(self._newest) > MAX_KINDS:
            del self._newest[next(iter(self._newest))]

    def forget(self, uid: str) -> None:
        """Called when the run is deleted. Its times stay."""
        self._learned.discard(uid)

    def estimate(
        self, namespace: str, spec: TrainingRunSpec, *, on: str, default: ProfileEstimate | None
    ) -> Estimate | None:
        """Returns an estimate by the newest run of the kind, else by the profile's `default`, else None."""
        timing = self._newest.get(_kind(namespace, spec, on=on))
        if timing is not None:
            per_step = timing.seconds_per_image * spec.training.batch_size
            return _estimate(spec, per_step, timing.other_seconds, f"as in run {timing.run}")
        if default is not None:
            per_step = default.seconds_per_step * spec.training.batch_size / ESTIMATE_BATCH_SIZE
            return _estimate(spec, per_step, default.other_seconds, f"by TrainingProfile {spec.profile}")
        return None


def _timing(name: str, spec: TrainingRunSpec, status: RunStatus) -> _Timing | None:
    train = next((item for item in status.stages if item.name is Stage.TRAIN), None)
    # A training that was adopted took its time in an earlier attempt.
    if train is None or train.pod_seconds <= 0 or train.reason is Reason.ADOPTED or status.completion_time is None:
        return None
    images = _steps(spec.training, status) * spec.training.batch_size
    # The time between the stages; a retry sets the active time back.
    between = max(0, status.active_seconds - sum(item.pod_seconds for item in status.stages))
    other = between + sum(_unloaded(item) for item in status.stages if item is not train)
    return _Timing(name, status.completion_time, _unloaded(train) / images, other)


def _unloaded(stage: StageStatus) -> int:
    """Returns the seconds that the next run may need for the stage: it need not find the machine as busy."""
    return min(stage.pod_seconds, stage.unloaded_seconds or stage.pod_seconds)


def _steps(training: Training, status: RunStatus) -> int:
    """Returns the steps of a run that has ended, also where the train stage chose them."""
    if training.steps is None and training.preset is Preset.AUTO and status.dataset is not None:
        return sufficient_steps(status.dataset.train, training.init_from.type, batch_size=training.batch_size)
    return training.expected_steps


def _kind(namespace: str, spec: TrainingRunSpec, *, on: str) -> _Kind:
    model, training = spec.model, spec.training
    size = (str(model.architecture), model.width, on, training.gpus, training.workers)
    return _Kind(namespace, spec.profile, *size)


def _estimate(spec: TrainingRunSpec, per_step: float, other_seconds: int, why: str) -> Estimate:
    shown = f"{per_step:.1f}" if per_step >= 1 else f"{per_step:.2g}"
    basis = f"{shown} s a step {why}, and {duration(other_seconds)} for the other stages"
    return Estimate(round(per_step * spec.training.expected_steps) + other_seconds, bounded(basis, _MAX_BASIS))
