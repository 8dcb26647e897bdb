"""Checks of rights: those of the user, and those of the operator's account where the user may ask for them."""

from __future__ import annotations

from collections.abc import Iterator

from atoll_cli.doctor.facts import Facts, Right, Rights
from atoll_cli.doctor.result import CheckResult, fail, ok, warn

ATOLL = "atoll.dev"

# Without these a user cannot train.
REQUIRED = (
    *(Right(verb, ATOLL, "trainingruns") for verb in ("create", "get", "list", "patch")),
    Right("list", ATOLL, "objectstores"),
    Right("list", ATOLL, "modelreleases"),
)
# What logs, the port-forward to the bucket, and the check of the bucket need.
USEFUL = (
    Right("list", "", "pods"),
    Right("get", "", "pods/log"),
    Right("create", "", "pods/portforward"),
    Right("create", "", "pods"),
)
USER_RIGHTS = (*REQUIRED, *USEFUL)

# As in the chart's files/operator-run-rules.yaml and operator-cluster-rules.yaml.
OPERATOR_RIGHTS = (
    *(Right(verb, ATOLL, "trainingruns") for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(Right(verb, ATOLL, "trainingsweeps") for verb in ("get", "list", "watch")),
    *(Right(verb, ATOLL, "trainingruns/status") for verb in ("update", "patch")),
    Right("patch", ATOLL, "trainingsweeps/status"),
    Right("patch", ATOLL, "modelreleases/status"),
    *(Right(verb, ATOLL, "modelreleases") for verb in ("get", "list", "watch", "create")),
    *(Right(verb, ATOLL, "objectstores") for verb in ("get", "list", "watch")),
    *(Right(verb, "batch", "jobs") for verb in ("get", "list", "watch", "create", "delete")),
    *(Right(verb, "", "pods") for verb in ("get", "list", "watch")),
    Right("get", "", "pods/log"),
    Right("create", "", "services"),
    Right("create", "networking.k8s.io", "networkpolicies"),
    Right("list", "kueue.x-k8s.io", "workloads"),
    *(Right(verb, "", "events") for verb in ("list", "create")),
    *(Right(verb, ATOLL, "trainingprofiles", namespaced=False) for verb in ("get", "list", "watch")),
    *(Right(verb, "", "nodes", namespaced=False) for verb in ("get", "list")),
)


def check_rights(facts: Facts) -> Iterator[CheckResult]:
    """What the user and the operator may not do in the namespace."""
    if facts.is_edge_only:
        return
    where = f"in namespace {facts.namespace}"
    advice = f"kubectl create rolebinding USER-edit --clusterrole=edit --user=USER -n {facts.namespace}"
    required = _missing(facts.user_rights, REQUIRED)
    useful = _missing(facts.user_rights, USEFUL)
    if required:
        yield fail("rights", f"you may not {_listing(required)} {where}", f"ask an admin: {advice}")
    if useful:
        text = f"you may not {_listing(useful)} {where}: logs, push and the check of the bucket need it"
        yield warn("rights", text, f"ask an admin: {advice}")
    if not required and not useful:
        yield ok("rights", f"you may start and follow runs {where}")
    yield from _operators(facts, where)


def _operators(facts: Facts, where: str) -> Iterator[CheckResult]:
    if not facts.operator_rights:
        return
    missing = _missing(facts.operator_rights, OPERATOR_RIGHTS)
    if missing:
        advice = "helm upgrade with rbac.create=true; with rbac.scope=namespaced name the namespace in watch.namespaces"
        yield fail("operator-rights", f"the operator may not {_listing(missing)} {where}", advice)
    elif all(facts.operator_rights.get(right) is None for right in OPERATOR_RIGHTS):
        advice = "have somebody run this who may create SubjectAccessReviews"
        yield warn("operator-rights", "the operator's rights could not be asked for", advice)
    else:
        yield ok("operator-rights", f"the operator has its rights {where}")


def _missing(known: Rights, wanted: tuple[Right, ...]) -> list[Right]:
    return [right for right in wanted if known.get(right) is False]


def _listing(rights: list[Right]) -> str:
    return ", ".join(map(str, rights))
