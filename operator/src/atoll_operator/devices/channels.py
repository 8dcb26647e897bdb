"""The newest version of each channel that a device follows, as the bucket's pointers say."""

import logging
from collections.abc import Callable

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.release import Channel
from atoll_contract.stage import StoreSpec
from atoll_contract.store.base import ObjectNotFound, Store, StoreForbidden
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_operator.api.parse import object_store
from atoll_operator.devices.config import Settings
from atoll_operator.devices.reports import MAX_VERSION
from atoll_operator.jobs.stage_input import store_spec
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.objects import STORES

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


# The next turn is soon: no call waits as long as a stage's would.
STORE_SECONDS = 20.0

OpenStore = Callable[[StoreSpec], Store]


def open_bucket(spec: StoreSpec) -> Store:
    """The bucket, whose every call gives up within about `STORE_SECONDS`."""
    return S3Store(spec, backoff=Backoff(total=STORE_SECONDS))


class Bucket:
    """Opens the store anew when the ObjectStore says another one."""

    def __init__(self, cluster: Cluster, settings: Settings, *, open_store: OpenStore = open_bucket) -> None:
        self._cluster = cluster
        self._settings = settings
        self._open = open_store
        self._opened: tuple[StoreSpec, Store] | None = None

    def store(self) -> Store:
        """The same object as last time where nothing changed.

        Raises:
            SpecError: there is no such ObjectStore.
            ClusterError: the API server did not tell.
        """
        spec = self._spec()
        if self._opened is None or self._opened[0] != spec:
            self._opened = (spec, self._open(spec))
            logger.info("reads %s", self._opened[1].url)
        return self._opened[1]

    def _spec(self) -> StoreSpec:
        settings = self._settings
        body = self._cluster.read(STORES, settings.namespace, settings.store)
        if body is None:
            text = f"there is no ObjectStore {settings.store!r} in namespace {settings.namespace}"
            raise SpecError(text, Reason.OBJECT_STORE_NOT_FOUND)
        # The annotation that makes a folder of it is the embedded engine's; here it would name the mirror's own disk.
        store = replace(object_store(body), directory=None)
        ca = f"{settings.ca_dir}/{store.ca_bundle.key}" if store.ca_bundle else None
        return store_spec(store, credentials_dir=settings.credentials_dir, ca_bundle_path=ca)
