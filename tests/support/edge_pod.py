"""An edge device on the node cluster: charts/atoll-edge in `lab` mode, real pictures as its camera, a robot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atoll_edge.robot.nt import NT4_PORT
from cluster.node_host import BRIDGE_ADDRESS, inside
from support.node_cluster import NodeCluster

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
SAMPLE = ROOT / "crds" / "samples" / "bccd-sample.tar"
PICTURES = 6
RELEASE = "edge"
MIRROR = "app.kubernetes.io/component=mirror"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class EdgePod:
    """One device that follows `model`, published by the runs of its own namespace."""

    cluster: NodeCluster
    namespace: str
    model: str

    @contextmanager
    def installed(self, image: dict[str, str], folder: Path) -> Iterator[None]:
        """Installed by Helm 4; gone afterwards. `folder` gets the pictures and the values."""
        self._make_pictures(folder)
        values = folder / "values-edge.yaml"
        values.write_text(yaml.safe_dump(self._values(image)), encoding="utf-8")
        self.cluster.helm("install", RELEASE, str(CHARTS / "atoll-edge"), "-n", self.namespace, "-f", str(values))
        try:
            yield
        finally:
            self.cluster.helm("uninstall", RELEASE, "-n", self.namespace, "--ignore-not-found", "--wait")

    def shown_to_the_robot(self, *, seconds: float) -> dict[str, Any]:
        """What a NetworkTables server on the node gets from the pod. Fails with the pod's own words."""
        command = [sys.executable, "-P", "-m", "support.robot_watch", "--address", BRIDGE_ADDRESS]
        command += ["--port", str(NT4_PORT), "--camera", "front", "--seconds", str(seconds)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(
            inside(command), stdout=subprocess.PIPE, text=True, check=False, timeout=seconds + 60, env=environment
        )
        assert done.returncode == 0, f"the robot saw nothing in {seconds:g} s\n{self.account()}"
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    def start_mirror(self) -> None:
        """Upgrades the release `atoll` by a mirror of this namespace, with the bundled store's own key pair."""
        entry = {
            "namespace": self.namespace,
            "store": "default",
            "secret": self._store()["credentials"]["secretRef"]["name"],
        }
        values = ["--set-json", f"edgeDevices={json.dumps([entry])}", "--set", "mirror.intervalSeconds=5"]
        self.cluster.helm("upgrade", "atoll", str(CHARTS / "atoll"), "-n", self.namespace, "--reuse-values", *values)

    def mirrored(self, *, seconds: float) -> dict[str, Any]:
        """The device's EdgeDevice once it says Active. Fails with the mirror's own words."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            items = json.loads(self.cluster.kubectl("get", "edev", "-n", self.namespace, "-o", "json"))["items"]
            for item in items:
                if item.get("status", {}).get("state") == "Active":
                    found: dict[str, Any] = item
                    return found
            time.sleep(POLL_SECONDS)
        words = self.cluster.kubectl("logs", "-l", MIRROR, "--tail=60", "-n", self.namespace)
        raise AssertionError(
            f"no EdgeDevice is Active after {seconds:g} s; there are {items}\n{words}\n{self.account()}"
        )

    def account(self) -> str:
        """What somebody would look at who wonders why the robot sees nothing."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        looks = [("describe", "pods", "-l", selector), ("logs", "-l", selector, "--tail=60")]
        return "\n\n".join(self.cluster.kubectl(*look, "-n", self.namespace) for look in looks)

    def _make_pictures(self, folder: Path) -> None:
        with tarfile.open(SAMPLE) as archive:
            members = [item for item in archive if item.name.startswith("BCCD/val/img/")][:PICTURES]
            assert len(members) == PICTURES
            for member in members:
                data = archive.extractfile(member)
                assert data is not None
                (folder / Path(member.name).name).write_bytes(data.read())
        files = [f"--from-file={path}" for path in sorted(folder.glob("*.jpg"))]
        self.cluster.kubectl("create", "configmap", "pictures", "-n", self.namespace, *files)

    def _store(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.cluster.get("objectstore", "default", namespace=self.namespace)["spec"]
        return spec

    def _values(self, image: dict[str, str]) -> dict[str, Any]:
        store = self._store()
        return {
            "mode": "lab",
            "image": image,
            "config": {
                "ntServer": f"{BRIDGE_ADDRESS}:{NT4_PORT}",
                "camera": {"name": "front", "path": "/pictures", "fps": 5},
            },
            "picturesConfigMap": "pictures",
            "model": {"namespace": self.namespace, "name": self.model, "verify": "digest-only", "pollSeconds": 5},
            "store": {
                "bucket": store["bucket"],
                "endpoint": store["endpoint"],
                "addressingStyle": "path",
                "secretName": store["credentials"]["secretRef"]["name"],
            },
            # The node has no provisioner of volumes.
            "persistence": {"enabled": False},
        }
