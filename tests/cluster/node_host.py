"""What the node changes on the machine: a network namespace with a bridge, and the programs it needs from Debian.

Everything of the cluster runs inside the namespace, so the machine's own interfaces, routes and packet filter stay as
they are. Only root can do this.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.binaries import cache_folder

logger = logging.getLogger(__name__)


class HostError(RuntimeError):
    """The machine cannot carry a node; the message says what is missing and how to get it."""


def cluster_name(environ: Mapping[str, str] = os.environ) -> str:
    """Of several clusters side by side on one machine, the one meant; empty: the one without a name."""
    name = environ.get("ATOLL_TEST_CLUSTER", "")
    if name and not re.fullmatch(r"[a-z0-9]{1,12}", name):
        # Sockets and interfaces have short names.
        raise HostError(f"ATOLL_TEST_CLUSTER is {name!r}; it has to be 1 to 12 characters of a-z and 0-9")
    return name


def card_gigabytes(environ: Mapping[str, str] = os.environ) -> int:
    """Size of the node's own disk; 0: it has the machine's."""
    text = environ.get("ATOLL_TEST_CARD_GB", "0")
    if not text.isdecimal():
        raise HostError(f"ATOLL_TEST_CARD_GB is {text!r}; it has to be a whole number of gigabytes, such as 8")
    return int(text)


_SUFFIX = f"-{cluster_name()}" if cluster_name() else ""
NETNS = f"atoll{_SUFFIX}"
NETNS_PATH = Path("/run/netns") / NETNS
BRIDGE = "atoll0"
BRIDGE_ADDRESS = "10.244.0.1"
CGROUP = f"atoll-test{_SUFFIX}"
POD_SUBNET = "10.244.0.0/24"
# Sockets have short paths; what has to survive a run lies under the cache.
RUN_FOLDER = Path(f"/run/atoll-test{_SUFFIX}")
CNI_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CALL_DEADLINE_SECONDS = 120
INSTALL_DEADLINE_SECONDS = 900

# As eight processes of the machine have, in the two versions of cgroups.
CPU_WEIGHTS = {"cpu.shares": "8192", "cpu.weight": "800"}
# Program → Debian package.
PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ipset": "ipset",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "nsenter": "util-linux",
}


def node_folder() -> Path:
    """What this cluster keeps between runs: its imported images."""
    return cache_folder() / f"node{_SUFFIX}"


def disk_folder() -> Path:
    """The node's disk, with its images, pods and logs: a card of its own, or a folder of the machine's."""
    return node_folder() / "card" if card_gigabytes() else node_folder()


def shared_folder() -> Path:
    """What every cluster of the machine takes from one place: the base image and what is made from it alone."""
    return cache_folder() / "node"


def require_root() -> None:
    if os.geteuid() != 0:
        raise HostError(
            "a node needs root (network namespaces, mounts, cgroups): run it again as root, for example with sudo; "
            "`make test` and `make demo` need no root"
        )
    if sys.platform != "linux":
        raise HostError("a node needs Linux; use k3s, kind or a cluster you have")


def run(command: Sequence[str], *, timeout: float = CALL_DEADLINE_SECONDS, quiet: bool = False) -> str:
    """Standard output of a command that has to succeed. Raises HostError with its words otherwise."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except FileNotFoundError as error:
        raise HostError(f"there is no {command[0]!r} on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{' '.join(command)} took longer than {timeout:g} s") from error
    if done.returncode != 0 and not quiet:
        raise HostError(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def inside(command: Sequence[str]) -> list[str]:
    """The command as it runs in the node's network namespace.

    Not by `ip netns exec`: that mounts a fresh /sys, in which the cgroup controllers are missing.
    """
    return ["nsenter", f"--net={NETNS_PATH}", "--", *command]


def ensure_programs() -> None:
    """Installs what is missing by apt-get, saying so first; nothing that is installed is ever removed for it."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if cni_plugins() is None:
        missing.append("containernetworking-plugins")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise HostError(f"the node needs {', '.join(missing)} (Debian's names), and there is no apt-get: install them")
    logger.info("installing with apt-get: %s", ", ".join(missing))
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*environment, "apt-get", "update", "-qq"], timeout=INSTALL_DEADLINE_SECONDS)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--no-remove", *missing]
    run([*environment, *install], timeout=INSTALL_DEADLINE_SECONDS)


def write_whole(path: Path, text: str) -> None:
    """Whoever looks finds all of it or no file."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def cni_plugins() -> Path | None:
    return next((folder for folder in CNI_PLUGINS if (folder / "bridge").exists()), None)


def create_network() -> None:
    """The namespace with its bridge; one that a crash left behind is taken over."""
    if not NETNS_PATH.exists():
        run(["ip", "netns", "add", NETNS])
    run(inside(["ip", "link", "set", "lo", "up"]))
    if not (_links() & {BRIDGE}):
        run(inside(["ip", "link", "add", BRIDGE, "type", "bridge"]))
        run(inside(["ip", "address", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE]))
    run(inside(["ip", "link", "set", BRIDGE, "up"]))
    # Service addresses need some route to reach the packet filter that rewrites them; nothing leaves by it.
    run(inside(["ip", "route", "replace", "default", "dev", BRIDGE]))
    run(inside(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))
    # Pods of one bridge talk to Services through the packet filter too. Absent where the kernel has it built otherwise.
    run(inside(["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"]), quiet=True)


def remove_network() -> None:
    if NETNS_PATH.exists():
        run(["ip", "netns", "delete", NETNS])


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(run(inside(["ip", "-json", "link"])))}


def unmount_below(*folders: Path) -> None:
    """Unmounts what a killed kubelet or containerd left mounted on and below the folders, the innermost first."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((path for path in mounts if f"{path}/".startswith(prefixes)), key=len, reverse=True):
        run(["umount", "--lazy", mount], quiet=True)


def create_cgroups() -> None:
    """A tree of the node's own in every hierarchy, so that it never meets the pods of another kubelet.

    A kernel gives a group as much of a busy machine as a single process, and all pods are in this one.
    """
    for top in _cgroup_tops():
        top.mkdir(exist_ok=True)
        for name, weight in CPU_WEIGHTS.items():
            if (top / name).exists():
                (top / name).write_text(weight, encoding="utf-8")


def remove_cgroups() -> None:
    """Removes the tree; a group that still holds a process stays, and the kernel says so."""
    for top in _cgroup_tops():
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as error:
                logger.warning("cgroup %s stays: %s", folder, error)


def _cgroup_tops() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [hierarchy / CGROUP for hierarchy in root.iterdir() if hierarchy.is_dir() and not hierarchy.is_symlink()]
