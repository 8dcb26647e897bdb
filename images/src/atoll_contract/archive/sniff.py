"""What a file is, by its first bytes: an archive that Atoll reads, or what the message calls it."""

from enum import StrEnum

from atoll_contract.archive.limits import shown
from atoll_contract.archive.tar import BLOCK, is_header
from atoll_contract.errors import DatasetError, Reason

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
HEAD_BYTES = BLOCK


class ArchiveKind(StrEnum):
    TAR = "tar"
    GZIP = "gzip"
    ZIP = "zip"


_KINDS_OF_SUFFIX = {
    # Browsers keep the name and unpack gzip on the way, or pack on the way and keep the name.
    ".tar": (ArchiveKind.TAR, ArchiveKind.GZIP),
    ".tar.gz": (ArchiveKind.GZIP, ArchiveKind.TAR),
    ".tgz": (ArchiveKind.GZIP, ArchiveKind.TAR),
    ".zip": (ArchiveKind.ZIP,),
}
_SUFFIX_OF_KIND = {ArchiveKind.TAR: ".tar", ArchiveKind.GZIP: ".tar.gz", ArchiveKind.ZIP: ".zip"}
_PACK = "unpack it and pack its files as .zip or .tar"
_OTHER = (
    (b"\xfd7zXZ\0", "xz", _PACK),
    (b"BZh", "bzip2", _PACK),
    (b"\x28\xb5\x2f\xfd", "zstd", _PACK),
    (b"\x04\x22\x4d\x18", "lz4", _PACK),
    (b"7z\xbc\xaf\x27\x1c", "7z", _PACK),
    (b"Rar!", "RAR", _PACK),
    (b"\xff\xd8\xff", "one JPEG picture", "pack pictures and labels as .zip or .tar"),
    (b"\x89PNG", "one PNG picture", "pack pictures and labels as .zip or .tar"),
    (b"%PDF", "PDF", "give the export itself"),
    (b"version https://git-lfs", "the pointer of Git LFS", "fetch the file itself with git lfs pull"),
)
_WEB_PAGE = (b"<!doctype html", b"<html")


def archive_kind(head: bytes, name: str) -> ArchiveKind:
    """The kind of the archive `name`, whose first `HEAD_BYTES` are `head`: gzip is told from tar by its content.

    Raises:
        DatasetError: DatasetMalformed, the name has no suffix of an archive or the content is something else.
    """
    suffix = next((suffix for suffix in _KINDS_OF_SUFFIX if name.lower().endswith(suffix)), "")
    kind = _kind_of_head(head)
    if kind in _KINDS_OF_SUFFIX.get(suffix, ()):
        return kind
    if kind is not None:
        what, advice = str(kind), f"rename it so that its name ends in {_SUFFIX_OF_KIND[kind]}"
    else:
        what, advice = _other(head)
    raise DatasetError(
        Reason.DATASET_MALFORMED,
        f"its content is {what}, first bytes {shown(head[:8])}; allowed are {', '.join(ARCHIVE_SUFFIXES)}, each under "
        f"its own suffix: {advice}",
    )


def require_tar(head: bytes) -> None:
    """Raises DatasetError where the first `HEAD_BYTES` of what gzip unpacks are no tar."""
    kind = _kind_of_head(head)
    if kind is not ArchiveKind.TAR and len(head) == HEAD_BYTES:
        what = str(kind) if kind else _other(head)[0]
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"unpacked by gzip its content is {what}, first bytes {shown(head[:8])}, and no tar: unpack it, and pack "
            "labels and pictures as .zip or .tar",
        )


def _kind_of_head(head: bytes) -> ArchiveKind | None:
    if head.startswith(b"\x1f\x8b"):
        return ArchiveKind.GZIP
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ArchiveKind.ZIP
    # Tars before POSIX have no magic number, but the checksum of a header. An empty one begins with its end mark.
    if head[257:262] == b"ustar" or head == bytes(BLOCK) or is_header(head):
        return ArchiveKind.TAR
    return None


def _other(head: bytes) -> tuple[str, str]:
    """What the file is called, and what to do."""
    for magic, what, advice in _OTHER:
        if head.startswith(magic):
            return what, advice
    if head.lstrip().lower().startswith(_WEB_PAGE):
        return "a web page", "download the export again, logged in"
    if head.strip(b"\0") and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "no archive (no tar header) but text", "pack labels and pictures as .zip or .tar"
    return "no archive (no tar header)", "pack it again, or download it again"
