"""Who reaches whom under the charts' NetworkPolicies; docs/security.md has the table of it."""

from __future__ import annotations

from typing import Any

import pytest

from support.helm import render
from support.network_policies import Peer, may_reach, policies_of, selecting
from support.reach_table import (
    API_SERVER,
    DNS,
    HOME,
    KUBELET,
    METADATA,
    OUTSIDE,
    OWN_BUCKET,
    PAGE,
    QUICKSTART,
    ROBOTS,
    STRANGER,
    TEAM,
    edge_in,
    pods_of,
    stage_in,
    with_table,
)

pytestmark = pytest.mark.api

EVERYTHING = (DNS, API_SERVER, KUBELET, STRANGER, OUTSIDE, METADATA)
MINIO = Peer("minio", "minio", {"app": "minio"}, ports={"http": 9000})


def quick_start(*more: str) -> list[dict[str, Any]]:
    return render("atoll", *QUICKSTART, *more, namespace=HOME)


def reached(objects: list[dict[str, Any]], source: Peer, *more: tuple[Peer, int]) -> set[str]:
    policies = policies_of(objects)
    return {peer.name for peer, port in (*EVERYTHING, *more) if may_reach(policies, source, peer, port)}


def store_of(objects: list[dict[str, Any]]) -> tuple[Peer, int]:
    return pods_of(objects)["store"], 9000


@pytest.mark.parametrize("namespace", [HOME, ROBOTS])
def test_P19_an_edge_pod_of_any_namespace_reaches_the_bundled_store(namespace: str) -> None:
    objects = quick_start()
    assert may_reach(policies_of(objects), edge_in(namespace, "lab"), *store_of(objects))


@pytest.mark.parametrize("component", ["mirror", "quickstart"])
def test_what_needs_the_bundled_store_reaches_it(component: str) -> None:
    objects = quick_start()
    assert may_reach(policies_of(objects), pods_of(objects)[component], *store_of(objects))


def test_nobody_else_reaches_the_bundled_store_and_it_reaches_nobody() -> None:
    objects = quick_start()
    store, port = store_of(objects)
    # A label of Atoll in a namespace that is not the chart's opens nothing.
    posing = Peer("posing", "elsewhere", {"app.kubernetes.io/part-of": "atoll"})
    for source in (STRANGER[0], posing, pods_of(objects)["operator"]):
        assert not may_reach(policies_of(objects), source, store, port)
    assert not may_reach(policies_of(objects), pods_of(objects)["mirror"], store, 9001)
    assert reached(objects, store) == set()


def test_P20_stages_of_the_quick_start_reach_their_store_and_nothing_else() -> None:
    objects = quick_start()
    assert reached(objects, stage_in(HOME), store_of(objects), (MINIO, 9000)) == {"DNS", "store"}


def test_stages_that_also_have_a_bucket_elsewhere_reach_what_the_values_name() -> None:
    rule = '[{"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}]}]'
    objects = quick_start(f"--set-json=networkPolicy.stages.egress={rule}")
    assert reached(objects, stage_in(HOME), store_of(objects)) == {"DNS", "store", OUTSIDE[0].name}


def test_stages_with_their_own_bucket_reach_all_but_the_metadata() -> None:
    objects = render("atoll", *OWN_BUCKET, namespace=HOME)
    everything = {peer.name for peer, _ in (*EVERYTHING, (MINIO, 9000))}
    assert reached(objects, stage_in(TEAM), (MINIO, 9000)) == everything - {METADATA[0].name}
    ipv6 = Peer("a bucket by IPv6", address="2001:db8::7")
    assert may_reach(policies_of(objects), stage_in(TEAM), ipv6, 443)
    assert not may_reach(policies_of(objects), stage_in(TEAM), Peer("metadata", address="fd00:ec2::254"), 80)


def test_nobody_comes_into_a_stage() -> None:
    policies = policies_of(quick_start())
    assert selecting(policies, stage_in(HOME), "Ingress")
    assert not may_reach(policies, STRANGER[0], stage_in(HOME), 8080)


def test_the_operator_reaches_the_api_server_by_the_ports_of_the_values_alone() -> None:
    operator = pods_of(quick_start())["operator"]
    other = render("atoll", *QUICKSTART, "--set=networkPolicy.apiServerPorts={16443}", namespace=HOME)
    assert not may_reach(policies_of(quick_start()), operator, API_SERVER[0], 16443)
    assert may_reach(policies_of(other), operator, API_SERVER[0], 16443)
    assert not may_reach(policies_of(other), operator, *API_SERVER)


def test_a_selector_that_is_not_known_is_no_silent_no() -> None:
    selector = {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}
    policy = {"metadata": {"namespace": "n"}, "spec": {"podSelector": selector, "policyTypes": ["Egress"]}}
    with pytest.raises(ValueError, match="NotIn"):
        may_reach([policy], Peer("pod", "n"), *OUTSIDE)


def test_the_page_has_the_table_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run `make docs`"
