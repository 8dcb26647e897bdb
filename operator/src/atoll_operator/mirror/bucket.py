"""The bucket that the ObjectStore of the mirror's namespace names."""

import logging
from collections.abc import Callable
from dataclasses import replace

from atoll_contract.backoff import Backoff
from atoll_contract.errors import SpecError
from atoll_contract.reasons import Reason
from atoll_contract.s3store import S3Store
from atoll_contract.stage import StoreSpec
from atoll_contract.store import Store
from atoll_operator.api.parse import object_store
from atoll_operator.api.stage_input import store_spec
from atoll_operator.kube.cluster import Cluster
from atoll_operator.kube.resources import STORES
from atoll_operator.mirror.settings import Settings

logger = logging.getLogger(__name__)

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
