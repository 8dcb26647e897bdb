"""Roll-out in steps: which devices may take a new version when. Each device decides alone, by a hash of its name.

The plan is part of the manifest, which is signed. The control object beside it is not signed, and can only delay: it
pauses, halts, or moves the steps later. A promotion brings all steps forward; where devices require signatures it is
one, in an envelope of its own type.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.document import Document

# The payload type of a promotion's envelope: none of a manifest passes for one, and the other way round.
PROMOTION_TYPE = "application/vnd.atoll.promotion+json"
MAX_STEPS = 10
ALL_PERCENT = 100


class RolloutStep(Document, frozen=True):
    """From `after_seconds` after the publication on, this share of all devices may take the version."""

    percent: int
    after_seconds: int = 0


class RolloutPlan(Document, frozen=True):
    """Steps of ascending share and time. `halt_at` devices on which the version fails stop it for all that lack it."""

    steps: tuple[RolloutStep, ...]
    halt_at: int = 1


class RolloutState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"


class RolloutControl(Document, frozen=True):
    """The object beside a manifest that delays its roll-out. `delay_seconds` is the time that it was paused before;
    `paused_at` begins a pause or a halt. `failed` are the devices that halted it."""

    manifest_sha256: str
    state: RolloutState
    updated_at: str
    reason: str | None = None
    paused_at: str | None = None
    delay_seconds: int = 0
    failed: tuple[str, ...] = ()
    schema_version: int = 1


class RolloutPromotion(Document, frozen=True):
    """Lets every device take exactly this manifest at once."""

    namespace: str
    model: str
    version: int
    manifest_sha256: str
    schema_version: int = 1


class Turn(StrEnum):
    """What a device does about a version of its channel. Only `due` takes it."""

    DUE = "due"
    WAITING = "waiting"
    PAUSED = "paused"
    HALTED = "halted"


@dataclass(frozen=True)
class RolloutTurn:
    """A device's turn now. `wave` counts from 1, and is one more than there are steps where none reaches the device;
    `seconds_left` until it is due, None where only a promotion or a resumption brings it."""

    turn: Turn
    wave: int
    seconds_left: float | None = None


def share_of(device: str, namespace: str, model: str, version: int) -> float:
    """Where a device stands among all, 0 ≤ share < 100: another place for each version, the same on every machine."""
    text = "\n".join((namespace, model, str(version), device)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") * ALL_PERCENT / 2**64


def wave_of(plan: RolloutPlan, share: float) -> int:
    """The number of the first step, from 1, that reaches a device; one more than there are where none does."""
    return next((number for number, step in enumerate(plan.steps, 1) if share < step.percent), len(plan.steps) + 1)


def turn_of(plan: RolloutPlan, share: float, *, age_seconds: float, control: RolloutControl | None) -> RolloutTurn:
    """What a device does now; `age_seconds` have passed since the manifest's `created_at`."""
    wave = wave_of(plan, share)
    if control is not None and control.state is not RolloutState.RUNNING:
        halted = control.state is RolloutState.HALTED
        return RolloutTurn(Turn.HALTED if halted else Turn.PAUSED, wave)
    if wave > len(plan.steps):
        return RolloutTurn(Turn.WAITING, wave)
    # Whoever writes the control object may delay, and never bring a step forward.
    delay = max(0, control.delay_seconds) if control is not None else 0
    left = plan.steps[wave - 1].after_seconds + delay - age_seconds
    # Of the first step nobody waits for a clock: a device may know the time a little worse than the publisher.
    if left <= 0 or (plan.steps[wave - 1].after_seconds == 0 and delay == 0):
        return RolloutTurn(Turn.DUE, wave)
    return RolloutTurn(Turn.WAITING, wave, left)
