"""The bucket of the namespace's ObjectStore, and the newest version of each channel by its pointers."""

import logging
from collections.abc import Callable

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace
from atoll_contract.errors import IntegrityError, Reason, SpecError
from atoll_contract.release import Channel
from atoll_contract.store.base import ObjectNotFound, Store, StoreForbidden
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from atoll_operator.api.decode import object_store
from atoll_operator.devices.config import DeviceSettings
from atoll_operator.devices.reports import MAX_VERSION
from atoll_operator.jobs.stage_input import store_spec
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.objects import STORES

logger = logging.getLogger(__name__)

# The next reconcile is soon: a call retries for less time than a stage's would.
STORE_TIMEOUT_SECONDS = 20.0
# Reports name the channels, and anybody may write a report: no more pointers than these are read.
MAX_CHANNELS = 100

OpenStore = Callable[[StoreSpec], Store]


def open_bucket(spec: StoreSpec) -> Store:
    """The bucket; each of its calls gives up within about `STORE_TIMEOUT_SECONDS`."""
    return S3Store(spec, backoff=Backoff(total=STORE_TIMEOUT_SECONDS))


class Bucket:
    """Opens the store again when the ObjectStore has changed."""

    def __init__(self, cluster: Cluster, settings: DeviceSettings, *, open_store: OpenStore = open_bucket) -> None:
        self._cluster = cluster
        self._settings = settings
        self._open = open_store
        self._opened: tuple[StoreSpec, Store] | None = None

    def store(self) -> Store:
        """The same object as last time where nothing changed.

        Raises:
            SpecError: there is no such ObjectStore.
            ClusterError: the API server could not be asked.
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
        # The annotation that makes it a folder is for the embedded engine; here it would name this pod's own disk.
        store = replace(object_store(body), directory=None)
        ca = f"{settings.ca_dir}/{store.ca_bundle.key}" if store.ca_bundle else None
        return store_spec(store, credentials_dir=settings.credentials_dir, ca_bundle_path=ca)


class ChannelReader:
    """Reads each channel's pointer once per reconcile, by the ETag of the last read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # ETag and version by namespace, model and channel.
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}
        self._read: set[tuple[str, str, str]] = set()

    def begin(self) -> None:
        """A new reconcile begins: every pointer may have changed."""
        self._known = {channel: known for channel, known in self._known.items() if channel in self._read}
        self._read = set()

    def newest(self, namespace: str, model: str, channel: str) -> int | None:
        """The version that the pointer names; None where there is none to read. Raises StoreError."""
        key = (namespace, model, channel)
        if key not in self._read and len(self._read) < MAX_CHANNELS:
            self._read.add(key)
            self._read_pointer(key)
        return self._known[key][1] if key in self._known else None

    def _read_pointer(self, channel: tuple[str, str, str]) -> None:
        key = keys.channel(*channel)
        etag = self._known[channel][0] if channel in self._known else None
        try:
            changed = self._store.get_if_changed(key, etag)
            if changed is not None:
                self._known[channel] = (changed[1], _version(changed[0], channel))
        except (ObjectNotFound, StoreForbidden):
            # Credentials may allow the reports alone; then the devices' own desired versions are all there is.
            self._known.pop(channel, None)
        except (DecodeError, IntegrityError) as error:
            logger.warning("the pointer %s cannot be read: %s", key, error)
            self._known.pop(channel, None)


def _version(data: bytes, channel: tuple[str, str, str]) -> int:
    pointer = from_json(Channel, data)
    if (pointer.namespace, pointer.model, pointer.channel) != channel:
        raise DecodeError("it is another channel's")
    if not 1 <= pointer.version <= MAX_VERSION:
        raise DecodeError(f"its version is out of its range, 1 to {MAX_VERSION}")
    return pointer.version
