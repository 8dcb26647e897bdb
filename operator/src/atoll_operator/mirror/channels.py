"""The newest version of each channel that a device follows, as the bucket's pointers say."""

import logging

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.errors import IntegrityError
from atoll_contract.manifest import Channel
from atoll_contract.store import ObjectNotFound, Store, StoreForbidden
from atoll_operator.mirror.report_check import MAX_VERSION

logger = logging.getLogger(__name__)

# Reports name the channels, and anybody may write a report: no more pointers than these are read.
MAX_CHANNELS = 100


class ChannelReader:
    """Asks for each channel once in a turn, and the store with the ETag of the last answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str], tuple[str, int | None]] = {}
        self._asked: set[tuple[str, str, str]] = set()

    def begin(self) -> None:
        """A new turn: the answers of the last one may be old."""
        self._known = {channel: known for channel, known in self._known.items() if channel in self._asked}
        self._asked = set()

    def newest(self, namespace: str, model: str, channel: str) -> int | None:
        """The version that the pointer names; None where there is none to read. Raises StoreError."""
        asked = (namespace, model, channel)
        if asked not in self._asked and len(self._asked) < MAX_CHANNELS:
            self._asked.add(asked)
            self._ask(asked)
        return self._known.get(asked, ("", None))[1]

    def _ask(self, asked: tuple[str, str, str]) -> None:
        key = keys.channel(*asked)
        etag = self._known[asked][0] if asked in self._known else None
        try:
            answer = self._store.get_if_changed(key, etag)
            if answer is not None:
                self._known[asked] = (answer[1], _version(answer[0], asked))
        except (ObjectNotFound, StoreForbidden):
            # A mirror whose credentials read reports alone goes by what devices know.
            self._known.pop(asked, None)
        except (DecodeError, IntegrityError) as error:
            logger.warning("the pointer %s cannot be read: %s", key, error)
            self._known.pop(asked, None)


def _version(data: bytes, asked: tuple[str, str, str]) -> int:
    pointer = from_json(Channel, data)
    if (pointer.namespace, pointer.model, pointer.channel) != asked:
        raise DecodeError("it is another channel's")
    if not 1 <= pointer.version <= MAX_VERSION:
        raise DecodeError(f"its version is out of its range, 1 to {MAX_VERSION}")
    return pointer.version
