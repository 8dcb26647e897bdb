"""The operator's calls to the API server. It and `connection.py` are the only modules that import `kubernetes`.

Objects are plain JSON as the server sends them. A missing object is `None`; every other failure is a `ClusterError`.
Every call has a timeout and none is repeated here: that is the work queue's part. Writes ask the fence first, so that
an operator that lost its Lease stops at once. Safe for several threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes.client
import kubernetes.config
import urllib3
import urllib3.exceptions
import yaml

from atoll_operator.kube.clock import ServerClock
from atoll_operator.kube.errors import ClusterError, Unavailable, from_answer, from_status, json_object
from atoll_operator.kube.objects import LEASES, PODS, Resource

if TYPE_CHECKING:
    from atoll_operator.kube.port_forward import PodPort


Body = dict[str, Any]
# Method, plural, HTTP status (0: no answer), seconds.
Observer = Callable[[str, str, int, float], None]

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"
LIST_PAGE = 100
READ_BYTES = 64 * 1024
_VERBS = {"POST": "create", "PUT": "update"}


class Cluster:
    """Reads and writes objects with the operator's own account."""

    def __init__(
        self,
        client: kubernetes.client.ApiClient,
        *,
        timeout_seconds: float = 30.0,
        fence: Callable[[], None] = lambda: None,
        observe: Observer = lambda *_: None,
        clock: ServerClock | None = None,
    ) -> None:
        self._client = client
        self._timeout = (min(10.0, timeout_seconds), timeout_seconds)
        self._fence = fence
        self._observe = observe
        self._clock = clock or ServerClock()

    def read(self, resource: Resource, namespace: str | None, name: str) -> Body | None:
        return self._json("GET", resource, namespace, name)

    def list_all(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Body]:
        """All objects of the namespace (or of all namespaces) that both selectors let through."""
        return list(self.list_each(resource, namespace, labels=labels, fields=fields))

    def list_each(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Iterator[Body]:
        """As `list_all`, but no more than one page is in memory."""
        selectors = {"limit": str(LIST_PAGE), "labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in selectors.items() if value}
        while True:
            page = self._json("GET", resource, namespace, None, query=query) or {}
            yield from page.get("items", [])
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query = query | {"continue": token}

    def version_of(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> str:
        """The collection's version now, from which a watch may begin."""
        query = {"limit": "1", "labelSelector": labels, "fieldSelector": fields}
        page = self._json("GET", resource, namespace, None, query=query) or {}
        return str(page.get("metadata", {}).get("resourceVersion", ""))

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        since: str,
        seconds: int,
        silence: float,
    ) -> Iterator[bytes]:
        """What happens from the version `since` on, each event as a line of JSON, until the server ends the watch
        after `seconds`. Raises Unavailable where not even a bookmark comes for `silence` seconds."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        call = _call_name("WATCH", resource, namespace, None)
        request = self._client.param_serialize(
            "GET", resource.url(namespace), query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=(self._timeout[0], silence)).response
            try:
                if response.status != 200:
                    raise from_answer(call, status=response.status, data=response.read())
                yield from _lines(response)
            finally:
                # What is left of it is of no use, and neither is its connection.
                response.close()
        except (urllib3.exceptions.HTTPError, kubernetes.client.ApiException, OSError) as error:
            raise Unavailable(call, f"no answer from the API server: {error}") from error

    def create(self, resource: Resource, namespace: str | None, body: Body) -> Body:
        """The object as created. Raises AlreadyExists where the name is taken."""
        self._fence()
        return self._must("POST", resource, namespace, None, body=body)

    def patch(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body | None:
        """Merge-patches the object itself."""
        self._fence()
        return self._json("PATCH", resource, namespace, name, body=body)

    def patch_status(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body | None:
        """Merge-patches the status; a resourceVersion in the body makes a stale patch a Conflict."""
        self._fence()
        return self._json("PATCH", resource, namespace, name, subresource="status", body=body)

    def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> None:
        """Deletes this very object, and its dependents in the background. A missing one is fine."""
        self._fence()
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        self._json("DELETE", resource, namespace, name, body=options)

    def read_log_tail(self, namespace: str, pod: str, *, container: str, lines: int) -> str:
        """The last lines of the container's log; empty while there is none."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": "65536"}
        status, data = self._call("GET", PODS, namespace, pod, subresource="log", query=query)
        # 400 is the server's answer for a container that waits to start.
        return data.decode(errors="replace") if status == 200 else ""

    def read_log(self, namespace: str, pod: str, *, container: str, since: str = "") -> str | None:
        """The log from the time `since` on, each line behind its RFC 3339 time; None while there is none."""
        query = {"timestamps": "true", "container": container} | ({"sinceTime": since} if since else {})
        status, data = self._call("GET", PODS, namespace, pod, subresource="log", query=query)
        if status == 200:
            return data.decode(errors="replace")
        if status in (401, 403) or status >= 500:
            raise from_answer(_call_name("GET", PODS, namespace, pod, "log"), status=status, data=data)
        return None

    def open_port(self, namespace: str, pod: str, port: int) -> PodPort:
        """A connection to that port of the pod."""
        from atoll_operator.kube.port_forward import Dialled, authorization, open_pod_port

        _, url, headers, *_ = self._client.param_serialize(
            "GET",
            PODS.url(namespace, pod, "portforward"),
            query_params=[("ports", str(port))],
            auth_settings=["BearerToken"],
        )
        call = _call_name("GET", PODS, namespace, pod, "portforward")
        settings = self._client.configuration
        return open_pod_port(Dialled(call, url, authorization(headers), settings, self._timeout[1]))

    def read_lease(self, namespace: str, name: str) -> Body | None:
        return self._json("GET", LEASES, namespace, name)

    def write_lease(self, namespace: str, lease: Body) -> Body:
        """Creates the Lease, or replaces the version it was read in. Never fenced: it is the fence."""
        known = lease["metadata"].get("resourceVersion")
        name = lease["metadata"]["name"] if known else None
        return self._must("PUT" if known else "POST", LEASES, namespace, name, body=lease)

    def _must(self, method: str, resource: Resource, namespace: str | None, name: str | None, *, body: Body) -> Body:
        answer = self._json(method, resource, namespace, name, body=body)
        if answer is None:
            # The namespace went away, or the CRD is not installed.
            call = _call_name(method, resource, namespace, name)
            raise from_status(call, status=404, reason="NotFound", message=f"no {resource.plural} there")
        return answer

    def _json(
        self,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str | None,
        *,
        subresource: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Body | None:
        status, data = self._call(method, resource, namespace, name, subresource=subresource, query=query, body=body)
        if status == 404:
            return None
        if 200 <= status < 300:
            return json_object(data)
        raise from_answer(_call_name(method, resource, namespace, name, subresource), status=status, data=data)

    def _call(
        self,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str | None,
        *,
        subresource: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one request. Raises Unavailable when there is no answer."""
        headers = {"Accept": "application/json, */*", "Content-Type": MERGE_PATCH if method == "PATCH" else JSON}
        started, status = time.monotonic(), 0
        try:
            request = self._client.param_serialize(
                method,
                resource.url(namespace, name, subresource),
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=self._timeout)
            data = response.read()
            status = int(response.status)
            self._clock.heard(response.getheader("Date"), asked_at=started)
            return status, data
        except (urllib3.exceptions.HTTPError, kubernetes.client.ApiException, OSError) as error:
            call = _call_name(method, resource, namespace, name, subresource)
            raise Unavailable(call, f"no answer from the API server: {error}") from error
        finally:
            self._observe(method, resource.plural, status, time.monotonic() - started)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Each line as soon as it is there. The client library's own way waits for the end of an answer that a proxy does
    not send in chunks."""
    rest = b""
    while piece := response.read1(READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _call_name(
    method: str, resource: Resource, namespace: str | None, name: str | None, subresource: str | None = None
) -> str:
    verb = _VERBS.get(method, method.lower())
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return f"{verb} {plural} " + "/".join(part for part in (namespace, name) if part)


# Where a pod finds the namespace of its service account.
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(*, connections: int = 4, **settings: Any) -> Cluster:
    """A Cluster with the pod's service account, or with the kubeconfig where the process runs in no pod. With more
    threads than `connections`, those beyond open a new one for each call."""
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_incluster_config(client_configuration=configuration)
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(client_configuration=configuration)
    # The work queue repeats; a second, hidden layer of repeats would only multiply the load of an outage.
    configuration.retries = False
    configuration.connection_pool_maxsize = connections
    return Cluster(kubernetes.client.ApiClient(configuration), **settings)


def connect_as_user(kubeconfig: str | None, context: str | None, **settings: Any) -> tuple[Cluster, str]:
    """A Cluster with the user's kubeconfig (in a pod without one: its service account), and the namespace there.

    Raises:
        ClusterError: there is no usable configuration.
    """
    configuration = kubernetes.client.Configuration()
    try:
        namespace = _load_for_user(configuration, kubeconfig, context)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError) as error:
        where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ClusterError(f"read the kubeconfig {where}", f"{error}; name another with --kubeconfig") from None
    configuration.retries = False
    return Cluster(kubernetes.client.ApiClient(configuration), **settings), namespace


def _load_for_user(configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    try:
        contexts, active = kubernetes.config.list_kube_config_contexts(kubeconfig)
        kubernetes.config.load_kube_config(kubeconfig, context, client_configuration=configuration)
    except kubernetes.config.ConfigException:
        if kubeconfig or context or "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise
        kubernetes.config.load_incluster_config(client_configuration=configuration)
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    chosen = next((item for item in contexts if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")
