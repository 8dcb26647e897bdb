"""The operator as a process of its own, with the rights that the chart gives it and short intervals."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kubernetes.client
import yaml

from cluster.controlplane import ControlPlane
from cluster.processes import ProcessGroup

RULES = Path(__file__).parents[2] / "charts" / "atoll" / "files"
ACCOUNT = "atoll-operator"
# Seconds; the real ones are for clusters, where nobody waits for a test.
SHORT_INTERVALS = {
    "ATOLL_LEASE_DURATION_SECONDS": "10",
    "ATOLL_LEASE_RENEW_DEADLINE_SECONDS": "7",
    "ATOLL_LEASE_RETRY_SECONDS": "0.5",
    "ATOLL_RESYNC_SECONDS": "20",
    "ATOLL_PODS_AFTER_SECONDS": "0.3",
    "ATOLL_PODS_STARTING_SECONDS": "0.5",
    "ATOLL_PODS_RUNNING_SECONDS": "1",
}


class OperatorProcess:
    """An operator that serves one namespace, and keeps its Lease and snapshots there too.

    `kill` is a crash; `start` again is the next container of the same pod.
    """

    account = ACCOUNT

    def __init__(
        self,
        plane: ControlPlane,
        api: kubernetes.client.ApiClient,
        namespace: str,
        *,
        settings: Mapping[str, str] | None = None,
        prepare: bool = True,
        server: str | None = None,
        clusterwide: bool = False,
    ) -> None:
        """`prepare=False`: another operator of this namespace has made the account and its rights already. `server`
        is where its calls go, if not to the API server itself. `clusterwide` gives it the rights for all
        namespaces; that it serves them is one of its settings."""
        self._group = ProcessGroup("operator")
        self._namespace = namespace
        self._kubeconfig = self._group.folder / "kubeconfig"
        self._settings = settings or {}
        if prepare:
            grant(api, namespace, clusterwide=clusterwide)
        token = kubernetes.client.CoreV1Api(api).create_namespaced_service_account_token(
            ACCOUNT, namespace, {"spec": {"expirationSeconds": 3600}}, _request_timeout=10
        )
        text = plane.kubeconfig_for(token.status.token, server=server or "")
        self._kubeconfig.write_text(text, encoding="utf-8")

    @property
    def kubeconfig(self) -> Path:
        """For calls as the operator's own account."""
        return self._kubeconfig

    def close(self) -> None:
        self._group.close()

    def start(self) -> None:
        """Starts it, unless it runs already."""
        if self._group.started("operator"):
            return
        environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "ATOLL_NAMESPACE": self._namespace,
            "ATOLL_NAMESPACES": self._namespace,
            "ATOLL_IDENTITY": "operator-0",
            "ATOLL_LIVENESS": "",
            "ATOLL_METRICS_PORT": "0",
            **SHORT_INTERVALS,
            **self._settings,
        }
        command = [sys.executable, "-P", "-m", "atoll_operator.main"]
        self._group.start("operator", command, environment=environment)

    @property
    def pid(self) -> int:
        return self._group.pid("operator")

    def kill(self) -> None:
        self._group.stop("operator", kill=True)

    def stop(self) -> None:
        """SIGTERM, as a rollout does; nothing where it does not run."""
        if self._group.started("operator"):
            self._group.stop("operator")

    def check(self) -> None:
        self._group.check("operator")

    def log(self) -> list[dict[str, Any]]:
        """What all lives of this operator logged."""
        lines = self._group.log_path("operator").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) if line.startswith("{") else {"message": line, "severity": "raw"} for line in lines]

    def problems(self) -> list[str]:
        """What was logged as an error, or not by the logger at all (a traceback of a crash).

        kopf logs each request that an absent API server did not answer as an error, though it repeats it.
        """
        grave = [entry for entry in self.log() if entry["severity"] in ("error", "fatal", "raw")]
        return [str(entry["message"]) for entry in grave if not str(entry["message"]).startswith("Request attempt #")]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("".join(f"{line}\n" for line in self.log()[-60:]))
        self.close()


def grant(api: kubernetes.client.ApiClient, namespace: str, *, clusterwide: bool = False) -> None:
    """The operator's ServiceAccount in this namespace, with the chart's rights for this namespace or for all."""
    kubernetes.client.CoreV1Api(api).create_namespaced_service_account(
        namespace, {"metadata": {"name": ACCOUNT}}, _request_timeout=10
    )
    rbac = kubernetes.client.RbacAuthorizationV1Api(api)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    for rules in ("own",) if clusterwide else ("own", "run"):
        rbac.create_namespaced_role(namespace, _role([rules], f"atoll-{rules}"), _request_timeout=10)
        binding = _binding("Role", f"atoll-{rules}", f"atoll-{rules}", subject)
        rbac.create_namespaced_role_binding(namespace, binding, _request_timeout=10)
    wide = f"atoll-{namespace}"
    role = _role(["cluster", "run"] if clusterwide else ["cluster"], wide)
    rbac.create_cluster_role(role, _request_timeout=10)
    rbac.create_cluster_role_binding(_binding("ClusterRole", wide, wide, subject), _request_timeout=10)


def grant_runs(api: kubernetes.client.ApiClient, namespace: str, *, account_namespace: str) -> None:
    """The chart's rights in a namespace whose runs are served by the operator of another one."""
    rbac = kubernetes.client.RbacAuthorizationV1Api(api)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": account_namespace}
    rbac.create_namespaced_role(namespace, _role(["run"], "atoll-run"), _request_timeout=10)
    binding = _binding("Role", "atoll-run", "atoll-run", subject)
    rbac.create_namespaced_role_binding(namespace, binding, _request_timeout=10)


def _role(files: Sequence[str], name: str) -> dict[str, Any]:
    texts = [(RULES / f"operator-{file}-rules.yaml").read_text(encoding="utf-8") for file in files]
    return {"metadata": {"name": name}, "rules": [rule for text in texts for rule in yaml.safe_load(text)]}


def _binding(kind: str, role: str, name: str, subject: Mapping[str, str]) -> dict[str, Any]:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    return {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
