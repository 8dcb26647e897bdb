"""Replaces on the node what only a k3s machine has: `k3s ctr`, a registry, a volume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster import node_images
from cluster.binaries import ensure
from cluster.node_containerd import SOCKET, images, import_archive, pin, program
from cluster.node_host import node_folder
from support.node_cluster import NodeCluster

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "atoll"
LOAD_SECONDS = 900
VOLUME = "atoll-test-k3s"
# What make finds instead of docker: buildah with the node's own storage, and settings that a container engine of a
# desktop has by default.
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{graphroot}"
runroot = "{runroot}"
"""
_CONTAINERS = """\
[containers]
netns = "host"
[engine]
runtime = "runc"
"""


@dataclass(frozen=True)
class K3sMachine:
    """`environment` makes a shell think that it is one. `folder` holds what that needs."""

    cluster: NodeCluster
    folder: Path

    @property
    def data_folder(self) -> Path:
        """In the place of /var/lib/rancher/k3s."""
        return self.folder / "k3s-data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "KUBECONFIG": self.cluster.keeper.kubeconfig,
            # Where `make load` leaves the archives that k3s imports at each start.
            "K3S_DATA_DIR": str(self.data_folder),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "BUILDAH_ISOLATION": "oci",
            "BUILDAH_RUNTIME": "runc",
            "BUILDAH_LAYERS": "true",
            # Where there is a docker on the PATH, it need not have a daemon.
            "ENGINE": "buildah",
            # There is no registry to take python:3.11-slim-bookworm from.
            "BASE": node_images.ensure_base(),
        }

    def prepare(self) -> None:
        """Everything but `k3s` itself."""
        self.provide_tools()
        self._import_store()
        self._make_volume()

    def provide_tools(self) -> None:
        """What has to be on the PATH, and the settings of the container engine."""
        (self.folder / "bin").mkdir(parents=True)
        for name, path in {"helm": ensure("helm4"), "kubectl": ensure("kubectl")}.items():
            (self.folder / "bin" / name).symlink_to(path)
        storage = _STORAGE.format(graphroot=node_images.STORAGE_ROOT, runroot=node_images.STORAGE_RUN)
        (self.folder / "storage.conf").write_text(storage, encoding="utf-8")
        (self.folder / "containers.conf").write_text(_CONTAINERS, encoding="utf-8")

    def bring_make_out(self) -> None:
        """For a shell within the node's network: `make images` needs this process's own, to fetch packages."""
        script = self.folder / "bin" / "make"
        make = shutil.which("make")
        script.write_text(
            f'#!/bin/sh\nexec nsenter --net=/proc/{os.getpid()}/ns/net -- {make} "$@"\n', encoding="utf-8"
        )
        script.chmod(0o755)

    def stand_in(self) -> None:
        """`k3s ctr` hands over to the node's containerd."""
        script = self.folder / "bin" / "k3s"
        script.write_text(
            f'#!/bin/sh\n[ "$1" = ctr ] || exit 64\nshift\nexec {program("ctr")} --address {SOCKET} -n k8s.io "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)

    def load(self, *names: str) -> None:
        """`make load TARGET=k3s` for images that the tests have built."""
        command = [sys.executable, "-P", str(ROOT / "images" / "builder"), "load", "--engine", "buildah"]
        command += [f"--engine-flag={flag}" for flag in node_images.ENGINE_FLAGS]
        command += ["--target", "k3s", "--tag", node_images.TAG, *names]
        environment = os.environ | self.environment | {"PYTHONPATH": str(ROOT / "images" / "src")}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=LOAD_SECONDS)

    def start_again(self) -> None:
        """As k3s does at its start: imports the archives that lie in its folder, and pins their images."""
        for archive in sorted((self.data_folder / "agent" / "images").glob("*.tar")):
            import_archive(archive)
        for reference in images():
            if reference.startswith("localhost/atoll/"):
                pin(reference)

    def remove(self) -> None:
        self.cluster.kubectl("delete", "pv", VOLUME, "--ignore-not-found", timeout=120)
        shutil.rmtree(_volume_folder(), ignore_errors=True)

    def _import_store(self) -> None:
        """The bundled store's image under the name that the chart pulls."""
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        image = values["bundledStore"]["image"]
        name = f"{image['registry']}/{image['repository']}:{image['tag']}"
        node_images.load_as(node_images.ensure_store(), name)

    def _make_volume(self) -> None:
        """What k3s's `local-path` would make for the claim: a folder of the node that everybody may write to."""
        self.remove()
        folder = _volume_folder()
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        spec = {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": VOLUME}, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(volume))


def _volume_folder() -> Path:
    return node_folder() / "k3s-volume"
