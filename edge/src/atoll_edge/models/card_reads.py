"""Reading from a worn card, whose errors may pass."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Errors of the card itself. They may pass; others (no right, too many open files) say nothing about its content.
CARD_ERRORS = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOTDIR, errno.EISDIR})
READ_TRIES = 3
READ_PAUSE_SECONDS = 0.05


class ReleaseDamaged(RuntimeError):
    """A file of a release on this disk is missing or changed."""


def read_again(path: Path, read: Callable[[], T]) -> T:
    """Returns what `read` does, which is tried again after errors of the card.

    Raises:
        ReleaseDamaged: the file is not there, or the card does not give it back.
        OSError: it cannot be read for another reason.
    """
    for tried in range(1, READ_TRIES + 1):
        try:
            return read()
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno not in CARD_ERRORS:
                raise
            if tried == READ_TRIES:
                raise ReleaseDamaged(f"{path}: {error.strerror} ({READ_TRIES} tries)") from None
        time.sleep(READ_PAUSE_SECONDS)
    raise ReleaseDamaged(f"{path} is missing")
