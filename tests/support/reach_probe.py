"""Who reaches what on the node cluster: a pod asleep in each one's place, and connections tried from it.

A stand-in has the labels and the namespace of the pod that it stands for, which is all that a policy sees. It is never
ready, so that no Service sends anything to it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cluster.node_containerd import PAUSE_IMAGE
from cluster.node_host import inside, run
from support.network_policies import Peer
from support.node_cluster import NodeCluster

Address = tuple[str, int]
CONNECT_SECONDS = 5
START_SECONDS = 180

_PROBE = f"""
import json, socket, sys
def reaches(address):
    try:
        socket.create_connection(tuple(address), timeout={CONNECT_SECONDS}).close()
    except OSError:
        return False
    return True
print(json.dumps({{name: reaches(address) for name, address in json.loads(sys.argv[1]).items()}}))
"""
_LISTENER = """
import json, socket, sys
held = [socket.create_server(tuple(address)) for address in json.loads(sys.argv[1])]
print("listening", flush=True)
sys.stdin.read()
"""


def stand_in_name(title: str) -> str:
    return "stand-in-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def make_stand_ins(cluster: NodeCluster, peers: Mapping[str, Peer], *, port: int) -> None:
    """One for each peer that is a pod, by its title; all of them accept connections at `port`. Waits until they run."""
    pods = [_manifest(stand_in_name(title), peer, port) for title, peer in peers.items() if peer.namespace]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    for pod in pods:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        running = "--for=jsonpath={.status.phase}=Running"
        limit = f"--timeout={START_SECONDS}s"
        cluster.kubectl("wait", running, f"pod/{name}", "-n", namespace, limit, timeout=START_SECONDS + 60)


def address_of(cluster: NodeCluster, namespace: str, *selector: str) -> str:
    """The address of the newest of the pods that are selected."""
    newest = ("--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[-1:].status.podIP}")
    return cluster.kubectl("get", "pods", *selector, "-n", namespace, *newest)


def reached(cluster: NodeCluster, title: str, peer: Peer, targets: Mapping[str, Address]) -> dict[str, bool]:
    """By target, whether a connection comes about from the peer's stand-in; from the node where the peer is no pod."""
    arguments = ["-c", _PROBE, json.dumps(targets)]
    if not peer.namespace:
        return dict(json.loads(run(inside([sys.executable, "-P", *arguments]))))
    name = stand_in_name(title)
    return dict(json.loads(cluster.kubectl("exec", name, "-n", peer.namespace, "--", "python3", *arguments)))


@contextmanager
def listening(*addresses: Address) -> Iterator[None]:
    """Somebody accepts connections at these addresses, which the node has for that time alone."""
    for address, _ in addresses:
        run(inside(["ip", "address", "replace", f"{address}/32", "dev", "lo"]))
    command = inside([sys.executable, "-P", "-c", _LISTENER, json.dumps(addresses)])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n", f"nobody can listen at {addresses}"
        yield
    finally:
        process.communicate(timeout=10)
        for address, _ in addresses:
            run(inside(["ip", "address", "delete", f"{address}/32", "dev", "lo"]))


def _manifest(name: str, peer: Peer, port: int) -> dict[str, Any]:
    container = {
        "name": "stand-in",
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "http.server", str(port), "--directory", "/tmp"],
        "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 60},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    # Namespaces of a team admit restricted pods alone.
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    alone = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": peer.namespace, "labels": dict(peer.labels)},
        # Nothing of it ends by itself, and its end is no one's loss.
        "spec": {"containers": [container], "securityContext": user, **alone},
    }
