"""A one-node Kubernetes with real pods: `python -m cluster.node up`, `down` and `status`.

`up` starts a keeper process in a network namespace of its own; the keeper owns every process of the cluster and ends
them all on `down`. What a crash leaves behind, the next `up` or `down` removes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from cluster import node_card, node_emulation, node_kubelet
from cluster.binaries import BinaryError, ensure
from cluster.controlplane import ControlPlane
from cluster.node_containerd import PAUSE_IMAGE as PAUSE
from cluster.node_containerd import SOCKET, STATE, Containerd, images, import_archive
from cluster.node_host import (
    BRIDGE_ADDRESS,
    CGROUP,
    NETNS,
    NETNS_PATH,
    RUN_FOLDER,
    HostError,
    create_cgroups,
    create_network,
    ensure_programs,
    inside,
    node_folder,
    remove_cgroups,
    remove_network,
    require_root,
    unmount_below,
    write_whole,
)
from cluster.node_images import ensure_pause_archive
from cluster.node_orders import ORDER_SIGNAL, NodeOrder, OrderedNode, give
from cluster.processes import ProcessError, ProcessGroup, ProcessRecord, remove_leftovers, start_time
from support.polling import wait_until

logger = logging.getLogger(__name__)

BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", *node_kubelet.PROGRAMS, "kubectl", "helm4")
KEEPER_FILE = RUN_FOLDER / "keeper.json"
KEEPER_LOG = RUN_FOLDER / "keeper.log"
START_DEADLINE_SECONDS = 300
# The keeper outlives `up`; a handle that is dropped while its process runs is a warning of Python's.
_children: list[subprocess.Popen[bytes]] = []
STOP_DEADLINE_SECONDS = 180
CHANGES = f"""\
This starts a Kubernetes of its own. On this machine it makes, and `make cluster-down` removes again:
  - the network namespace {NETNS} ({NETNS_PATH}) with a bridge; interfaces and packet filter outside it stay as they are
  - {RUN_FOLDER} (sockets, state), cgroups named {CGROUP}, links in /var/log/containers
  - while arm64 images are used: {node_emulation.ENTRY}, an entry of the kernel's list of interpreters
and keeps for the next time: {node_folder()} (images) and the programs beside it.
Missing Debian packages are installed by apt-get; nothing is removed for them."""


@dataclass(frozen=True)
class Keeper:
    """The process that owns the running cluster, and where its kubeconfig is."""

    process: ProcessRecord
    kubeconfig: str


def read_keeper() -> Keeper | None:
    """The living keeper; None if there is none."""
    return _read_keeper(KEEPER_FILE)


def _read_keeper(path: Path) -> Keeper | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        keeper = Keeper(ProcessRecord(**document["process"]), document["kubeconfig"])
    except (FileNotFoundError, ValueError):
        return None
    return keeper if keeper.process.alive else None


def up() -> Keeper:
    """Brings the cluster up, or finds it up. Needs root; the first time takes minutes of builds."""
    require_root()
    running = read_keeper()
    if running is not None:
        return running
    print(CHANGES, flush=True)
    ensure_programs()
    for name in BINARIES:
        ensure(name)
    ensure_pause_archive()
    Containerd.ensure()
    clean_up()
    node_card.create()
    create_network()
    create_cgroups()
    RUN_FOLDER.mkdir(parents=True, exist_ok=True)
    command = inside([sys.executable, "-P", "-m", "cluster.node", "keep"])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with KEEPER_LOG.open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    _children.append(child)

    def ready() -> Keeper | None:
        if child.poll() is not None:
            text = KEEPER_LOG.read_text(encoding="utf-8", errors="replace")
            raise HostError(f"the cluster did not come up; {KEEPER_LOG} ends with:\n{text[-4000:]}")
        return read_keeper()

    return wait_until(ready, what="the cluster", timeout_seconds=START_DEADLINE_SECONDS, interval_seconds=0.2)


def down() -> None:
    """Ends the cluster and everything that it made on the machine, but not the cache."""
    require_root()
    keeper = read_keeper()
    if keeper is not None:
        os.kill(keeper.process.pid, signal.SIGTERM)
        wait_until(
            lambda: not keeper.process.alive,
            what="the keeper to end the cluster",
            timeout_seconds=STOP_DEADLINE_SECONDS,
            interval_seconds=0.2,
        )
    clean_up()


def order(wanted: NodeOrder) -> float:
    """Has the keeper carry it out; when that which comes back was started (seconds of 1970)."""
    keeper = read_keeper()
    if keeper is None:
        raise HostError(f"no cluster is up that could be asked for {wanted}")
    return give(wanted, keeper.process.pid)


def clean_up() -> None:
    """Removes what a crashed cluster left behind; does nothing where none did."""
    remove_leftovers()
    if not any(_read_keeper(path) for path in RUN_FOLDER.parent.glob("atoll-test*/keeper.json") if path != KEEPER_FILE):
        # The kernel's list is every cluster's.
        node_emulation.unregister()
    if STATE.exists():
        group = ProcessGroup("node-clean-up")
        try:
            containerd = Containerd(group)
            containerd.start()  # it finds the shims of its containers again and can end them
            containerd.empty()
        finally:
            group.close()
    unmount_below(STATE, node_kubelet.KUBELET_FOLDER)
    node_kubelet.remove_log_links()
    for folder in (RUN_FOLDER, node_kubelet.KUBELET_FOLDER, node_kubelet.LOG_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
    node_card.remove()
    remove_cgroups()
    remove_network()


def keep() -> None:
    """The keeper's life: cluster up, wait for a signal, cluster down. Runs inside the network namespace."""
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, ORDER_SIGNAL):
        signal.signal(number, lambda number, _: signals.put(number))
    started = time.monotonic()
    with ControlPlane(address=BRIDGE_ADDRESS, controllers=("*",)) as plane:
        logger.info("control plane up after %.1f s", time.monotonic() - started)
        group = ProcessGroup("node")
        containerd = Containerd(group)
        try:
            containerd.start()
            if PAUSE not in images():
                import_archive(ensure_pause_archive())
            agents = node_kubelet.NodeAgents(group, plane)
            agents.start()
            logger.info("node ready after %.1f s", time.monotonic() - started)
            pid = os.getpid()
            keeper = Keeper(ProcessRecord("keeper", pid, start_time(pid)), str(plane.kubeconfig))
            write_whole(KEEPER_FILE, json.dumps(asdict(keeper)))
            node = OrderedNode(group, containerd, agents, plane)
            while signals.get() == ORDER_SIGNAL:
                node.carry_out()
        finally:
            for name in ("kube-router", "kube-proxy", "kubelet", "coredns", "kube-scheduler"):
                if group.started(name):
                    group.stop(name)
            if SOCKET.exists():
                containerd.empty()
            group.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.node", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "keep"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _COMMANDS[options.command]()
    except (HostError, BinaryError, ProcessError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _up() -> int:
    keeper = up()
    print(f"export KUBECONFIG={keeper.kubeconfig}")
    print(
        f"alias k='nsenter --net={NETNS_PATH} -- {ensure('kubectl')}'   # the cluster's addresses exist in there only"
    )
    return 0


def _down() -> int:
    down()
    print("the cluster is gone; images and programs stay in the cache")
    return 0


def _status() -> int:
    keeper = read_keeper()
    print(f"up, kubeconfig {keeper.kubeconfig}" if keeper else "down")
    return 0 if keeper else 1


def _keep() -> int:
    keep()
    return 0


_COMMANDS = {"up": _up, "down": _down, "status": _status, "keep": _keep}

if __name__ == "__main__":
    sys.exit(main())
