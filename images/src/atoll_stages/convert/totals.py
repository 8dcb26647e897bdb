"""The totals of a dataset: what became of every member, picture and object, and the check that no one is missing.

Two sides are counted apart: what readers meet, and what the store of examples and the list of problems hold in the
end. Where they differ, something was lost in silence, and the conversion ends with an internal error.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from atoll_contract.errors import AtollError, Reason

USED = "used"
SEEN = "seen"
# What a user asks for, and what is there twice with the same content, is no problem.
IGNORED = "ignoredAsAsked"
REPEATED = "repeated"


class Fate(IntEnum):
    """What a reader did with a member; of several, the highest counts."""

    UNMET = 0
    LEFT_OUT = 1
    DESCRIPTION = 2
    ANNOTATION = 3


class MemberFates:
    """The fate of each member of an archive by its number, in one byte each."""

    def __init__(self) -> None:
        self._fates = bytearray()

    def mark(self, number: int, fate: Fate) -> None:
        missing = number + 1 - len(self._fates)
        if missing > 0:
            self._fates.extend(bytes(missing))
        self._fates[number] = max(self._fates[number], fate)

    def of(self, number: int) -> Fate:
        return Fate(self._fates[number]) if number < len(self._fates) else Fate.UNMET


@dataclass
class Totals:
    """What was met in all archives of a conversion, and what readers left out with the reason.

    `seen` counts members, pictures and objects as they are met. `objects_left_out` has those of which the problems
    list something else: the picture that is missing, or the annotation that is there twice.
    """

    seen: Counter[str] = field(default_factory=Counter)
    members: Counter[str] = field(default_factory=Counter)
    objects_left_out: Counter[str] = field(default_factory=Counter)

    def closed(
        self, *, images: Mapping[str, int], objects: Mapping[str, int], same: Mapping[str, tuple[int, int]]
    ) -> dict[str, dict[str, int]]:
        """Returns the totals by members, pictures and objects: how many were seen, and what became of them.

        `images` and `objects` are counts of what is used and left out, `same` pairs that must be equal.

        Raises:
            AtollError: InternalError, a sum does not hold.
        """
        objects = Counter(objects) + self.objects_left_out
        parts: dict[str, Mapping[str, int]] = {"members": self.members, "pictures": images, "objects": objects}
        for what, (one, other) in same.items():
            require_equal(what, one, other)
        for name, counts in parts.items():
            require_equal(f"{name} seen, and the sum of {dict(counts)}", self.seen[name], sum(counts.values()))
        return {
            name: {SEEN: self.seen[name], **{key: count for key, count in sorted(counts.items()) if count}}
            for name, counts in parts.items()
        }


def require_equal(what: str, one: int, other: int) -> None:
    """Raises an InternalError that names the sum where two counts of the same things differ."""
    if one != other:
        raise AtollError(Reason.INTERNAL_ERROR, f"the totals of the dataset do not add up: {what}: {one} ≠ {other}")
