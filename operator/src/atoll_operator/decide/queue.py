"""Who of a profile's runs may work: first come, first served, by creation. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from atoll_operator.views import QueueView

# Estimates are rounded up to whole steps, so that a place in the queue is written when it changes, not every minute.
ETA_STEP_SECONDS = 300


@dataclass(frozen=True)
class QueueEntry:
    """A run of the profile that is neither terminal nor suspended. `active`: it was let in (`status.activeSince`)."""

    namespace: str
    name: str
    created: datetime
    active: bool = False
    remaining_seconds: int | None = None

    @property
    def order(self) -> tuple[datetime, str, str]:
        return (self.created, self.namespace, self.name)


def place(namespace: str, name: str, entries: Iterable[QueueEntry], *, slots: int) -> QueueView:
    """The place of one run among `entries` (its own entry included) where `slots` runs may work at once."""
    listed = sorted(entries, key=lambda entry: entry.order)
    own = next(entry for entry in listed if (entry.namespace, entry.name) == (namespace, name))
    others = [entry for entry in listed if entry is not own]
    active = [entry for entry in others if entry.active]
    if own.active:
        return QueueView(others_active=bool(active))
    earlier = [entry for entry in others if not entry.active and entry.order < own.order]
    ahead = max(0, len(active) + len(earlier) - slots + 1)
    return QueueView(ahead, _eta([*active, *earlier], slots) if ahead else None, bool(active))


def _eta(before: list[QueueEntry], slots: int) -> int | None:
    remaining = [entry.remaining_seconds for entry in before]
    if any(seconds is None for seconds in remaining):
        return None
    total = sum(seconds for seconds in remaining if seconds is not None) / max(1, slots)
    return int(-(-total // ETA_STEP_SECONDS) * ETA_STEP_SECONDS)
