"""`atoll doctor`: each thing that is wrong is found, and nothing else is."""

from __future__ import annotations

import io
import json
import tarfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from atoll_cli.commands.doctor import check_facts
from atoll_cli.doctor.facts import Facts, Listed, Right
from atoll_cli.doctor.images import MAX_LISTED, K3sArchives, full_name, read_archives
from atoll_cli.doctor.result import CheckResult, Level
from atoll_cli.doctor.rights import OPERATOR_RIGHTS, USER_RIGHTS
from support.doctor_facts import (
    IMAGES,
    claim,
    crds,
    endpoints,
    healthy,
    named,
    node,
    policy,
    storage_class,
    workload,
)

CHART = Path(__file__).parents[3] / "charts" / "atoll" / "files"


def wrong(facts: Facts, archives: K3sArchives | None = None) -> list[CheckResult]:
    return [item for item in check_facts(facts, archives) if item.level is not Level.OK]


def only(facts: Facts, check: str, level: Level, archives: K3sArchives | None = None) -> CheckResult:
    """The one thing that is wrong."""
    found = wrong(facts, archives)
    assert [(item.check, item.level) for item in found] == [(check, level)]
    assert found[0].advice
    return found[0]


def test_nothing_is_wrong_with_a_healthy_cluster() -> None:
    assert wrong(healthy()) == []
    checks = {item.check for item in check_facts(healthy(), None)}
    assert checks == {
        "api",
        "kinds",
        "operator",
        "clock",
        "rights",
        "operator-rights",
        "policies",
        "storage",
        "gpu",
        "images",
    }


@pytest.mark.parametrize("port", [33047, 16443])
def test_a_policy_that_closes_the_api_servers_port_is_found(port: int) -> None:
    found = only(healthy(api_endpoints=endpoints(port)), "policies", Level.FAIL)
    assert f"closes port {port}" in found.message
    assert found.advice == f"helm upgrade with --set networkPolicy.apiServerPorts={{443,6443,{port}}}"


@pytest.mark.parametrize(
    "open_policy",
    [
        policy(443, 33047),
        policy(egress=[{}]),
        policy(egress=[{"ports": [{"port": 30000, "endPort": 40000}]}]),
        policy(egress=[{"to": [{"ipBlock": {"cidr": "192.168.0.0/16"}}]}]),
        policy(policyTypes=["Ingress"], egress=None),
        policy(podSelector={"matchLabels": {"app": "other"}}),
        policy(podSelector={"matchExpressions": [{"key": "atoll.dev/stage", "operator": "Exists"}]}),
    ],
)
def test_a_policy_that_leaves_the_port_open_is_none_to_worry_about(open_policy: Any) -> None:
    assert wrong(healthy(api_endpoints=endpoints(33047), policies=Listed((open_policy,)))) == []


def test_without_endpoints_nothing_is_known_of_the_port() -> None:
    only(healthy(api_endpoints=Listed()), "policies", Level.WARN)


def test_policies_add_up() -> None:
    assert wrong(healthy(api_endpoints=endpoints(33047), policies=Listed((policy(443), policy(33047))))) == []


@pytest.mark.parametrize(
    "peers", [[{"podSelector": {}}], [{"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.1.0/24"]}}]]
)
def test_a_rule_for_other_hosts_does_not_open_the_port(peers: Any) -> None:
    facts = healthy(policies=Listed((policy(egress=[{"to": peers}]),)))
    only(facts, "policies", Level.FAIL)


def test_a_claim_without_a_storage_class_is_found() -> None:
    facts = healthy(storage_classes=Listed(), claims=Listed((claim(),)))
    assert "no default one" in only(facts, "storage", Level.FAIL).message
    only(healthy(storage_classes=Listed()), "storage", Level.WARN)


def test_a_claim_for_a_class_that_is_not_there_is_found() -> None:
    found = only(healthy(claims=Listed((claim(storageClassName="fast"),))), "storage", Level.FAIL)
    assert "waits for StorageClass fast, which does not exist" in found.message
    only(healthy(claims=Listed((claim(),))), "storage", Level.WARN)


def test_classes_of_which_none_is_the_default_are_named() -> None:
    facts = healthy(storage_classes=Listed((storage_class("a", default=False), storage_class("b", default=False))))
    assert "a, b" in only(facts, "storage", Level.WARN).message


def test_an_image_that_no_node_and_no_registry_has_is_found() -> None:
    operator = "localhost/atoll/operator:1"
    found = only(healthy(nodes=Listed((node(images=(operator, IMAGES["convert"])),))), "images", Level.FAIL)
    assert found.message.startswith("localhost/atoll/train:1 (train of TrainingProfile default) is on no node")
    assert "make load" in found.advice


def test_an_image_that_one_of_two_nodes_lacks_is_a_warning() -> None:
    all_images = ("localhost/atoll/operator:1", *IMAGES.values())
    facts = healthy(nodes=Listed((node(images=all_images), node("pc", images=all_images[:2]))))
    assert "is not on node pc" in only(facts, "images", Level.WARN).message


def test_a_node_whose_list_of_images_is_cut_may_have_the_image() -> None:
    many = tuple(f"docker.io/library/other-{number}:1" for number in range(MAX_LISTED - 2))
    images = ("localhost/atoll/operator:1", IMAGES["convert"], *many)
    assert "crictl" in only(healthy(nodes=Listed((node(images=images),))), "images", Level.WARN).advice


def test_an_image_that_is_always_pulled_from_nowhere_is_found() -> None:
    profile = named("default", spec={"images": IMAGES, "imagePullPolicy": "Always"})
    found = wrong(healthy(profiles=Listed((profile,))))
    assert {(item.check, item.level) for item in found} == {("images", Level.FAIL)}
    assert "always pulls" in found[0].message


def test_images_of_a_registry_need_not_be_there() -> None:
    images = {stage: f"ghcr.io/atoll/{stage}@sha256:{'a' * 64}" for stage in IMAGES}
    profile = named("default", spec={"images": images})
    operator = Listed((workload("operator", "ghcr.io/atoll/operator:1"),))
    assert wrong(healthy(profiles=Listed((profile,)), deployments=operator, nodes=Listed((node(),)))) == []


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("atoll/edge:2", "docker.io/atoll/edge:2"),
        ("localhost/atoll/edge", "localhost/atoll/edge:latest"),
        ("pc:5000/edge:1", "pc:5000/edge:1"),
        ("ghcr.io/a/b:1@sha256:ab", "ghcr.io/a/b@sha256:ab"),
    ],
)
def test_images_are_compared_by_their_full_names(image: str, full: str) -> None:
    assert full_name(image) == full


def write_archive(path: Path, *tags: str) -> None:
    with tarfile.open(path, "w") as archive:
        data = json.dumps([{"RepoTags": list(tags)}]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def test_an_image_without_an_archive_is_lost_once_k3s_removes_it(tmp_path: Path) -> None:
    write_archive(tmp_path / "atoll-operator.tar", "localhost/atoll/operator:1")
    write_archive(tmp_path / "atoll-convert.tar", IMAGES["convert"])
    (tmp_path / "k3s-airgap-images.tar.zst").write_bytes(b"not for us")
    found = only(healthy(), "archives", Level.WARN, read_archives(tmp_path))
    assert IMAGES["train"] in found.message
    assert IMAGES["convert"] not in found.message
    write_archive(tmp_path / "atoll-train.tar", IMAGES["train"])
    assert wrong(healthy(), read_archives(tmp_path)) == []


def test_a_machine_without_k3s_has_no_archives_to_check(tmp_path: Path) -> None:
    assert read_archives(tmp_path / "none") is None
    only(healthy(), "archives", Level.WARN, K3sArchives(tmp_path, error="permission denied"))


@pytest.mark.parametrize(("seconds", "level"), [(600.0, Level.FAIL), (-600.0, Level.FAIL), (90.0, Level.WARN)])
def test_a_wrong_clock_is_found(seconds: float, level: Level) -> None:
    found = only(healthy(clock_skew=seconds), "clock", level)
    assert f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the API server's" in found.message


def test_a_right_that_the_user_lacks_is_found() -> None:
    lacks = dict.fromkeys(USER_RIGHTS, True) | {Right("create", "atoll.dev", "trainingruns"): False}
    assert (
        "you may not create trainingruns in namespace team"
        in only(healthy(user_rights=lacks), "rights", Level.FAIL).message
    )
    lacks = dict.fromkeys(USER_RIGHTS, True) | {Right("get", "", "pods/log"): False}
    assert "get pods/log" in only(healthy(user_rights=lacks), "rights", Level.WARN).message


def test_a_right_that_the_operator_lacks_is_found() -> None:
    lacks = dict.fromkeys(OPERATOR_RIGHTS, True) | {Right("create", "batch", "jobs"): False}
    found = only(healthy(operator_rights=lacks), "operator-rights", Level.FAIL)
    assert "the operator may not create jobs in namespace team" in found.message
    only(healthy(operator_rights=dict.fromkeys(OPERATOR_RIGHTS)), "operator-rights", Level.WARN)


def test_the_operators_rights_are_those_of_the_chart() -> None:
    granted = set()
    for name, namespaced in (("run", True), ("cluster", False)):
        for rule in yaml.safe_load((CHART / f"operator-{name}-rules.yaml").read_text(encoding="utf-8")):
            granted |= {
                Right(verb, group, resource, namespaced)
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
            }
    assert set(OPERATOR_RIGHTS) == granted


def test_missing_and_older_kinds_are_found() -> None:
    found = only(healthy(crds=Listed(crds().items[1:])), "kinds", Level.FAIL)
    assert "there is no kind" in found.message
    older = deepcopy(list(crds().items))
    runs = next(item for item in older if item["metadata"]["name"].startswith("trainingruns."))
    status = runs["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["stages"]["items"]["properties"]["checkpointStep"]
    found = only(healthy(crds=Listed(tuple(older))), "kinds", Level.FAIL)
    assert found.message == "kind TrainingRun is of an older version: it lacks status.stages[].checkpointStep"


def test_an_operator_that_is_away_or_not_ready_is_found() -> None:
    only(healthy(deployments=Listed()), "operator", Level.FAIL)
    waiting = dict(workload("operator", "localhost/atoll/operator:1"))
    waiting["status"] = {"conditions": [{"status": "False", "message": "0 of 1 replicas are ready"}]}
    assert "0 of 1 replicas" in only(healthy(deployments=Listed((waiting,))), "operator", Level.FAIL).message


def on_a_robot(**status: int) -> Facts:
    """A robot's k3s: an edge alone."""
    edge = dict(workload("edge", "localhost/atoll/edge:1"))
    edge["status"] = status
    return healthy(
        crds=Listed(),
        deployments=Listed(),
        daemon_sets=Listed((edge,)),
        profiles=Listed(),
        storage_classes=Listed(),
        nodes=Listed((node(images=("localhost/atoll/edge:1",)),)),
        user_rights=dict.fromkeys(USER_RIGHTS, False),
    )


def test_on_a_robot_nothing_of_the_training_is_missed() -> None:
    assert wrong(on_a_robot(numberAvailable=1)) == []
    only(on_a_robot(numberAvailable=0), "devices", Level.FAIL)
    without_image = replace(on_a_robot(numberAvailable=1), nodes=Listed((node(),)))
    assert "localhost/atoll/edge:1 (edge) is on no node" in only(without_image, "images", Level.FAIL).message


def test_an_old_kubernetes_and_another_chart_are_found() -> None:
    only(healthy(version="v1.28.3+k3s1"), "api", Level.FAIL)
    old = deepcopy(dict(workload("operator", "localhost/atoll/operator:1")))
    old["metadata"]["labels"]["app.kubernetes.io/version"] = "0.1.0"
    assert "0.1.0" in only(healthy(deployments=Listed((old,))), "versions", Level.WARN).message


def test_a_gpu_that_no_node_offers_and_one_that_no_profile_uses_are_found() -> None:
    with_gpu = named("default", spec={"images": IMAGES | {"trainGPU": "ghcr.io/atoll/train-gpu:1"}})
    all_images = ("localhost/atoll/operator:1", *IMAGES.values())
    assert "train on the CPU" in only(healthy(profiles=Listed((with_gpu,))), "gpu", Level.WARN).message
    offering = Listed((node(images=all_images, **{"nvidia.com/gpu": "1"}),))
    assert wrong(healthy(profiles=Listed((with_gpu,)), nodes=offering)) == []
    assert "trainGPU is empty" in only(healthy(nodes=offering), "gpu", Level.WARN).message


def test_without_a_profile_no_run_starts() -> None:
    only(healthy(profiles=Listed()), "profiles", Level.FAIL)


@pytest.mark.parametrize(
    ("fact", "check"),
    [
        ("crds", "kinds"),
        ("deployments", "operator"),
        ("policies", "policies"),
        ("api_endpoints", "policies"),
        ("storage_classes", "storage"),
        ("nodes", "images"),
        ("profiles", "profiles"),
    ],
)
def test_what_may_not_be_read_is_a_warning_that_says_who_may(fact: str, check: str) -> None:
    facts = healthy(**{fact: Listed(error="list nodes: nodes is forbidden: user team")})
    found = [item for item in wrong(facts) if item.check == check]
    assert [item.level for item in found] == [Level.WARN]
    assert "is forbidden" in found[0].message
