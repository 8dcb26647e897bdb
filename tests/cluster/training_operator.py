"""Kubeflow's training-operator as a process, for its TFJobs; a peer to measure against.

Its CRD comes from its own Go module. Its validating webhook is left out: the API server would have to reach a Service
for it, and there is no network of pods here. The certificate that a kubelet would mount is put where it looks for it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kubernetes.client

from cluster.binaries import GO_MODULES, ensure
from cluster.controlplane import LOOPBACK, ControlPlane
from cluster.crds import install
from cluster.processes import ProcessGroup, free_port
from support.polling import wait_until

Body = dict[str, Any]
# The admin of the control plane that it is.
TRAINING_OPERATOR = "training-operator"
MODULE = "github.com/kubeflow/training-operator"
CRD = "manifests/base/crds/kubeflow.org_tfjobs.yaml"
NAMESPACE, SECRET = "kubeflow", "training-operator-webhook-cert"
WEBHOOKS = "validator.training-operator.kubeflow.org"
# A constant of the program's.
CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
# Its own 1 would leave most of the time unused.
THREADS = 8


class TrainingOperator:
    """Serves the TFJobs of all namespaces."""

    def __init__(self, plane: ControlPlane, api: kubernetes.client.ApiClient) -> None:
        self._plane = plane
        self._api = api
        self._core = kubernetes.client.CoreV1Api(api)
        self._program = ensure("training-operator")
        self._group = ProcessGroup("training-operator")
        self._health = free_port()

    @property
    def pid(self) -> int:
        return self._group.pid("training-operator")

    def check(self) -> None:
        self._group.check("training-operator")

    def __enter__(self) -> Self:
        try:
            install(self._api, [module_folder() / CRD])
            self._prepare()
            self._start()
            wait_until(self._certificate, what="the certificate of the training-operator", timeout_seconds=60)
            wait_until(self._ready, what="the training-operator", timeout_seconds=120)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _prepare(self) -> None:
        """What its manifests bring: the namespace, the empty Secret, and the webhooks to put a certificate into."""
        self._core.create_namespace({"metadata": {"name": NAMESPACE}}, _request_timeout=10)
        self._core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": SECRET}}, _request_timeout=10)
        admission = kubernetes.client.AdmissionregistrationV1Api(self._api)
        admission.create_validating_webhook_configuration({"metadata": {"name": WEBHOOKS}}, _request_timeout=10)

    def _start(self) -> None:
        command = [str(self._program), "--enable-scheme=tfjob", f"--controller-threads={THREADS}"]
        command += ["--metrics-bind-address=0", f"--health-probe-bind-address={LOOPBACK}:{self._health}"]
        command += [f"--webhook-server-port={free_port()}"]
        environment = {"KUBECONFIG": str(self._plane.kubeconfig_of(TRAINING_OPERATOR))}
        self._group.start("training-operator", command, environment=environment)

    def _certificate(self) -> bool:
        """Plays the kubelet: the Secret's files, once it has filled them in, to where they are read."""
        self.check()
        data = self._core.read_namespaced_secret(SECRET, NAMESPACE, _request_timeout=10).data or {}
        if "tls.crt" not in data:
            return False
        CERTIFICATES.mkdir(parents=True, exist_ok=True)
        for name in ("tls.key", "tls.crt"):
            (CERTIFICATES / name).write_bytes(base64.b64decode(data[name]))
        return True

    def _ready(self) -> bool:
        self.check()
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _close(self) -> None:
        self._group.close(kill=True)
        for name in ("tls.key", "tls.crt"):
            (CERTIFICATES / name).unlink(missing_ok=True)


def tfjob(name: str) -> Body:
    """A TFJob of one worker."""
    container = {"name": "tensorflow", "image": "registry.invalid/worker"}
    worker = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": {"containers": [container]}}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": name},
        "spec": {"runPolicy": {"cleanPodPolicy": "None"}, "tfReplicaSpecs": {"Worker": worker}},
    }


def module_folder() -> Path:
    """Where Go keeps the module's files; downloaded with the program."""
    command = ["go", "mod", "download", "-json", MODULE]
    done = subprocess.run(
        command, cwd=GO_MODULES / "training-operator", capture_output=True, text=True, check=True, timeout=300
    )
    return Path(json.loads(done.stdout)["Dir"])
