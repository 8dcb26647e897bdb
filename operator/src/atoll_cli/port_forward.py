"""Forwards a port of this machine to a Service of the cluster, for stores that only the cluster reaches.

The API server forwards the bytes (`pods/portforward`), as for `kubectl port-forward`, which not every laptop has.
Each connection goes to a pod that is ready at that time: a pod that is replaced breaks only the connections to it.
"""

from __future__ import annotations

import re
import select
import socket
import socketserver
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

import click

from atoll_contract.errors import SpecError
from atoll_operator.kube.client import Cluster
from atoll_operator.kube.errors import ClusterError, Unavailable
from atoll_operator.kube.objects import PODS, SERVICES
from atoll_operator.kube.port_forward import PodPort

BLOCK = 65536
POLL_SECONDS = 0.2
# How long each open connection is waited for at the end.
END_SECONDS = 2.0
# A peer that accepts no byte for this long is gone.
STALLED_SECONDS = 60.0

_INSIDE = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.[a-z0-9.-]+)?")


@dataclass(frozen=True)
class Service:
    """A Service's port, as an endpoint inside the cluster names it."""

    name: str
    namespace: str
    port: int


def service_of(endpoint: str | None) -> Service | None:
    """The Service behind `http://NAME.NAMESPACE.svc:PORT`, with or without the cluster's domain; None for others.

    An address with TLS gives None: its certificate does not name 127.0.0.1.
    """
    parts = urlsplit(endpoint or "")
    found = _INSIDE.fullmatch(parts.hostname or "")
    if found is None or parts.scheme != "http":
        return None
    return Service(found.group(1), found.group(2), parts.port or 80)


class PortForward:
    """`with PortForward(cluster, service) as forward:` listens at `forward.endpoint` on this machine.

    Entering it raises SpecError if no pod of the Service is ready, ClusterError if the user may not forward ports.
    """

    def __init__(self, cluster: Cluster, service: Service) -> None:
        self._cluster = cluster
        self._service = service
        self._server: _Server | None = None
        self._reported: set[str] = set()

    @property
    def endpoint(self) -> str:
        assert self._server is not None, "not entered"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        # A first connection, so that a refusal is reported before anything uses the port.
        self.connect().close()
        self._server = _Server(self)
        serve = partial(self._server.serve_forever, poll_interval=POLL_SECONDS)
        threading.Thread(target=serve, name="port-forward", daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._server is not None:
            self._server.stopped.set()
            self._server.shutdown()
            self._server.server_close()
            for connection in list(self._server.connections):
                connection.join(END_SECONDS)

    def connect(self) -> PodPort:
        """A connection to the first pod that is ready."""
        service = self._service
        body = self._cluster.read(SERVICES, service.namespace, service.name)
        if body is None:
            raise SpecError(f"there is no Service {service.name} in namespace {service.namespace}")
        selector = body["spec"].get("selector") or {}
        labels = ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
        pods = self._cluster.list_all(PODS, service.namespace, labels=labels) if labels else []
        ready = sorted((pod for pod in pods if _is_ready(pod)), key=lambda pod: str(pod["metadata"]["name"]))
        if not ready:
            raise SpecError(f"no pod behind Service {service.name} in namespace {service.namespace} is ready")
        chosen = ready[0]
        return self._cluster.open_port(service.namespace, chosen["metadata"]["name"], _pod_port(body, service, chosen))

    def report(self, problem: str) -> None:
        """Print what broke a connection, each problem once; the store's client tries again."""
        if problem not in self._reported:
            self._reported.add(problem)
            click.echo(f"port-forward: {problem}", err=True)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, forward: PortForward) -> None:
        self.forward = forward
        self.stopped = threading.Event()
        self.connections: set[threading.Thread] = set()
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def setup(self) -> None:
        self.server.connections.add(threading.current_thread())

    def finish(self) -> None:
        self.server.connections.discard(threading.current_thread())

    def handle(self) -> None:
        try:
            remote = self.server.forward.connect()
        except (ClusterError, SpecError) as error:
            self.server.forward.report(str(error))
            return
        try:
            self.request.settimeout(STALLED_SECONDS)
            copy_bytes(self.request, remote, self.server.stopped)
        except ClusterError as error:
            self.server.forward.report(str(error))
        except OSError:
            pass  # the store's client went away
        finally:
            remote.close()


def copy_bytes(local: socket.socket, remote: PodPort, stopped: threading.Event) -> None:
    """Copy bytes from each side to the other, until one of them ends or `stopped` is set.

    Raises:
        ClusterError, OSError: the pod's or the local side broke off.
    """
    while not stopped.is_set():
        sides: list[socket.socket | PodPort] = [local, remote]
        ready = [remote] if remote.has_pending else select.select(sides, [], [], POLL_SECONDS)[0]
        if remote in ready:
            received = remote.receive()
            if received is None:
                return
            local.sendall(received)
        if local in ready:
            block = local.recv(BLOCK)
            if not block:
                return
            remote.send(block)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _pod_port(body: dict[str, Any], service: Service, pod: dict[str, Any]) -> int:
    """The pod's port behind the Service's. A `targetPort` may be the name of a container's port."""
    ports = {int(item["port"]): item.get("targetPort", item["port"]) for item in body["spec"]["ports"]}
    if service.port not in ports:
        known, title = ", ".join(map(str, ports)), f"Service {service.name} in namespace {service.namespace}"
        raise SpecError(f"{title} has no port {service.port}, but {known}")
    target = ports[service.port]
    if isinstance(target, int):
        return target
    named = {item.get("name"): item for box in pod["spec"]["containers"] for item in box.get("ports") or []}
    if target not in named:
        raise Unavailable(f"look at pod {pod['metadata']['name']}", f"no container has a port named {target}")
    return int(named[target]["containerPort"])
