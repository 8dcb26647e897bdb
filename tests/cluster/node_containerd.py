"""containerd for the node: own root, state and socket, images imported from archives, emptied before it ends."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

from cluster.newer_debian import unpacked
from cluster.node_host import RUN_FOLDER, HostError, card_gigabytes, cni_plugins, disk_folder, run
from cluster.processes import ProcessGroup
from support.polling import wait_until

logger = logging.getLogger(__name__)

SOCKET = RUN_FOLDER / "containerd.sock"
STATE = RUN_FOLDER / "containerd"
PAUSE_IMAGE = "localhost/atoll-test/pause:2"
PINNED = "io.cri-containerd.pinned=pinned"
IMPORT_DEADLINE_SECONDS = 600
STOP_DEADLINE_SECONDS = 60.0

_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE no negative score can be set, and every sandbox would die of trying.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      # crun refuses the hybrid cgroup layout.
      runtime_type = "io.containerd.runc.v2"
"""


class Containerd:
    """One containerd of the owner's process group."""

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group

    @staticmethod
    def ensure() -> None:
        """Fetches what is missing of it."""
        _folder()

    def start(self) -> None:
        cni_conf = RUN_FOLDER / "cni"
        cni_conf.mkdir(parents=True, exist_ok=True)
        config = RUN_FOLDER / "containerd.toml"
        text = _CONFIG.format(
            root=disk_folder() / "containerd",
            state=STATE,
            socket=SOCKET,
            pause=PAUSE_IMAGE,
            cni_bin=cni_plugins(),
            cni_conf=cni_conf,
        )
        config.write_text(text, encoding="utf-8")
        # The shims are found on the PATH.
        path = os.pathsep.join(filter(None, [_folder(), os.environ["PATH"]]))
        command = [program("containerd"), "--config", str(config)]
        self._group.start("containerd", command, environment={"PATH": path})
        wait_until(self._ready, what="containerd", timeout_seconds=60)

    def _ready(self) -> bool:
        self._group.check("containerd")
        return SOCKET.exists() and "Server:" in run(_ctr("version"), quiet=True)

    def kill_all(self) -> None:
        """Ends every container's processes, as a power cut does."""
        for task in run(_ctr("tasks", "list", "-q")).split():
            run(_ctr("tasks", "kill", "-s", "SIGKILL", "--all", task), quiet=True)

    def empty(self) -> None:
        """Ends and removes every container, with the network namespaces that its sandboxes had."""
        containers = run(_ctr("containers", "list", "-q")).split()
        namespaces = {path for container in containers if (path := self._network_namespace(container))}
        self.kill_all()
        deadline = time.monotonic() + STOP_DEADLINE_SECONDS
        while (tasks := run(_ctr("tasks", "list", "-q")).split()) and time.monotonic() < deadline:
            for task in tasks:
                run(_ctr("tasks", "delete", "--force", task), quiet=True)
        for container in containers:
            run(_ctr("containers", "delete", container), quiet=True)
        for path in namespaces:
            run(["umount", str(path)], quiet=True)
            path.unlink(missing_ok=True)

    def _network_namespace(self, container: str) -> Path | None:
        document = json.loads(run(_ctr("containers", "info", container), quiet=True) or "{}")
        spaces = document.get("Spec", {}).get("linux", {}).get("namespaces", [])
        found = next((space.get("path", "") for space in spaces if space["type"] == "network"), "")
        return Path(found) if "/netns/cni-" in found else None


def import_archive(archive: Path, *, arch: str = "") -> None:
    """Imports a docker archive into the running node; the names in it are the images' names for the kubelet.

    `arch` is the images' where it is not the machine's own: containerd would pass them over.
    """
    platform = ["--platform", f"linux/{arch}"] if arch else []
    command = _ctr("images", "import", *platform, str(archive))
    try:
        run(command, timeout=IMPORT_DEADLINE_SECONDS)
    except HostError as error:
        # An image that takes an older one's name: containerd may clear the layers of that while they are shared.
        if "does not exist: not found" not in str(error):
            raise
        run(command, timeout=IMPORT_DEADLINE_SECONDS)


def images() -> set[str]:
    """References of the images that the running node has."""
    return set(run(_ctr("images", "list", "-q")).split())


def kill_container(identity: str) -> None:
    """Kills every process of the container at once, as a power cut does."""
    run(_ctr("tasks", "kill", "-s", "SIGKILL", "--all", identity))


def pin(reference: str) -> None:
    """Marks an image as `make load` and k3s do: the kubelet does not remove it."""
    run(_ctr("images", "label", reference, PINNED))


def remove_image(reference: str) -> None:
    """As somebody does by hand; containers of it go on."""
    run(_ctr("images", "remove", "--sync", reference))


def _folder() -> str:
    """Where containerd's programs are, if not on the PATH: Debian 12's older one knows no pinned images, so a kubelet
    that removes images would remove them all."""
    return str(unpacked("containerd") / "usr" / "bin") if card_gigabytes() else ""


def program(name: str) -> str:
    """How one of containerd's programs is called."""
    return str(Path(_folder()) / name)


def _ctr(*arguments: str) -> list[str]:
    return [program("ctr"), "--address", str(SOCKET), "--namespace", "k8s.io", *arguments]
