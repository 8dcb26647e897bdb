"""What an archive may cost: every byte and member of it is counted here before it is kept."""

from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import DatasetLimits

# Read and write in pieces of this size.
PIECE = 2**20
# Small archives of text may pass the ratio honestly (padding, repeated keys); it counts beyond this.
_RATIO_FREE = 2**20


class Meter:
    """Counts members and expanded bytes of one archive of `archive_bytes`, and stops it at the first limit."""

    def __init__(self, limits: DatasetLimits, archive_bytes: int) -> None:
        if archive_bytes > limits.archive_bytes:
            raise _too_large(f"the archive has {size(archive_bytes)}, limit {size(limits.archive_bytes)}")
        self.limits = limits
        self.archive_bytes = archive_bytes
        self.members = 0
        self.expanded = 0

    def next_member(self) -> int:
        """The number of the next member, from 1."""
        self.members += 1
        if self.members > self.limits.members:
            raise _too_large(f"more than {self.limits.members} members; split the dataset into several archives")
        return self.members

    def header(self, header_bytes: int) -> None:
        """Called before a header of `header_bytes` is read into memory."""
        if not 0 <= header_bytes <= self.limits.header_bytes:
            raise _too_large(
                f"header of {header_bytes} bytes at member {self.members + 1}, limit {self.limits.header_bytes}"
            )

    def declare(self, name: str, member_bytes: int) -> None:
        """Called with the size that a member claims, before any of it is read."""
        if member_bytes > self.limits.member_bytes:
            raise _too_large(
                f"member {self.members} {shown(name)} has {size(member_bytes)}, limit {size(self.limits.member_bytes)}"
            )

    def grow(self, expanded: int, *, name: str) -> None:
        """Called with each piece of expanded bytes, before it is written."""
        self.expanded += expanded
        if self.expanded > self.limits.expanded_bytes:
            raise _too_large(
                f"expanded past {size(self.limits.expanded_bytes)} "
                f"(ratio {self.expanded // max(1, self.archive_bytes)}:1) at member {self.members} {shown(name)}"
            )
        self.ratio(self.expanded, self.archive_bytes, name=name)

    def ratio(self, expanded: int, packed: int, *, name: str) -> None:
        """Refuses `packed` bytes that grow to `expanded` beyond the ratio."""
        if expanded > _RATIO_FREE and expanded > self.limits.expansion_ratio * max(1, packed):
            raise _too_large(
                f"ratio {expanded // max(1, packed)}:1 at member {self.members} {shown(name)}, "
                f"limit {self.limits.expansion_ratio}:1"
            )


def size(count: int) -> str:
    """A byte count as people read it: `256 MiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def _too_large(message: str) -> DatasetError:
    return DatasetError(Reason.DATASET_TOO_LARGE, message)
