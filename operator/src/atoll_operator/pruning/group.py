"""Objects that go together, and the limits by which they do. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.store import ObjectInfo

DAY = 86400.0
# What no option shortens: a device may still be on its way to a release (fault E14).
RELEASE_AGE_SECONDS = 30 * DAY


class Kind(StrEnum):
    """In the order in which they go: what names other objects goes before them."""

    VERSION = "version"
    RUN = "run"
    CONVERSION = "conversion"
    BLOB = "blob"
    HARVEST = "harvest"
    UPLOAD = "upload"


@dataclass(frozen=True)
class Limits:
    """`older_than` in seconds. `keep` is how many versions of each model stay in any case; None: all of them."""

    older_than: float
    keep: int | None = None


@dataclass(frozen=True)
class Group:
    """`keys` in the order in which they go, so that what is left of a group half gone is never taken for whole."""

    kind: Kind
    name: str
    why: str
    keys: tuple[str, ...]
    size: int
    # When the last of them was written, in seconds since 1970.
    newest: float


def group(kind: Kind, name: str, why: str, objects: Sequence[ObjectInfo], *, first: str = "") -> Group:
    """A group of these objects; the one whose key ends with `first` goes before the others."""
    ordered = sorted((info.key for info in objects), key=lambda key: (not key.endswith(first), key))
    return Group(kind, name, why, tuple(ordered), sum(info.size for info in objects), newest(objects))


def newest(objects: Sequence[ObjectInfo]) -> float:
    """When the last of the objects was written. One whose time nobody knows is never old."""
    return max(math.inf if info.modified_at is None else info.modified_at for info in objects)


def days(seconds: float) -> str:
    """`1 day`, `40 days`."""
    count = int(seconds // DAY)
    return f"{count} day" if count == 1 else f"{count} days"
