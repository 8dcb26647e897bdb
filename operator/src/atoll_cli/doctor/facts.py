"""Reads the facts that the checks go by. What may not be read is a fact as well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from atoll_operator.kube.errors import ClusterError
from atoll_operator.kube.objects import NODES, PROFILES, STORES, Resource

if TYPE_CHECKING:
    from atoll_operator.kube.client import Cluster
    from atoll_operator.kube.clock import ServerClock

Body = Mapping[str, Any]

PART_OF = "app.kubernetes.io/part-of=atoll"
COMPONENT_LABEL = "app.kubernetes.io/component"
API_VERSION = Resource("version", "")
CRDS = Resource("apis/apiextensions.k8s.io/v1", "customresourcedefinitions")
DEPLOYMENTS = Resource("apis/apps/v1", "deployments")
DAEMON_SETS = Resource("apis/apps/v1", "daemonsets")
STATEFUL_SETS = Resource("apis/apps/v1", "statefulsets")
POLICIES = Resource("apis/networking.k8s.io/v1", "networkpolicies")
ENDPOINT_SLICES = Resource("apis/discovery.k8s.io/v1", "endpointslices")
STORAGE_CLASSES = Resource("apis/storage.k8s.io/v1", "storageclasses")
CLAIMS = Resource("api/v1", "persistentvolumeclaims")
OWN_REVIEWS = Resource("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews")
REVIEWS = Resource("apis/authorization.k8s.io/v1", "subjectaccessreviews")


@dataclass(frozen=True)
class Listed:
    """Objects of a kind, or why they could not be read."""

    items: tuple[Body, ...] = ()
    error: str = ""

    def __iter__(self) -> Iterator[Body]:
        return iter(self.items)

    def named(self, name: str) -> Body | None:
        """The object of this name, if there is one."""
        return next((item for item in self.items if item["metadata"]["name"] == name), None)


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource, as `trainingruns` or `pods/log`, of an API group; `""` is the core group."""

    verb: str
    group: str
    resource: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    def attributes(self, namespace: str) -> dict[str, str]:
        """As an access review takes it."""
        resource, _, subresource = self.resource.partition("/")
        found = {"verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource}
        return found | ({"namespace": namespace} if self.namespaced else {})


# Whether an account has a right; None: that could not be asked.
Rights = Mapping[Right, bool | None]


@dataclass(frozen=True)
class Facts:
    """The cluster as it is. `namespace` is the one that runs live in. `clock_skew` is how many seconds this machine's
    clock is ahead of the API server's."""

    namespace: str
    version: str = ""
    clock_skew: float | None = None
    crds: Listed = Listed()
    deployments: Listed = Listed()
    daemon_sets: Listed = Listed()
    stateful_sets: Listed = Listed()
    policies: Listed = Listed()
    api_endpoints: Listed = Listed()
    storage_classes: Listed = Listed()
    claims: Listed = Listed()
    nodes: Listed = Listed()
    profiles: Listed = Listed()
    stores: Listed = Listed()
    user_rights: Rights = field(default_factory=dict)
    operator_rights: Rights = field(default_factory=dict)

    @property
    def operator(self) -> Body | None:
        """The operator's Deployment."""
        return next((item for item in self.deployments if component(item) == "operator"), None)

    @property
    def devices(self) -> tuple[Body, ...]:
        """The edge's workloads."""
        return tuple(item for item in self.workloads if component(item) == "edge")

    @property
    def is_edge_only(self) -> bool:
        """Whether the cluster runs devices and no training, as a robot's k3s does."""
        return self.operator is None and bool(self.devices)

    @property
    def workloads(self) -> tuple[Body, ...]:
        """What the charts run."""
        return (*self.deployments, *self.daemon_sets, *self.stateful_sets)


def component(workload: Body) -> str:
    """Which part of Atoll a workload of the charts is: `operator`, `store`, `mirror`, `edge`."""
    return str((workload["metadata"].get("labels") or {}).get(COMPONENT_LABEL, ""))


def pod_spec(workload: Body) -> Body:
    """The spec of the pods that a workload makes."""
    found: Body = workload["spec"]["template"]["spec"]
    return found


def read_facts(
    cluster: Cluster, clock: ServerClock, namespace: str, *, own: Iterable[Right], operators: Iterable[Right]
) -> Facts:
    """Reads everything. `own` are the rights of the caller to ask for, `operators` those of the operator's account.

    Raises:
        ClusterError: the API server does not answer at all.
    """
    version = cluster.read(API_VERSION, None, "") or {}
    skew = time.time() - clock().timestamp()
    deployments = _listed_anywhere(cluster, DEPLOYMENTS, namespace)
    facts = Facts(
        namespace,
        version=str(version.get("gitVersion", "")),
        clock_skew=skew,
        crds=_listed(cluster, CRDS),
        deployments=deployments,
        daemon_sets=_listed_anywhere(cluster, DAEMON_SETS, namespace),
        stateful_sets=_listed_anywhere(cluster, STATEFUL_SETS, namespace),
        api_endpoints=_listed(cluster, ENDPOINT_SLICES, "default", labels="kubernetes.io/service-name=kubernetes"),
        storage_classes=_listed(cluster, STORAGE_CLASSES),
        nodes=_listed(cluster, NODES),
        profiles=_listed(cluster, PROFILES),
        stores=_listed(cluster, STORES, namespace),
        user_rights={right: _own_right(cluster, right, namespace) for right in own},
    )
    operator = facts.operator
    if operator is None:
        return facts
    home = operator["metadata"]["namespace"]
    return _with_operator(facts, cluster, home, operators)


def _with_operator(facts: Facts, cluster: Cluster, home: str, rights: Iterable[Right]) -> Facts:
    assert facts.operator is not None
    user = f"system:serviceaccount:{home}:{pod_spec(facts.operator).get('serviceAccountName', 'default')}"
    return replace(
        facts,
        policies=_listed(cluster, POLICIES, home),
        claims=_listed(cluster, CLAIMS, home),
        operator_rights={right: _right_of(cluster, user, right, facts.namespace) for right in rights},
    )


def _listed(cluster: Cluster, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Listed:
    try:
        return Listed(tuple(cluster.list_all(resource, namespace, labels=labels)))
    except ClusterError as error:
        return Listed(error=str(error))


def _listed_anywhere(cluster: Cluster, resource: Resource, namespace: str) -> Listed:
    """Those of the charts in every namespace or, where that may not be read, in this one."""
    found = _listed(cluster, resource, labels=PART_OF)
    return _listed(cluster, resource, namespace, labels=PART_OF) if found.error else found


def _own_right(cluster: Cluster, right: Right, namespace: str) -> bool | None:
    return _allowed(
        cluster, OWN_REVIEWS, "SelfSubjectAccessReview", {"resourceAttributes": right.attributes(namespace)}
    )


def _right_of(cluster: Cluster, user: str, right: Right, namespace: str) -> bool | None:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}", "system:authenticated"]
    spec = {"user": user, "groups": groups, "resourceAttributes": right.attributes(namespace)}
    return _allowed(cluster, REVIEWS, "SubjectAccessReview", spec)


def _allowed(cluster: Cluster, resource: Resource, kind: str, spec: Body) -> bool | None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    try:
        return bool(cluster.create(resource, None, body)["status"]["allowed"])
    except ClusterError:
        return None
