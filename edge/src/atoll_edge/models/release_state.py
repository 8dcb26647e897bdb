"""The device's record of its releases, and every transition of it. Pure; `release_store` keeps it on disk.

A release is named by the hex sha256 of its manifest. `candidate` is verified, and waits for its trial or is on trial.
`attempts` counts its activations; each is written before the model loads, so that a model that takes the whole device
down is not tried for ever. `canary` and `canary_starts` do the same for its canary run, before it is a candidate.
"""

from collections.abc import Mapping

from msgspec import field

from atoll_contract.document import Document, replace
from atoll_contract.errors import AtollError, Reason

MAX_ATTEMPTS = 2
MAX_BAD = 32
MAX_FORGOTTEN = 8


class StateError(ValueError):
    """The state does not allow the requested change; the text is for the user."""


class Refusal(AtollError):
    """A release cannot be used as it is now; it may pass later, once it or the device's settings are corrected."""


class FinalRefusal(Refusal):
    """The release with this manifest digest was tried and failed: its bytes are never tried again."""

    def __init__(self, reason: Reason, message: str, release: str) -> None:
        super().__init__(reason, message)
        self.release = release


class DeviceState(Document, frozen=True):
    """The document `state.json`. `sequences`: the highest sequence that became current, by `<namespace>/<model>`.
    `forgotten`: releases whose files were damaged here; each was verified, so the same manifest may come again."""

    current: str | None = None
    previous: str | None = None
    candidate: str | None = None
    attempts: int = 0
    pinned: str | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    last_refusal: str | None = None
    # None where there are none, so that older documents stay as they are.
    forgotten: tuple[str, ...] | None = None
    canary: str | None = None
    canary_starts: int | None = None
    schema_version: int = 1

    @property
    def kept(self) -> set[str]:
        """Releases that must stay on disk."""
        return {name for name in (self.current, self.previous, self.candidate, self.pinned) if name is not None}

    def is_known(self, release: str) -> bool:
        """Returns whether a release was taken before, so that its sequence is no sign of a replaced manifest."""
        return release in (self.current, self.previous) or release in (self.forgotten or ())


def stage(state: DeviceState, release: str, *, pin: bool = False) -> DeviceState:
    """Makes a verified release the candidate. With `pin` a person chose it, and the channel does not replace it."""
    candidate = None if release == state.current else release
    pinned = release if pin else state.pinned
    return replace(end_canary(state), candidate=candidate, attempts=0, pinned=pinned)


def begin_canary(state: DeviceState, release: str) -> DeviceState:
    """Notes that the canary tries a release; to be on disk before it does."""
    before = (state.canary_starts or 0) if state.canary == release else 0
    return replace(state, canary=release, canary_starts=before + 1)


def end_canary(state: DeviceState) -> DeviceState:
    """Takes the note back: the canary ended, or the agent stops at somebody's wish."""
    return replace(state, canary=None, canary_starts=None)


def begin_activation(state: DeviceState) -> DeviceState:
    """Counts an activation of the candidate; to be on disk before its model loads."""
    return replace(state, attempts=state.attempts + 1)


def cancel_activation(state: DeviceState, release: str) -> DeviceState:
    """Takes back the count of an activation that said nothing about the candidate."""
    return replace(state, attempts=max(0, state.attempts - 1)) if state.candidate == release else state


def commit(state: DeviceState, release: str, *, model: str, sequence: int) -> DeviceState:
    """Makes the candidate `release`, which passed its trial, current; no change if it is no longer the candidate."""
    if state.candidate != release:
        return state
    highest = max(sequence, state.sequences.get(model, 0))
    return replace(
        state,
        current=state.candidate,
        previous=state.current,
        candidate=None,
        attempts=0,
        sequences={**state.sequences, model: highest},
        last_refusal=None,
    )


def refuse(state: DeviceState, release: str | None, reason: str) -> DeviceState:
    """Records why a release was refused. With `release` it is never tried again, and a pin on it ends."""
    if release is None:
        return replace(state, last_refusal=reason)
    bad = dict(list(state.bad.items())[-(MAX_BAD - 1) :])
    bad[release] = reason
    candidate = None if state.candidate == release else state.candidate
    return replace(
        end_canary(state) if state.canary == release else state,
        candidate=candidate,
        attempts=0 if candidate is None else state.attempts,
        pinned=None if state.pinned == release else state.pinned,
        bad=bad,
        last_refusal=reason,
    )


def fall_back(state: DeviceState, release: str, reason: str) -> DeviceState:
    """Returns to the previous release, because the current one cannot be loaded any more; sets no pin."""
    if state.current != release or state.previous is None:
        return replace(state, last_refusal=reason)
    return refuse(replace(state, current=state.previous, previous=None), release, reason)


def clear_refusal(state: DeviceState) -> DeviceState:
    """Forgets the last refusal: the channel names a release that the device has."""
    return replace(state, last_refusal=None)


def recover_at_boot(state: DeviceState) -> DeviceState:
    """Refuses, after a start, a release whose canary or trial the agent did not outlive MAX_ATTEMPTS times."""
    if state.canary is not None and (state.canary_starts or 0) >= MAX_ATTEMPTS:
        text = f"the device stopped {state.canary_starts} times during the self-test of release {state.canary[:12]}"
        state = refuse(state, state.canary, text)
    if state.candidate is not None and state.attempts >= MAX_ATTEMPTS:
        return refuse(state, state.candidate, f"the device stopped {state.attempts} times while it was on probation")
    return state


def forget_damaged(state: DeviceState, release: str) -> DeviceState:
    """Forgets a release whose files were damaged (a worn SD card), so that it can be downloaded again.

    Its digest is kept: no other manifest may have its sequence."""
    others = [name for name in state.forgotten or () if name != release]
    fallback = state.previous if state.previous != release else None
    return replace(
        state,
        current=fallback if state.current == release else state.current,
        previous=None if release in (state.current, state.previous) else state.previous,
        candidate=None if state.candidate == release else state.candidate,
        pinned=None if state.pinned == release else state.pinned,
        last_refusal=f"the files of release {release[:12]} were damaged on this device (a worn card?)",
        forgotten=(*others[-(MAX_FORGOTTEN - 1) :], release),
    )


def pin(state: DeviceState) -> DeviceState:
    """Pins the current release.

    Raises:
        StateError: there is none.
    """
    if state.current is None:
        raise StateError("there is no model to pin yet")
    return replace(state, pinned=state.current, candidate=None, attempts=0)


def unpin(state: DeviceState) -> DeviceState:
    """Ends the pin, so that the device follows its channel again."""
    return replace(state, pinned=None)


def roll_back(state: DeviceState) -> DeviceState:
    """Makes the previous release current, and pins it.

    Raises:
        StateError: there is none.
    """
    if state.previous is None:
        raise StateError("there is no earlier release on this device to roll back to")
    return replace(
        state, current=state.previous, previous=state.current, pinned=state.previous, candidate=None, attempts=0
    )
