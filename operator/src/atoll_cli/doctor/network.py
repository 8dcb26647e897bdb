"""Checks whether the NetworkPolicies let the operator reach the API server, by the rules of a policy engine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from atoll_cli.doctor.facts import Body, Facts
from atoll_cli.doctor.result import CheckResult, fail, ok, warn


def check_policies(facts: Facts) -> Iterator[CheckResult]:
    """The ports of the API server's endpoints against the operator's egress."""
    if facts.operator is None:
        return
    if problem := facts.policies.error or facts.api_endpoints.error:
        yield warn("policies", problem, "have somebody run this who may list NetworkPolicies and EndpointSlices")
        return
    labels = facts.operator["spec"]["template"]["metadata"].get("labels") or {}
    policies = [item for item in facts.policies if _limits_egress(item) and _selects(item, labels)]
    if not policies:
        yield ok("policies", "no NetworkPolicy limits where the operator may connect to")
        return
    endpoints = list(_endpoints(facts.api_endpoints))
    closed = sorted({port for host, port in endpoints if not _is_open(policies, host, port)})
    names = ", ".join(sorted(item["metadata"]["name"] for item in policies))
    if not endpoints:
        text = f"Service default/kubernetes has no endpoints to compare NetworkPolicy {names} with"
        yield warn("policies", text, "name the API server's port in networkPolicy.apiServerPorts")
    elif closed:
        ports = ",".join(map(str, (443, 6443, *(port for port in closed if port not in (443, 6443)))))
        text = f"NetworkPolicy {names} closes port {', '.join(map(str, closed))}, where the API server listens"
        yield fail("policies", text, f"helm upgrade with --set networkPolicy.apiServerPorts={{{ports}}}")
    else:
        yield ok("policies", f"NetworkPolicy {names} lets the operator reach the API server")


def _endpoints(slices: Iterable[Body]) -> Iterator[tuple[str, int]]:
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            for host in endpoint.get("addresses") or ():
                yield from ((host, int(port["port"])) for port in item.get("ports") or () if port.get("port"))


def _limits_egress(policy: Body) -> bool:
    spec = policy["spec"]
    return "Egress" in (spec.get("policyTypes") or ()) or bool(spec.get("egress"))


def _selects(policy: Body, labels: Body) -> bool:
    selector = policy["spec"].get("podSelector") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_fits(item, labels) for item in selector.get("matchExpressions") or ())


def _fits(expression: Body, labels: Body) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def _is_open(policies: Iterable[Body], host: str, port: int) -> bool:
    """Policies add up: one rule of one of them is enough."""
    rules = (rule for policy in policies for rule in policy["spec"].get("egress") or ())
    return any(_has_port(rule.get("ports"), port) and _has_host(rule.get("to"), host) for rule in rules)


def _has_port(ports: Any, port: int) -> bool:
    if not ports:
        return True
    for item in ports:
        first = item.get("port")
        if item.get("protocol", "TCP") != "TCP":
            continue
        # The API server has no pod, so that no port has a name.
        if first is None or (isinstance(first, int) and first <= port <= item.get("endPort", first)):
            return True
    return False


def _has_host(peers: Any, host: str) -> bool:
    if not peers:
        return True
    address = ipaddress.ip_address(host)
    for block in (item["ipBlock"] for item in peers if "ipBlock" in item):
        inside = address in ipaddress.ip_network(block["cidr"], strict=False)
        if inside and not any(
            address in ipaddress.ip_network(part, strict=False) for part in block.get("except") or ()
        ):
            return True
    return False
