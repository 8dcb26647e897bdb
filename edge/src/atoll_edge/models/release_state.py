"""What the device remembers about models, and every way that it changes. Pure; `device_store` keeps it on disk.

A release is named by the hex sha256 of its manifest. `candidate` is proven but has not served yet, or is on probation;
`attempts` counts its activations and is on disk before each, so that a model that takes the whole device down is not
tried for ever.
"""

from collections.abc import Mapping

from msgspec import field

from atoll_contract.document import Document, replace
from atoll_contract.errors import AtollError, Reason

MAX_ATTEMPTS = 2
MAX_BAD = 32


class StateError(ValueError):
    """What was asked for does not fit the state; the text is for the user."""


class DeviceState(Document, frozen=True):
    """`state.json`. `sequences` holds, for `<namespace>/<model>`, the highest sequence that served."""

    current: str | None = None
    previous: str | None = None
    candidate: str | None = None
    attempts: int = 0
    pinned: str | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    last_refusal: str | None = None
    schema_version: int = 1

    @property
    def kept(self) -> set[str]:
        """Releases that must stay on disk."""
        return {name for name in (self.current, self.previous, self.candidate, self.pinned) if name is not None}


def staged(state: DeviceState, release: str, *, pin: bool = False) -> DeviceState:
    """A proven release that shall serve next. `pin`: a person chose it, the store does not replace it."""
    if release == state.current:
        return replace(state, candidate=None, attempts=0, pinned=release if pin else state.pinned)
    return replace(state, candidate=release, attempts=0, pinned=release if pin else state.pinned)


def activating(state: DeviceState) -> DeviceState:
    """To be on disk before the candidate serves."""
    return replace(state, attempts=state.attempts + 1)


def untried(state: DeviceState, release: str) -> DeviceState:
    """The candidate's last activation told nothing about it."""
    return replace(state, attempts=max(0, state.attempts - 1)) if state.candidate == release else state


def committed(state: DeviceState, release: str, *, model: str, sequence: int) -> DeviceState:
    """The candidate `release` passed its probation; nothing where somebody pinned or rolled back meanwhile."""
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


def refused(state: DeviceState, release: str | None, reason: str) -> DeviceState:
    """A release will not serve; with `release` it is never tried again. A pin on it ends."""
    if release is None:
        return replace(state, last_refusal=reason)
    bad = dict(list(state.bad.items())[-(MAX_BAD - 1) :])
    bad[release] = reason
    candidate = None if state.candidate == release else state.candidate
    return replace(
        state,
        candidate=candidate,
        attempts=0 if candidate is None else state.attempts,
        pinned=None if state.pinned == release else state.pinned,
        bad=bad,
        last_refusal=reason,
    )


def given_up(state: DeviceState, release: str, reason: str) -> DeviceState:
    """The release that serves cannot be loaded any more: the one before serves, and the channel is still followed."""
    if state.current != release or state.previous is None:
        return replace(state, last_refusal=reason)
    return refused(replace(state, current=state.previous, previous=None), release, reason)


def mended(state: DeviceState) -> DeviceState:
    """The store wants what serves already: an earlier refusal is history."""
    return replace(state, last_refusal=None)


def at_boot(state: DeviceState) -> DeviceState:
    """The state after a start: a candidate that was activated twice without passing is given up."""
    if state.candidate is not None and state.attempts >= MAX_ATTEMPTS:
        return refused(state, state.candidate, f"the device stopped {state.attempts} times while it was on probation")
    return state


def damaged(state: DeviceState, release: str) -> DeviceState:
    """The files of `release` are not what they were (a worn SD card): it is forgotten, so that it can come again."""
    fallback = state.previous if state.previous != release else None
    return replace(
        state,
        current=fallback if state.current == release else state.current,
        previous=None if release in (state.current, state.previous) else state.previous,
        candidate=None if state.candidate == release else state.candidate,
        pinned=None if state.pinned == release else state.pinned,
        last_refusal=f"the files of release {release[:12]} were damaged on this device",
    )


def pinned(state: DeviceState) -> DeviceState:
    """Stay with what serves now.

    Raises:
        StateError: nothing serves.
    """
    if state.current is None:
        raise StateError("there is no model to pin yet")
    return replace(state, pinned=state.current, candidate=None, attempts=0)


def unpinned(state: DeviceState) -> DeviceState:
    """Follow the channel again."""
    return replace(state, pinned=None)


def rolled_back(state: DeviceState) -> DeviceState:
    """Serve the release before, and stay with it.

    Raises:
        StateError: there is none.
    """
    if state.previous is None:
        raise StateError("there is no earlier release on this device to roll back to")
    return replace(
        state, current=state.previous, previous=state.current, pinned=state.previous, candidate=None, attempts=0
    )


class Refusal(AtollError):
    """A release will not be served as it is now; another look may find it, or this device's settings, mended."""


class FinalRefusal(Refusal):
    """`release`, by the digest of its manifest, was tried and failed: these bytes are never tried again."""

    def __init__(self, reason: Reason, message: str, release: str) -> None:
        super().__init__(reason, message)
        self.release = release
