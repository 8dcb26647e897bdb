"""The kinds that Atoll reads and writes, as they stand in the API server's URLs."""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind as it stands in a URL. `path` is `api/v1` or `apis/<group>/<version>`."""

    path: str
    plural: str

    def url(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of one object, or of the collection."""
        parts = [self.path]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="/") for part in parts)


ATOLL = "apis/atoll.dev/v1alpha1"
RUNS = Resource(ATOLL, "trainingruns")
STORES = Resource(ATOLL, "objectstores")
PROFILES = Resource(ATOLL, "trainingprofiles")
RELEASES = Resource(ATOLL, "modelreleases")
JOBS = Resource("apis/batch/v1", "jobs")
PODS = Resource("api/v1", "pods")
SERVICES = Resource("api/v1", "services")
NODES = Resource("api/v1", "nodes")
EVENTS = Resource("api/v1", "events")
REVISIONS = Resource("apis/apps/v1", "controllerrevisions")
LEASES = Resource("apis/coordination.k8s.io/v1", "leases")
