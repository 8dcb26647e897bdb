"""A TrainingRun on the node cluster: applied, waited for, and its release fetched and tried as the Pi tries it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_contract.document import from_json
from atoll_contract.release import Manifest, Role
from atoll_edge.models.verify import canary_job, run_canary
from cluster.node_host import inside
from support.node_cluster import NodeCluster
from support.step_log import StepLog

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class ClusterRun:
    """One run by name."""

    cluster: NodeCluster
    namespace: str
    name: str
    steps: StepLog

    def apply(self, manifest: dict[str, Any]) -> None:
        document = manifest | {"metadata": {"name": self.name, "namespace": self.namespace}}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document))
        self.steps.add(f"kubectl apply -f trainingrun.yaml   # {self.name}")

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.cluster.get("trainingrun", self.name, namespace=self.namespace).get("status", {})
        return status

    def wait(self, *, seconds: float) -> dict[str, Any]:
        """Tells each phase, and returns the status once `kubectl wait` says Succeeded. Fails with what is known."""
        deadline, told = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            status = self.status()
            if status.get("phase", "") != told:
                told = status.get("phase", "")
                self.steps.add(f"{told}: {status.get('message', '')}")
            if told in ("Succeeded", "Failed", "Cancelled"):
                break
            time.sleep(POLL_SECONDS)
        assert told == "Succeeded", self.account()
        condition = ("wait", "--for=condition=Succeeded", f"trun/{self.name}", "--timeout=10s")
        self.steps.add("kubectl " + " ".join(condition))
        self.steps.show(self.cluster.kubectl(*condition, "-n", self.namespace))
        return self.status()

    def account(self) -> str:
        """What somebody would look at who wonders why the run did not succeed."""
        looks = [
            ("describe", "trun", self.name),
            ("get", "pods,jobs", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "-l", f"atoll.dev/run={self.name}", "--tail=60", "--prefix"),
            ("logs", "-l", "app.kubernetes.io/component=operator", "--tail=60"),
        ]
        return "\n\n".join(self.cluster.kubectl(*look, "-n", self.namespace) for look in looks)

    def fetch_release(self, folder: Path) -> Manifest:
        """The run's published manifest and its files, fetched from the bundled store."""
        release = self.status()["release"]
        store = self.cluster.get("objectstore", "default", namespace=self.namespace)["spec"]
        secret = self.cluster.get("secret", store["credentials"]["secretRef"]["name"], namespace=self.namespace)
        keys = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
        address = self.cluster.get("service", "atoll-store", namespace=self.namespace)["spec"]["clusterIP"]
        command = [sys.executable, "-P", "-m", "support.release_fetch", "--endpoint", f"http://{address}:9000"]
        command += ["--bucket", store["bucket"], "--manifest", release["manifest"]["key"], "--folder", str(folder)]
        environment = os.environ | keys | {"PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run(inside(command), check=True, timeout=120, env=environment)
        return from_json(Manifest, (folder / "manifest.json").read_bytes())


def check_release(manifest: Manifest, folder: Path, *, labels: tuple[str, ...]) -> list[str]:
    """Tries the model on the golden pictures as the Pi does, and returns the names in the bundle."""
    assert manifest.labels == labels
    run_canary(canary_job(manifest, lambda sha256: folder / sha256), name=manifest.release)
    bundle = manifest.file(Role.BUNDLE)
    assert bundle is not None
    with tarfile.open(folder / bundle.sha256) as archive:
        return sorted(archive.getnames())
