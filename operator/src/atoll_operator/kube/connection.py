"""Connects with an account: the pod's own, or a user's kubeconfig."""

import os
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml

from atoll_operator.kube.cluster import Cluster
from atoll_operator.kube.errors import ClusterError

# Where a pod finds the namespace of its service account.
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(*, connections: int = 4, **settings: Any) -> Cluster:
    """A Cluster with the pod's service account, or with the kubeconfig where the process runs in no pod. With more
    threads than `connections`, those beyond open a new one for each call."""
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_incluster_config(client_configuration=configuration)
    except kubernetes.config.ConfigException:
        kubernetes.config.load_kube_config(client_configuration=configuration)
    # The work queue repeats; a second, hidden layer of repeats would only multiply the load of an outage.
    configuration.retries = False
    configuration.connection_pool_maxsize = connections
    return Cluster(kubernetes.client.ApiClient(configuration), **settings)


def connect_as_user(kubeconfig: str | None, context: str | None, **settings: Any) -> tuple[Cluster, str]:
    """A Cluster with the user's kubeconfig (in a pod without one: its service account), and the namespace there.

    Raises:
        ClusterError: there is no usable configuration.
    """
    configuration = kubernetes.client.Configuration()
    try:
        namespace = _load_for_user(configuration, kubeconfig, context)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError) as error:
        where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ClusterError(f"read the kubeconfig {where}", f"{error}; name another with --kubeconfig") from None
    configuration.retries = False
    return Cluster(kubernetes.client.ApiClient(configuration), **settings), namespace


def _load_for_user(configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    try:
        contexts, active = kubernetes.config.list_kube_config_contexts(kubeconfig)
        kubernetes.config.load_kube_config(kubeconfig, context, client_configuration=configuration)
    except kubernetes.config.ConfigException:
        if kubeconfig or context or "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise
        kubernetes.config.load_incluster_config(client_configuration=configuration)
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    chosen = next((item for item in contexts if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")
