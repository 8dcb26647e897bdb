"""What an archive from a stranger may hold: its names, sizes, counts and ratios, and how messages show them."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError, Reason

# Archives are read and written in pieces of this size.
PIECE = 2**20
# Bytes below which the ratio is not checked: small text files may well be packed this tightly.
_RATIO_FREE = 2**20
_SHOWN = 120
_DRIVE = re.compile(r"^[A-Za-z]:")
# What operating systems and tools leave beside the files of a user.
_LITTER = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "icon\r"})
_LITTER_FOLDERS = frozenset(
    {
        "__macosx",
        ".git",
        ".svn",
        ".idea",
        ".vscode",
        ".ipynb_checkpoints",
        "__pycache__",
        ".spotlight-v100",
        ".fseventsd",
        ".trashes",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    }
)


@dataclass(frozen=True)
class Entry:
    """A file of an archive, or a folder (its name ends in `/`). Read all of `pieces` before the next entry. `packed`
    is the size in the archive, where its format says that. `start` is where a tar that is no gzip has the bytes."""

    number: int
    raw_name: bytes
    size: int
    pieces: Iterator[bytes]
    packed: int | None = None
    start: int = 0


def shown(text: str | bytes, limit: int = _SHOWN) -> str:
    """User text for a message: quoted, on one line, control characters and bad bytes escaped, cut to `limit`."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return '"' + "".join(_escaped(c) for c in cut) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def comparable(name: str) -> str:
    """`name` as it is compared: equal for two names that are one file on macOS or Windows."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_name(raw: bytes, *, number: int, limits: DatasetLimits) -> str:
    """Returns the member's path inside the archive, with `/` between its parts and without `.` and empty parts.

    Raises:
        DatasetError: the path could leave the archive (DatasetUnsafe), is over a limit (DatasetTooLarge) or is
            not UTF-8 (DatasetMalformed).
    """

    def refused(reason: Reason, what: str) -> DatasetError:
        return DatasetError(reason, f"member {number} {shown(raw)}: {what}")

    if len(raw) > limits.path_bytes:
        raise refused(Reason.DATASET_TOO_LARGE, f"path of {len(raw)} bytes, limit {limits.path_bytes}")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise refused(Reason.DATASET_MALFORMED, "the name is not UTF-8; rename the file and pack it again") from None
    for danger in _dangers(name):
        raise refused(Reason.DATASET_UNSAFE, danger)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > limits.path_levels:
        raise refused(Reason.DATASET_TOO_LARGE, f"{len(parts)} folder levels, limit {limits.path_levels}")
    return unicodedata.normalize("NFC", "/".join(parts))


def _dangers(name: str) -> Iterator[str]:
    if "\0" in name:
        yield "NUL in the name"
    if name.startswith("/"):
        yield "absolute path"
    if _DRIVE.match(name):
        yield "path with a drive letter"
    if "\\" in name:
        yield "backslash in the path"
    if ".." in name.split("/"):
        yield "path leaves the archive"


def is_litter(name: str) -> bool:
    """Whether the member of this path is litter: resource forks, previews, folders of version control and the like."""
    path = PurePosixPath(name)
    base = path.name.lower()
    folders = (part.lower() for part in path.parts[:-1])
    return base.startswith("._") or base in _LITTER or any(folder in _LITTER_FOLDERS for folder in folders)


class Meter:
    """Counts the members and the expanded bytes of one archive of `archive_bytes`; raises DatasetError at a limit."""

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
        """Raises DatasetError where `packed` bytes expand to more than the ratio allows."""
        if expanded > _RATIO_FREE and expanded > self.limits.expansion_ratio * max(1, packed):
            raise _too_large(
                f"ratio {expanded // max(1, packed)}:1 at member {self.members} {shown(name)}, "
                f"limit {self.limits.expansion_ratio}:1"
            )


def size(count: int) -> str:
    """A number of bytes with a unit, such as `256 MiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def _too_large(message: str) -> DatasetError:
    return DatasetError(Reason.DATASET_TOO_LARGE, message)
