"""Who may reach whom under NetworkPolicies, evaluated from the rendered objects as a network plugin does it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, or with an empty `namespace` something outside the pods' network that only an address describes.

    `ports` are the names of the pod's own ports.
    """

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.42.0.9"
    ports: Mapping[str, int] = field(default_factory=dict)


def policies_of(objects: Iterable[Mapping[str, Any]]) -> list[Policy]:
    return [item for item in objects if item["kind"] == "NetworkPolicy"]


def may_reach(policies: Iterable[Policy], source: Peer, destination: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the source's policies let the connection out and the destination's let it in."""
    known = list(policies)
    leaves = _allowed(known, "Egress", chosen=source, other=destination, server=destination, at=(port, protocol))
    return leaves and _allowed(
        known, "Ingress", chosen=destination, other=source, server=destination, at=(port, protocol)
    )


def selecting(policies: Iterable[Policy], pod: Peer, direction: str) -> list[Policy]:
    """The policies that restrict this direction of the pod."""
    return [
        policy
        for policy in policies
        if pod.namespace
        and policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], pod.labels)
    ]


def _allowed(
    policies: list[Policy], direction: str, *, chosen: Peer, other: Peer, server: Peer, at: tuple[int, str]
) -> bool:
    restricting = selecting(policies, chosen, direction)
    side = "to" if direction == "Egress" else "from"
    return not restricting or any(
        _port_fits(rule.get("ports"), server, *at)
        and _peer_fits(rule.get(side), other, namespace=policy["metadata"]["namespace"])
        for policy in restricting
        for rule in policy["spec"].get(direction.lower()) or ()
    )


def _port_fits(allowed: list[dict[str, Any]] | None, server: Peer, port: int, protocol: str) -> bool:
    if not allowed:
        return True
    numbers = {(server.ports.get(str(item["port"]), item["port"]), item.get("protocol", "TCP")) for item in allowed}
    return (port, protocol) in numbers


def _peer_fits(allowed: list[dict[str, Any]] | None, peer: Peer, *, namespace: str) -> bool:
    return not allowed or any(_fits(item, peer, namespace) for item in allowed)


def _fits(item: dict[str, Any], peer: Peer, namespace: str) -> bool:
    if block := item.get("ipBlock"):
        return _within(peer.address, block["cidr"]) and not any(
            _within(peer.address, excepted) for excepted in block.get("except", ())
        )
    if not peer.namespace:
        return False
    if "namespaceSelector" in item:
        # Kubernetes sets this label itself; no other is asked for here.
        inside = _selects(item["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        inside = peer.namespace == namespace
    return inside and _selects(item.get("podSelector") or {}, peer.labels)


def _within(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _meets(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _meets(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    if expression["operator"] == "Exists":
        return value is not None
    if expression["operator"] == "In":
        return value in expression["values"]
    raise ValueError(f"the charts use no selector {expression['operator']!r}; teach this module what it means")
