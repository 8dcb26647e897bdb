"""etcd, kube-apiserver and kube-controller-manager on free loopback ports: a Kubernetes without nodes.

`cluster.node` puts the API server on a bridge's address instead and adds the node. No root is needed here.
`with ControlPlane() as plane:` gives `kubeconfig` (a cluster admin's), `server`, `token` and
`ca_file`; `python -m cluster.controlplane` keeps one up until Ctrl-C. Pods stay Pending for want of a node: a test
plays the kubelet by patching their status.
"""

from __future__ import annotations

import json
import secrets
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster.binaries import ensure
from cluster.processes import ProcessGroup, free_port
from support.kubeconfig import kubeconfig
from support.polling import wait_until

LOOPBACK = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
# What Jobs, owner references, namespaces, service accounts and quotas need. Controllers of nodes, volumes and
# certificates would only load the machine where there is no node.
NODELESS_CONTROLLERS = (
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "resourcequota-controller",
    "ttl-after-finished-controller",
    "pod-garbage-collector-controller",
    "clusterrole-aggregation-controller",
)


class ControlPlane:
    """A control plane of its owner's; everything it starts ends with it.

    `address` is what the API server listens on; pods reach it only where that is no loopback address. `admins` have
    all rights and a kubeconfig each (`kubeconfig_of`), so that `audit_policy` can tell their calls apart; what it
    lets through stands in `audit_log`.
    """

    def __init__(
        self,
        *,
        controllers: Sequence[str] = NODELESS_CONTROLLERS,
        address: str = LOOPBACK,
        admins: Sequence[str] = (),
        audit_policy: Mapping[str, Any] | None = None,
    ) -> None:
        self._address = address
        self._controllers = controllers
        self._admins = {name: secrets.token_hex(16) for name in admins}
        self._audit_policy = audit_policy
        self._programs = {name: ensure(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")}
        self._group = ProcessGroup("controlplane")
        self._etcd_port, self._api_port = free_port(), free_port()
        self.token = secrets.token_hex(16)

    @property
    def folder(self) -> Path:
        return self._group.folder

    @property
    def server(self) -> str:
        return f"https://{self._address}:{self._api_port}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        """The API server's self-signed certificate, which is its own authority."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def kubeconfig_of(self, admin: str) -> Path:
        path = self.folder / f"kubeconfig-{admin}"
        path.touch(mode=0o600)
        path.write_text(self.kubeconfig_for(self._admins[admin]), encoding="utf-8")
        return path

    def log_tail(self, name: str) -> str:
        return self._group.log_tail(name)

    def start(self) -> None:
        self._write_credentials()
        self._start_etcd()
        self.start_api_server()
        self.kubeconfig.write_text(self.kubeconfig_for(self.token), encoding="utf-8")
        self.kubeconfig.chmod(0o600)
        self._start_controllers()
        wait_until(self._default_account_exists, what="the first service account", timeout_seconds=60)

    def start_api_server(self) -> None:
        """Starts the API server on its port, again after `stop_api_server`, and waits until it is ready."""
        self._group.start("kube-apiserver", [str(self._programs["kube-apiserver"]), *self._api_server_flags()])
        wait_until(self._api_ready, what=f"the API server on {self.server}", timeout_seconds=120)

    def stop_api_server(self) -> None:
        """Takes the API server down as an outage does; what it stored stays in etcd."""
        self._group.stop("kube-apiserver", kill=True)

    def pid(self, name: str) -> int:
        """The process of one of its programs."""
        return self._group.pid(name)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an admin's GET, without any client library."""
        request = urllib.request.Request(self.server + path, headers={"Authorization": f"Bearer {self.token}"})
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def kubeconfig_for(self, token: str, *, server: str = "") -> str:
        """A kubeconfig for whoever has this token, by this address where it is not the API server's own."""
        cluster = {"server": server or self.server} | ({} if server else {"certificate-authority": str(self.ca_file)})
        return kubeconfig(cluster, token=token, name="atoll-test")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._group.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An API server that is asked waits for its watches to end, a minute long; nothing here is kept anyway.
        self._group.close(kill=True)

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "service-account.key").write_bytes(private)
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        holders = {"admin": self.token, **self._admins}
        lines = [f'{token},{name},{name},"system:masters"\n' for name, token in holders.items()]
        tokens.write_text("".join(lines), encoding="utf-8")

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",  # nothing here outlives the test
        }
        self._group.start("etcd", [str(self._programs["etcd"]), *_flags(flags)])

    def _api_server_flags(self) -> list[str]:
        key = self.folder / "service-account.key"
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": self._address,
            "advertise-address": self._address,
            "secure-port": self._api_port,
            "cert-dir": self.ca_file.parent,
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "Node,RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": key,
            "service-account-key-file": key,
            "service-cluster-ip-range": SERVICE_RANGE,
            "allow-privileged": "true",
            "kubelet-preferred-address-types": "InternalIP",
        }
        if self._address == LOOPBACK:
            flags["endpoint-reconciler-type"] = "none"  # a loopback address is no valid Endpoints
        if self._audit_policy is not None:
            policy = self.folder / "audit-policy.json"
            policy.write_text(json.dumps(self._audit_policy), encoding="utf-8")
            flags |= {"audit-policy-file": policy, "audit-log-path": self.audit_log, "audit-log-maxsize": 10_000}
        return _flags(flags)

    def _start_controllers(self) -> None:
        flags = {
            "kubeconfig": self.kubeconfig,
            "bind-address": "127.0.0.1",
            "secure-port": free_port(),
            "cert-dir": self.folder / "controller-certificates",
            "leader-elect": "false",
            "controllers": ",".join(self._controllers),
            "service-account-private-key-file": self.folder / "service-account.key",
            "root-ca-file": self.ca_file,
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
        }
        self._group.start("kube-controller-manager", [str(self._programs["kube-controller-manager"]), *_flags(flags)])

    def _api_ready(self) -> bool:
        self._group.check("etcd")
        self._group.check("kube-apiserver")
        try:
            return self.ca_file.exists() and self.get("/readyz")[0] == 200
        except (urllib.error.URLError, OSError):
            return False

    def _default_account_exists(self) -> bool:
        self._group.check("kube-controller-manager")
        return self.get("/api/v1/namespaces/default/serviceaccounts/default")[0] == 200


def _flags(values: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def main() -> int:
    with ControlPlane() as plane:
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        print("Ctrl-C ends it", file=sys.stderr)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
