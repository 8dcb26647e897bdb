"""Connections to the API server, and the calls that Atoll makes on them. The only module that imports `kubernetes`.

Objects are plain JSON as the server sends them. A missing object is `None`; every other failure is a `ClusterError`.
Every call has a timeout. No call is repeated here: the work queue does that. Each write asks the fence first, so that
an operator that has lost its Lease stops writing at once. A `Cluster` may be used by several threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes.client
import kubernetes.config
import urllib3
import urllib3.exceptions
import yaml

from atoll_operator.kube.clock import ServerClock
from atoll_operator.kube.errors import ClusterError, Unavailable, from_answer, from_status
from atoll_operator.kube.objects import LEASES, PODS, Resource, json_object
from atoll_operator.kube.transport import METADATA_ONLY, Body, Request, Transport

if TYPE_CHECKING:
    from atoll_operator.kube.port_forward import PodPort

# Called after each request with its method, the plural of its kind, the HTTP status (0: no answer) and the seconds.
Observer = Callable[[str, str, int, float], None]

LIST_PAGE = 100
READ_BYTES = 64 * 1024
LOG_TAIL_BYTES = 64 * 1024
# Where a pod finds the namespace of its service account.
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# What the client raises for a kubeconfig that is damaged; it checks few of the types in it.
_DESCRIBED = (kubernetes.config.ConfigException, yaml.YAMLError, OSError)
_UNREADABLE = (*_DESCRIBED, ValueError, TypeError, LookupError, AttributeError)


def connect(*, connections: int = 4, **settings: Any) -> Cluster:
    """Returns a Cluster with the pod's service account, or with the kubeconfig where the process runs in no pod.

    `settings` are those of `Cluster`. Threads beyond `connections` open a new connection for each call.
    """
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_incluster_config(client_configuration=configuration)
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = connections
    return Cluster(_api_client(configuration), **settings)


def connect_as_user(kubeconfig: str | None, context: str | None, **settings: Any) -> tuple[Cluster, str]:
    """Returns a Cluster with the user's kubeconfig (in a pod without one: its service account), and the namespace.

    Raises:
        ClusterError: there is no usable configuration.
    """
    configuration = kubernetes.client.Configuration()
    try:
        namespace = _load_for_user(configuration, kubeconfig, context)
    except _UNREADABLE as error:
        where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        reason = " ".join(str(error).split()) if isinstance(error, _DESCRIBED) else "it is not a valid kubeconfig"
        raise ClusterError(f"read the kubeconfig {where}", f"{reason}; name another with --kubeconfig") from None
    return Cluster(_api_client(configuration), **settings), namespace


def _load_for_user(configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    try:
        contexts, active = kubernetes.config.list_kube_config_contexts(kubeconfig)
        kubernetes.config.load_kube_config(kubeconfig, context, client_configuration=configuration)
    except kubernetes.config.ConfigException:
        if kubeconfig or context or "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise
        kubernetes.config.load_incluster_config(client_configuration=configuration)
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    if not str(configuration.host).startswith(("https://", "http://")):
        raise kubernetes.config.ConfigException(f"the cluster's server is {configuration.host!r}, not https://…")
    chosen = next((item for item in contexts if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def _api_client(configuration: Any) -> kubernetes.client.ApiClient:
    # The work queue repeats calls; a second, hidden layer of retries would multiply the load of an outage.
    configuration.retries = False
    return kubernetes.client.ApiClient(configuration)


class Cluster:
    """Reads and writes objects with the rights of one account.

    `timeout_seconds` holds for each call. `fence` is called before each write and raises where none is allowed.
    """

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
        self._transport = Transport(client)
        self._timeout = (min(10.0, timeout_seconds), timeout_seconds)
        self._fence = fence
        self._observe = observe
        self._clock = clock or ServerClock()

    def read(self, resource: Resource, namespace: str | None, name: str) -> Body | None:
        return self._send(Request("GET", resource, namespace, name))

    def list_all(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Body]:
        """Returns all objects of the namespace (or of all namespaces) that match both selectors."""
        return list(self.list_each(resource, namespace, labels=labels, fields=fields))

    def list_each(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Iterator[Body]:
        """Yields the same objects, with no more than one page in memory."""
        query = {"limit": str(LIST_PAGE)} | _selectors(labels, fields)
        while True:
            page = self._send(Request("GET", resource, namespace, query=query)) or {}
            yield from page.get("items", [])
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query = query | {"continue": token}

    def version_of(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> str:
        """Returns the collection's resourceVersion now, from which a watch may begin."""
        query = {"limit": "1"} | _selectors(labels, fields)
        page = self._must(Request("GET", resource, namespace, query=query))
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
        """Yields each event after the version `since` as a line of JSON, until the server ends the watch after
        `seconds`. Raises Unavailable when not even a bookmark comes for `silence` seconds."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
        }
        request = Request("GET", resource, namespace, query=query | _selectors(labels, fields))
        try:
            response = self._transport.send(request, timeout=(self._timeout[0], silence))
            try:
                if response.status != 200:
                    raise from_answer(str(request), status=response.status, data=response.read())
                yield from _lines(response)
            finally:
                # The rest of the answer is not wanted, so the connection cannot be used again.
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(str(request), f"no answer from the API server: {error}") from error

    def create(self, resource: Resource, namespace: str | None, body: Body, *, strict: bool = False) -> Body:
        """Returns the object as created. Raises AlreadyExists where the name is taken, and with `strict` Refused where
        the schema does not know a field, which the API server would leave out otherwise."""
        self._fence()
        query = {"fieldValidation": "Strict"} if strict else {}
        return self._must(Request("POST", resource, namespace, query=query, body=body))

    def patch(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body | None:
        """Merge-patches the object itself."""
        self._fence()
        return self._send(Request("PATCH", resource, namespace, name, body=body))

    def patch_status(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body | None:
        """Merge-patches the status. With a resourceVersion in the body, a stale patch raises Conflict."""
        self._fence()
        return self._send(Request("PATCH", resource, namespace, name, "status", body=body))

    def replace_status(self, resource: Resource, stored: Body, status: Body) -> Body | None:
        """Replaces the whole status of `stored`, and returns it with the new one. A `stored` that is not the newest
        version raises Conflict.

        It costs the API server a sixth less than a patch: it need not merge, nor write the object out for the answer.
        A field that the schema does not know is left out without a warning.
        """
        self._fence()
        metadata = {name: stored["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": metadata, "status": status}
        answer = self._send(
            Request(
                "PUT",
                resource,
                metadata["namespace"],
                metadata["name"],
                "status",
                query={"fieldValidation": "Ignore"},
                body=body,
                accept=METADATA_ONLY,
            )
        )
        return None if answer is None else {**stored, "metadata": answer["metadata"], "status": status}

    def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str, foreground: bool = False
    ) -> None:
        """Deletes the object with this UID, and its dependents after it, or before it (`foreground`); it may be gone
        already."""
        self._fence()
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Foreground" if foreground else "Background"}
        self._send(Request("DELETE", resource, namespace, name, body=options))

    def read_log_tail(self, namespace: str, pod: str, *, container: str, lines: int) -> str:
        """Returns the last lines of the container's log, of them the last LOG_TAIL_BYTES; empty while there is none."""
        # With limitBytes the kubelet would leave the newest lines out.
        query = {"container": container, "tailLines": str(lines)}
        status, data = self._answer(Request("GET", PODS, namespace, pod, "log", query), last=LOG_TAIL_BYTES)
        # The server answers 400 for a container that waits to start.
        return data.decode(errors="replace") if status == 200 else ""

    def read_log(self, namespace: str, pod: str, *, container: str, since: str = "") -> str | None:
        """Returns the log since that time, each line behind its RFC 3339 time; None while there is none."""
        query = {"timestamps": "true", "container": container} | ({"sinceTime": since} if since else {})
        request = Request("GET", PODS, namespace, pod, "log", query)
        status, data = self._answer(request)
        if status == 200:
            return data.decode(errors="replace")
        if status in (401, 403) or status >= 500:
            raise from_answer(str(request), status=status, data=data)
        return None

    def open_port(self, namespace: str, pod: str, port: int) -> PodPort:
        """Opens a connection to that port of the pod."""
        from atoll_operator.kube.port_forward import PortRequest, authorization, open_pod_port

        request = Request("GET", PODS, namespace, pod, "portforward", {"ports": str(port)})
        url, headers = self._transport.url(request), self._transport.headers()
        settings = self._client.configuration
        return open_pod_port(PortRequest(str(request), url, authorization(headers), settings, self._timeout[1]))

    def read_lease(self, namespace: str, name: str) -> Body | None:
        return self._send(Request("GET", LEASES, namespace, name))

    def write_lease(self, namespace: str, lease: Body) -> Body:
        """Creates the Lease, or replaces the version that was read. Not fenced, as the Lease is the fence."""
        known = lease["metadata"].get("resourceVersion")
        name = lease["metadata"]["name"] if known else None
        return self._must(Request("PUT" if known else "POST", LEASES, namespace, name, body=lease))

    def _must(self, request: Request) -> Body:
        answer = self._send(request)
        if answer is None:
            missing = f"the cluster knows no {request.resource.plural}"
            where = f"there is no namespace {request.namespace}, or " if request.namespace else ""
            message = f"{where}{missing}"
            raise from_status(str(request), status=404, reason="NotFound", message=message)
        return answer

    def _send(self, request: Request) -> Body | None:
        status, data = self._answer(request)
        if status == 404:
            return None
        if 200 <= status < 300:
            return json_object(data)
        raise from_answer(str(request), status=status, data=data)

    def _answer(self, request: Request, *, last: int | None = None) -> tuple[int, bytes]:
        """Returns status and body of one request, or the `last` bytes of the body. Raises Unavailable where there is no
        answer."""
        started, status = time.monotonic(), 0
        try:
            response = self._transport.send(request, timeout=self._timeout)
            data = response.data if last is None else _last_bytes(response, last)
            status = int(response.status)
            self._clock.observe(response.headers.get("Date"), requested_at=started)
            return status, data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(str(request), f"no answer from the API server: {error}") from error
        finally:
            self._observe(request.method, request.resource.plural, status, time.monotonic() - started)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _last_bytes(response: urllib3.BaseHTTPResponse, count: int) -> bytes:
    data = b""
    while piece := response.read1(READ_BYTES):
        data = (data + piece)[-count:]
    return data


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yields each line as soon as it is there. The client library waits for the end of an answer that a proxy does
    not send in chunks."""
    rest = b""
    while piece := response.read1(READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
