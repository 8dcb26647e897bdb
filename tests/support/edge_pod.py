"""An edge device on the node cluster: charts/atoll-edge in `lab` mode, with real pictures as its camera."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atoll_contract.tool_reports import SAMPLE_SIZE
from atoll_stages.sample.project import jpeg_of
from atoll_stages.sample.views import still
from support.node_cluster import NodeCluster
from support.node_robot import ADDRESS, robot
from support.node_team import copy_secret

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
IMAGE_COUNT = 6
RELEASE = "edge"
DEVICES_SELECTOR = "app.kubernetes.io/component=mirror"
POLL_SECONDS = 1.0
EMULATED = {"startupSeconds": 600, "resources": {"limits": {"memory": "2Gi"}}}


@dataclass(frozen=True)
class EdgePod:
    """One device that follows `model`, which the runs of the namespace `home` publish. It has `namespace` to itself,
    or shares `home`; `name` is the device's and its camera's."""

    cluster: NodeCluster
    namespace: str
    model: str
    home: str
    name: str = "front"
    # An emulated processor takes a minute to start what a Pi starts in seconds, and the emulator has to be kept too.
    emulated: bool = False

    @contextmanager
    def installed(self, image: dict[str, str], folder: Path) -> Iterator[None]:
        """Installed by Helm 4; gone afterwards. `folder` gets the pictures and the values."""
        self._make_images(folder)
        if self.namespace != self.home:
            secret = self._store()["credentials"]["secretRef"]["name"]
            copy_secret(self.cluster, secret, home=self.home, namespace=self.namespace)
        values = folder / "values-edge.yaml"
        values.write_text(yaml.safe_dump(self._values(image)), encoding="utf-8")
        self.cluster.helm("install", RELEASE, str(CHARTS / "atoll-edge"), "-n", self.namespace, "-f", str(values))
        try:
            yield
        finally:
            self.cluster.helm("uninstall", RELEASE, "-n", self.namespace, "--ignore-not-found", "--wait")

    def shown_to_the_robot(self, *, seconds: float, sequence: int = 0) -> dict[str, Any]:
        """What a NetworkTables server on the node gets from the pod. Fails with the pod's log."""
        with robot([self.name], seconds=seconds, sequence=sequence) as waiting:
            shown = waiting.shown()
        assert self.name in shown, f"the robot saw nothing of {self.name} in {seconds:g} s\n{self.diagnostics()}"
        found: dict[str, Any] = shown[self.name]
        return found

    def pod(self) -> dict[str, Any]:
        """The device's one pod."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        text = self.cluster.kubectl("get", "pods", "-l", selector, "-n", self.namespace, "-o", "json")
        (found,) = json.loads(text)["items"]
        pod: dict[str, Any] = found
        return pod

    def start_devices(self) -> None:
        """Upgrades the release `atoll` by a mirror of the runs' namespace, with the bundled store's own key pair."""
        entry = {
            "namespace": self.home,
            "store": "default",
            "secret": self._store()["credentials"]["secretRef"]["name"],
        }
        values = ["--set-json", f"edgeDevices={json.dumps([entry])}", "--set", "mirror.intervalSeconds=5"]
        self.cluster.helm("upgrade", "atoll", str(CHARTS / "atoll"), "-n", self.home, "--reuse-values", *values)

    def mirrored(self, *, seconds: float, release: str) -> dict[str, Any]:
        """The device's EdgeDevice once it says Active with this release. Fails with the log of the devices process."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            items = json.loads(self.cluster.kubectl("get", "edev", "-n", self.home, "-o", "json"))["items"]
            for item in items:
                status = item.get("status", {})
                own = item["metadata"]["name"] == self.name
                if own and (status.get("state"), status.get("release")) == ("Active", release):
                    found: dict[str, Any] = item
                    return found
            time.sleep(POLL_SECONDS)
        log = self.cluster.kubectl("logs", "-l", DEVICES_SELECTOR, "--tail=60", "-n", self.home)
        raise AssertionError(
            f"{self.name} does not run {release} after {seconds:g} s; there are {items}\n{log}\n{self.diagnostics()}"
        )

    def diagnostics(self) -> str:
        """Describes the pods and returns their logs, for the message of a failed test."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        commands = [("describe", "pods", "-l", selector), ("logs", "-l", selector, "--tail=60")]
        return "\n\n".join(self.cluster.kubectl(*command, "-n", self.namespace) for command in commands)

    def _make_images(self, folder: Path) -> None:
        for number in range(IMAGE_COUNT):
            # Another seed than the sample's: the model has not seen them.
            picture = still(1, number, SAMPLE_SIZE)
            (folder / f"{number}.jpg").write_bytes(jpeg_of(picture.pixels))
        files = [f"--from-file={path}" for path in sorted(folder.glob("*.jpg"))]
        self.cluster.kubectl("create", "configmap", "pictures", "-n", self.namespace, *files)

    def _store(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.cluster.get("objectstore", "default", namespace=self.home)["spec"]
        return spec

    def _values(self, image: dict[str, str]) -> dict[str, Any]:
        store = self._store()
        return {
            "mode": "lab",
            "image": image,
            "config": {
                "device": self.name,
                "ntServer": ADDRESS,
                "camera": {"name": self.name, "path": "/pictures", "fps": 5},
            },
            **(EMULATED if self.emulated else {}),
            "picturesConfigMap": "pictures",
            "model": {"namespace": self.home, "name": self.model, "verify": "digest-only", "pollSeconds": 5},
            "store": {
                "bucket": store["bucket"],
                "endpoint": store["endpoint"],
                "addressingStyle": "path",
                "secretName": store["credentials"]["secretRef"]["name"],
            },
            # The node has no provisioner of volumes.
            "persistence": {"enabled": False},
        }
