"""The real Kueue as a process beside the API server, which need have no nodes.

Its objects are those that its own chart renders, and its rights those of its own ServiceAccount. A Service of type
ExternalName leads the API server to its webhooks, for which there need be no network of pods, and the certificate that
a kubelet would mount is put where Kueue looks for it. The chart's Deployments and its aggregated API are left out.
`python -m cluster.kueue KUBECONFIG` keeps it up until SIGTERM, on the host and in the network of that API server.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kubernetes.client
import kubernetes.config
import yaml
from kubernetes.client.exceptions import ApiException

from cluster.binaries import GO_MODULES, ensure
from cluster.controlplane import LOOPBACK
from cluster.objects import TIMEOUT
from cluster.processes import ProcessGroup, free_port
from support.helm import helm
from support.kubeconfig import kubeconfig
from support.polling import wait_until

Body = dict[str, Any]
MODULE = "sigs.k8s.io/kueue"
GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"
NAMESPACE, ACCOUNT = "kueue-system", "kueue-controller-manager"
# The definition of a Workload has a megabyte.
INSTALL_TIMEOUT = 60
WEBHOOK_SERVICE, WEBHOOK_SECRET = "kueue-webhook-service", "kueue-webhook-server-cert"
# Where the kinds of its chart are created that are wanted here.
_RBAC, _WEBHOOKS = "/apis/rbac.authorization.k8s.io/v1", "/apis/admissionregistration.k8s.io/v1"
_PATHS = {
    "ClusterRole": f"{_RBAC}/clusterroles",
    "ClusterRoleBinding": f"{_RBAC}/clusterrolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "MutatingWebhookConfiguration": f"{_WEBHOOKS}/mutatingwebhookconfigurations",
    "Role": f"{_RBAC}/namespaces/{NAMESPACE}/roles",
    "RoleBinding": f"{_RBAC}/namespaces/{NAMESPACE}/rolebindings",
    "Secret": f"/api/v1/namespaces/{NAMESPACE}/secrets",
    "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
    "ValidatingWebhookConfiguration": f"{_WEBHOOKS}/validatingwebhookconfigurations",
}
_PLURALS = {
    "ClusterQueue": "clusterqueues",
    "LocalQueue": "localqueues",
    "ResourceFlavor": "resourceflavors",
    "WorkloadPriorityClass": "workloadpriorityclasses",
}


class Kueue:
    """Queues the Jobs of all namespaces that name one of its queues. `admin` is a cluster admin's kubeconfig."""

    def __init__(self, admin: Path, api: kubernetes.client.ApiClient) -> None:
        self._admin = admin
        self._api = api
        self._core = kubernetes.client.CoreV1Api(api)
        self._program = ensure("kueue")
        self._group = ProcessGroup("kueue")
        self._port, self._health = free_port(), free_port()
        self._certificates = self._group.folder / "certificates"

    def __enter__(self) -> Self:
        try:
            self._install()
            self._start()
            wait_until(self._mount_certificate, what="Kueue's certificate", timeout_seconds=120)
            wait_until(self._is_ready, what="Kueue", timeout_seconds=120)
        except BaseException:
            print(self._group.log_tail("kueue") if self._group.started("kueue") else "Kueue was not started")
            self._group.close(kill=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self._group.log_tail("kueue"))
        self._group.close(kill=True)

    def create(self, text: str, *, namespace: str) -> None:
        """Creates Kueue's objects of this YAML; a LocalQueue in `namespace`."""
        custom = kubernetes.client.CustomObjectsApi(self._api)
        for item in yaml.safe_load_all(text):
            plural = _PLURALS[item["kind"]]
            if item["kind"] == "LocalQueue":
                item["metadata"]["namespace"] = namespace
                custom.create_namespaced_custom_object(
                    GROUP, VERSION, namespace, plural, item, _request_timeout=TIMEOUT
                )
            else:
                custom.create_cluster_custom_object(GROUP, VERSION, plural, item, _request_timeout=TIMEOUT)

    def _install(self) -> None:
        self._core.create_namespace({"metadata": {"name": NAMESPACE}}, _request_timeout=TIMEOUT)
        service = {"type": "ExternalName", "externalName": "localhost"}
        self._core.create_namespaced_service(
            NAMESPACE, {"metadata": {"name": WEBHOOK_SERVICE}, "spec": service}, _request_timeout=TIMEOUT
        )
        rendered = helm("template", "kueue", str(module_folder() / "charts" / "kueue"), "-n", NAMESPACE)
        # Fifty thousand lines, for which the loader in Python takes a minute.
        for item in yaml.load_all(rendered, yaml.CSafeLoader):
            if item and item["kind"] in _PATHS and item["metadata"].get("namespace", NAMESPACE) == NAMESPACE:
                for address in _webhook_services(item):
                    address["port"] = self._port
                self._post(_PATHS[item["kind"]], item)
        wait_until(self._kinds_are_there, what="Kueue's kinds", timeout_seconds=60)

    def _kinds_are_there(self) -> bool:
        custom = kubernetes.client.CustomObjectsApi(self._api)
        try:
            custom.list_cluster_custom_object(GROUP, VERSION, "workloads", _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def _post(self, path: str, item: Body) -> None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = self._api.param_serialize(
            "POST", path, header_params=headers, body=item, auth_settings=["BearerToken"]
        )
        answer = self._api.call_api(*request, _request_timeout=INSTALL_TIMEOUT)
        assert answer.status == 201, f"POST {path}: {answer.status} {answer.read()[:500]!r}"

    def _start(self) -> None:
        token = self._core.create_namespaced_service_account_token(
            ACCOUNT, NAMESPACE, {"spec": {"expirationSeconds": 7200}}, _request_timeout=TIMEOUT
        )
        folder = self._group.folder
        (cluster,) = json.loads(self._admin.read_text(encoding="utf-8"))["clusters"]
        own = kubeconfig(cluster["cluster"], token=token.status.token)
        (folder / "kubeconfig").write_text(own, encoding="utf-8")
        (folder / "config.yaml").write_text(yaml.safe_dump(self._configuration()), encoding="utf-8")
        command = [str(self._program), f"--config={folder / 'config.yaml'}", "--zap-log-level=2"]
        self._group.start("kueue", command, environment={"KUBECONFIG": str(folder / "kubeconfig")})

    def _configuration(self) -> Body:
        return {
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": f"{LOOPBACK}:{self._health}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"host": LOOPBACK, "port": self._port, "certDir": str(self._certificates)},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {
                "enable": True,
                "webhookServiceName": WEBHOOK_SERVICE,
                "webhookSecretName": WEBHOOK_SECRET,
            },
            "integrations": {"frameworks": ["batch/job"]},
            "featureGates": {"VisibilityOnDemand": False},
        }

    def _mount_certificate(self) -> bool:
        """Plays the kubelet: the Secret's files, once Kueue has filled them in, to where it reads them."""
        self._group.check("kueue")
        data = self._core.read_namespaced_secret(WEBHOOK_SECRET, NAMESPACE, _request_timeout=TIMEOUT).data or {}
        if "tls.crt" not in data:
            return False
        self._certificates.mkdir(exist_ok=True)
        for name, value in data.items():
            (self._certificates / name).write_bytes(base64.b64decode(value))
        return True

    def _is_ready(self) -> bool:
        self._group.check("kueue")
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def module_folder() -> Path:
    """Where Go keeps the module's files; downloaded with the program."""
    command = ["go", "mod", "download", "-json", MODULE]
    done = subprocess.run(command, cwd=GO_MODULES / "kueue", capture_output=True, text=True, check=True, timeout=300)
    return Path(json.loads(done.stdout)["Dir"])


def _webhook_services(item: Body) -> Iterator[Body]:
    """The addresses of webhooks in the object."""
    for webhook in item.get("webhooks", []):
        yield webhook["clientConfig"]["service"]
    conversion = item.get("spec", {}).get("conversion", {}).get("webhook")
    if conversion is not None:
        yield conversion["clientConfig"]["service"]


def main(admin: str) -> int:
    signals = {signal.SIGTERM, signal.SIGINT}
    with kubernetes.config.new_client_from_config(admin) as api, Kueue(Path(admin), api):
        print("ready", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
