"""An archive that is dropped on the page: streamed to the disk, never held in memory, within bounds."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, Protocol

from atoll_contract.errors import DatasetError, SpecError
from atoll_contract.reasons import Reason

MAX_BYTES = 50 * 2**30
# What is left free on the disk: a run needs some for itself.
SPARED_BYTES = 2**30
_PIECE = 1 << 20
_NAME = re.compile(r"\w[\w. ()+-]{0,127}")
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


class Readable(Protocol):
    """What a request's body can be read from."""

    def read(self, size: int, /) -> bytes: ...


def archive_name(given: str) -> str:
    """The file name for the store: the user's, where it is a plain one.

    Raises:
        SpecError: it names a place, or is no archive's.
    """
    if not _NAME.fullmatch(given):
        raise SpecError(f"the file is called {given[:80]!r}; call it by letters, digits, dots, dashes and blanks")
    if not given.lower().endswith(_SUFFIXES):
        raise SpecError(f"{given} is no archive; export a .tar, .tar.gz or .zip from the labelling tool")
    return given


def received(stream: Readable, length: int, folder: Path, name: str) -> Path:
    """`length` bytes of the stream as a file of that name in a new folder below `folder`; `dropped` removes both.

    Raises:
        DatasetError: DatasetTooLarge. SpecError: the disk has no room, or the browser went away.
    """
    if length > MAX_BYTES:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE, f"the archive has {length / 2**30:.1f} GiB; the page takes {MAX_BYTES // 2**30}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    # The store keeps a copy of its own, for a moment beside this one.
    if 2 * length + SPARED_BYTES > free:
        raise SpecError(
            f"the archive has {length / 2**20:.0f} MiB and the disk of {folder} {free / 2**20:.0f} MiB free; "
            f"twice its size and {SPARED_BYTES // 2**20} MiB are needed",
            Reason.EPHEMERAL_STORAGE_EXCEEDED,
        )
    path = Path(tempfile.mkdtemp(dir=folder, prefix="upload-")) / name
    try:
        with path.open("xb") as target:
            _copy(stream, target, length)
    except BaseException:
        dropped(path)
        raise
    return path


def dropped(path: Path) -> None:
    """Remove an upload and the folder that was made for it."""
    shutil.rmtree(path.parent, ignore_errors=True)


def _copy(stream: Readable, target: IO[bytes], length: int) -> None:
    left = length
    while left:
        piece = stream.read(min(_PIECE, left))
        if not piece:
            raise SpecError(f"the browser went away {left} bytes before the end; drop the file once more")
        target.write(piece)
        left -= len(piece)
