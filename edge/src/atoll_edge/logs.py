"""The agent's log: one line on stderr for each message, and a message that repeats itself once a minute.

A camera that is away, a card that became read-only or a bucket out of reach say the same again and again; journald
keeps every line on the SD card.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

REPEAT_SECONDS = 60.0
# Of so many different messages each is told from its repetitions.
MAX_MESSAGES = 256
_SILENT = logging.CRITICAL + 1


class RepetitionFilter(logging.Filter):
    """Passes a message that was not passed within REPEAT_SECONDS; its next line says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # The time of a message's last line, and how often it was left out since.
        self._passed: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        with self._lock:
            left_out = self._count((record.name, message))
        if left_out is None:
            return False
        if left_out:
            record.msg, record.args = f"{message} ({left_out} more times since the last line)", None
        return True

    def _count(self, key: tuple[str, str]) -> int | None:
        """Returns how often the message was left out since its last line; None if it is left out now too."""
        now = self._clock()
        last, left_out = self._passed.get(key, (None, 0))
        if last is not None and now - last < REPEAT_SECONDS:
            self._passed[key] = (last, left_out + 1)
            return None
        self._passed[key] = (now, 0)
        self._passed.move_to_end(key)
        while len(self._passed) > MAX_MESSAGES:
            self._passed.popitem(last=False)
        return left_out


def set_up_logging() -> None:
    """Sends the log of this process to stderr."""
    handler = logging.StreamHandler()
    handler.addFilter(RepetitionFilter())
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[handler]
    )


def take_camera_log() -> None:
    """Takes cscore's messages into this log, instead of straight to stderr."""
    import cscore

    cscore.enableLogging(logging.INFO)


def drop_camera_log() -> None:
    """Ends `take_camera_log`: cscore's threads outlive the interpreter, and may not call it then."""
    import cscore

    cscore.enableLogging(_SILENT)
