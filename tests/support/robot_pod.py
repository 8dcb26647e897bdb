"""A robot's own pod on the node cluster: charts/atoll-edge in `robot` mode, a drawn scene as its camera, a model that
lies in the host's folder already, and no bucket that answers."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atoll_edge.demo import free_ports
from cluster import node_images
from cluster.node_host import BRIDGE_ADDRESS, disk_folder
from support.edge_agent import RunningAgent
from support.edge_release import MODEL, NAMESPACE, publish
from support.node_cluster import NodeCluster
from support.node_robot import ADDRESS, robot
from support.polling import wait_until
from support.step_log import StepLog

CHART = Path(__file__).parents[2] / "charts" / "atoll-edge"
SPACE = "atoll-edge"
RELEASE = "edge"
CAMERA = "front"
STATE = disk_folder() / "robot-state"
SECRET = "bucket"
PATIENCE_SECONDS = 240.0
SILENCE_SECONDS = 1.5
# Nothing listens there.
CLOSED = f"http://{BRIDGE_ADDRESS}:9009"


@dataclass(frozen=True)
class RobotPod:
    """`folder` is the test's own. `identity` is the pod's uid and how often its container was started again."""

    cluster: NodeCluster
    folder: Path
    steps: StepLog

    @contextmanager
    def installed(self) -> Iterator[None]:
        """From `helm install` on; tells how soon the robot saw boxes. Gone afterwards."""
        self._bring_model()
        self.cluster.kubectl("create", "namespace", SPACE)
        keys = [f"--from-literal=AWS_{name}=none" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
        self.cluster.kubectl("create", "secret", "generic", SECRET, "-n", SPACE, *keys)
        values = self.folder / "values-robot.yaml"
        values.write_text(yaml.safe_dump(self._values()), encoding="utf-8")
        try:
            seconds = self.boxes_after(lambda: self._install(values), silence=0.0)
            self.steps.add(f"helm install edge charts/atoll-edge   # mode: robot; first boxes after {seconds:.1f} s")
            yield
        finally:
            self.cluster.helm("uninstall", RELEASE, "-n", SPACE, "--ignore-not-found", "--wait")
            self.cluster.kubectl("delete", "namespace", SPACE, timeout=180)
            shutil.rmtree(STATE)

    def boxes_after(self, act: Callable[[], float], *, silence: float = SILENCE_SECONDS) -> float:
        """Seconds from the time that the act returns until the robot is shown boxes, after such a silence. Fails with
        the pod's log."""
        with robot([CAMERA], seconds=PATIENCE_SECONDS, silence=silence) as waiting:
            began = act()
            shown = waiting.shown()
        assert CAMERA in shown, f"no boxes in {PATIENCE_SECONDS:g} s\n{self.account()}"
        return float(shown[CAMERA]["time"] - began)

    def longest_gap(self, act: Callable[[], object], *, stay: float) -> float:
        """Seconds without boxes, the longest of the time that the act is given."""
        with robot([CAMERA], seconds=PATIENCE_SECONDS, stay=stay) as waiting:
            act()
            shown = waiting.shown()
        assert CAMERA in shown, f"no boxes in {PATIENCE_SECONDS:g} s\n{self.account()}"
        return float(shown[CAMERA]["longestGap"])

    @property
    def identity(self) -> tuple[str, int]:
        pod = self.pod()
        return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]

    def pod(self) -> dict[str, Any]:
        text = self.cluster.kubectl(
            "get", "pods", "-l", f"app.kubernetes.io/instance={RELEASE}", "-n", SPACE, "-o", "json"
        )
        (found,) = json.loads(text)["items"]
        pod: dict[str, Any] = found
        return pod

    def container(self) -> str:
        """The id of the container that runs, as containerd knows it. The robot may have boxes before the API server
        has it from the kubelet."""
        identity: str = wait_until(
            lambda: self.pod()["status"]["containerStatuses"][0].get("containerID"),
            what="the container's id",
            timeout_seconds=PATIENCE_SECONDS,
            interval_seconds=0.2,
        )
        return identity.removeprefix("containerd://")

    @property
    def waiting_reason(self) -> str:
        """Why its container does not run; empty where it does."""
        statuses = self.pod()["status"].get("containerStatuses", [{}])
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))

    def delete(self) -> float:
        """The pod alone, so that another one comes; when it was gone."""
        self.cluster.kubectl("delete", "pod", self.pod()["metadata"]["name"], "-n", SPACE)
        return time.time()

    def account(self) -> str:
        selector = f"app.kubernetes.io/instance={RELEASE}"
        commands = [("describe", "pods", "-l", selector), ("logs", "-l", selector, "--tail=60")]
        return "\n\n".join(self.cluster.kubectl(*command, "-n", SPACE) for command in commands)

    def _install(self, values: Path) -> float:
        began = time.time()
        self.cluster.helm("install", RELEASE, str(CHART), "-n", SPACE, "-f", str(values))
        return began

    def _bring_model(self) -> None:
        """As an agent leaves it that has fetched its model."""
        agent = RunningAgent(self.folder / "agent", free_ports(1)[0])
        try:
            publish(agent.bucket)
            agent.wait_for("Active", 1)
        finally:
            agent.close()
        shutil.copytree(self.folder / "agent" / "device", STATE)

    def _values(self) -> dict[str, Any]:
        boot = self.folder / "boot"
        boot.mkdir()
        return {
            "mode": "robot",
            "image": node_images.helm_image(node_images.reference("edge")),
            "config": {"device": "pi", "ntServer": ADDRESS, "camera": {"name": CAMERA, "path": "synthetic", "fps": 10}},
            "cameraDevices": [],
            "usb": {"mode": "none"},
            "bootPath": str(boot),
            "stateHostPath": str(STATE),
            "model": {"namespace": NAMESPACE, "name": MODEL, "verify": "digest-only", "pollSeconds": 5},
            "store": {"bucket": "away", "endpoint": CLOSED, "addressingStyle": "path", "secretName": SECRET},
        }
