"""Names inside an archive: what is refused, how they compare, how messages show them."""

import re
import unicodedata
from collections.abc import Iterator

from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import DatasetLimits

_SHOWN = 120
_DRIVE = re.compile(r"^[A-Za-z]:")


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
    """`name` as it compares: two members that fall on one file on macOS or Windows have the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_name(raw: bytes, *, number: int, limits: DatasetLimits) -> str:
    """The member's path inside the archive with `/` between its parts, without `.` and empty parts.

    Raises:
        DatasetError: the path could leave the archive (DatasetUnsafe), is over a limit (DatasetTooLarge) or is
            not UTF-8 (DatasetMalformed).
    """
    where = f"member {number} {shown(raw)}"
    if len(raw) > limits.path_bytes:
        raise DatasetError(Reason.DATASET_TOO_LARGE, f"{where}: path of {len(raw)} bytes, limit {limits.path_bytes}")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise DatasetError(
            Reason.DATASET_MALFORMED, f"{where}: the name is not UTF-8; rename the file and pack it again"
        ) from None
    for danger in _dangers(name):
        raise DatasetError(Reason.DATASET_UNSAFE, f"{where}: {danger}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > limits.path_levels:
        raise DatasetError(Reason.DATASET_TOO_LARGE, f"{where}: {len(parts)} folder levels, limit {limits.path_levels}")
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
