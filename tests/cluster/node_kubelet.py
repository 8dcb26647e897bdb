"""Scheduler, kubelet, kube-proxy, kube-router and CoreDNS, set for a shared, unprivileged-looking machine."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster.binaries import ensure
from cluster.controlplane import SERVICE_RANGE, ControlPlane
from cluster.node_containerd import SOCKET
from cluster.node_host import (
    BRIDGE,
    BRIDGE_ADDRESS,
    CGROUP,
    POD_SUBNET,
    RUN_FOLDER,
    card_gigabytes,
    disk_folder,
)
from cluster.processes import ProcessGroup
from support.polling import wait_until

PROGRAMS = ("kube-scheduler", "kubelet", "kube-proxy", "kube-router", "coredns")
NODE_NAME = "atoll-node"
CLUSTER_DOMAIN = "cluster.local"
KUBELET_FOLDER = disk_folder() / "kubelet"
LOG_FOLDER = disk_folder() / "logs"
_HEALTH_PORT = 10248
_POLICIES_HEALTH_PORT = 20244
# A test machine's full disk is no reason to end its pods, nor to remove images that come from no registry.
_EVICTION_SIGNALS = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
_SHARED_DISK = {
    "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
}
# Images are removed by the kubelet's own defaults (85 and 80 %, each five minutes); pods are evicted by k3s's own.
_CARD = {
    "evictionHard": {"imagefs.available": "5%", "nodefs.available": "5%"},
    "evictionMinimumReclaim": {"imagefs.available": "10%", "nodefs.available": "10%"},
    # In place of five minutes, in which no test would learn anything.
    "evictionPressureTransitionPeriod": "20s",
}


class NodeAgents:
    """What makes a machine a node; belongs to the owner's process group."""

    def __init__(self, group: ProcessGroup, plane: ControlPlane) -> None:
        self._group = group
        self._plane = plane
        self._programs = {name: ensure(name) for name in PROGRAMS}

    def start(self) -> None:
        _write_cni(RUN_FOLDER / "cni" / "10-atoll.conflist")
        self._start_scheduler()
        self._start_dns()
        self.start_kubelet()
        # kube-router ends at once where it does not find its node.
        wait_until(self._node_object, what=f"node {NODE_NAME} to register", timeout_seconds=60)
        self._start_proxy()
        self._start_policies()
        wait_until(self._node_ready, what=f"node {NODE_NAME} to be Ready", timeout_seconds=120)

    def _start(self, name: str, flags: dict[str, object]) -> None:
        arguments = [f"--{flag}={value}" for flag, value in flags.items()]
        self._group.start(name, [str(self._programs[name]), *arguments])

    def _start_scheduler(self) -> None:
        self._start(
            "kube-scheduler",
            {"kubeconfig": self._plane.kubeconfig, "leader-elect": "false", "bind-address": "127.0.0.1"},
        )

    def _start_dns(self) -> None:
        corefile = self._group.folder / "Corefile"
        corefile.write_text(
            f".:53 {{\n  bind {BRIDGE_ADDRESS}\n  errors\n  ready 127.0.0.1:8181\n"
            f"  kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{\n"
            f"    kubeconfig {self._plane.kubeconfig} atoll-test\n    pods insecure\n    ttl 5\n  }}\n}}\n",
            encoding="utf-8",
        )
        self._group.start("coredns", [str(self._programs["coredns"]), "-conf", str(corefile)])
        wait_until(lambda: self._answers("coredns", "http://127.0.0.1:8181/ready"), what="CoreDNS", timeout_seconds=60)

    def start_kubelet(self) -> None:
        """Starts the kubelet, again after it was stopped, and waits until it answers."""
        config = self._group.folder / "kubelet.json"
        config.write_text(json.dumps(_kubelet_config()), encoding="utf-8")
        for folder in (KUBELET_FOLDER, LOG_FOLDER):
            folder.mkdir(parents=True, exist_ok=True)
        self._start(
            "kubelet",
            {
                "config": config,
                "kubeconfig": self._plane.kubeconfig,
                "root-dir": KUBELET_FOLDER,
                "cert-dir": self._group.folder / "kubelet-certificates",
                "hostname-override": NODE_NAME,
                "node-ip": BRIDGE_ADDRESS,
                "v": 2,
            },
        )
        wait_until(
            lambda: self._answers("kubelet", f"http://127.0.0.1:{_HEALTH_PORT}/healthz"),
            what="the kubelet",
            timeout_seconds=60,
        )

    def _start_proxy(self) -> None:
        self._start(
            "kube-proxy",
            {
                "kubeconfig": self._plane.kubeconfig,
                "hostname-override": NODE_NAME,
                "proxy-mode": "iptables",
                "cluster-cidr": POD_SUBNET,
                # These limits are the machine's, not the namespace's.
                "conntrack-max-per-core": 0,
                "conntrack-tcp-timeout-established": "0s",
                "conntrack-tcp-timeout-close-wait": "0s",
            },
        )

    def _start_policies(self) -> None:
        """Enforces NetworkPolicies, by the engine that k3s has built in; routes and Services are not its work here."""
        self._start(
            "kube-router",
            {
                "kubeconfig": self._plane.kubeconfig,
                "hostname-override": NODE_NAME,
                "run-firewall": "true",
                "run-router": "false",
                "run-service-proxy": "false",
                "service-cluster-ip-range": SERVICE_RANGE,
                "health-port": _POLICIES_HEALTH_PORT,
                "metrics-port": 0,
            },
        )

    def _answers(self, name: str, url: str) -> bool:
        self._group.check(name)
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _node_ready(self) -> bool:
        for name in ("kube-scheduler", "kubelet", "kube-proxy", "kube-router"):
            self._group.check(name)
        conditions = self._node_object().get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _node_object(self) -> dict[str, Any]:
        """The node as the API server has it; empty while the kubelet has not registered it."""
        self._group.check("kubelet")
        status, body = self._plane.get(f"/api/v1/nodes/{NODE_NAME}")
        found: dict[str, Any] = json.loads(body) if status == 200 else {}
        return found


def remove_log_links() -> None:
    """Removes the kubelet's links to this node's logs from the one folder that cannot be configured."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(LOG_FOLDER):
            link.unlink()


def _write_cni(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    address = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_SUBNET, "gateway": BRIDGE_ADDRESS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(RUN_FOLDER / "cni-addresses"),
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    document = {
        "cniVersion": "0.4.0",
        "name": "atoll",
        "plugins": [bridge | {"ipam": address}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def _kubelet_config() -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Loopback and the bridge of a namespace of its own: nobody else reaches it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        **(_CARD if card_gigabytes() else _SHARED_DISK),
        "clusterDNS": [BRIDGE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "",
        "podLogsDir": str(LOG_FOLDER),
        "volumePluginDir": str(KUBELET_FOLDER / "volume-plugins"),
        "healthzPort": _HEALTH_PORT,
        "maxPods": 60,
        "registerNode": True,
    }
