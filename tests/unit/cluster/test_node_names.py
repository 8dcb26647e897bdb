"""Several clusters side by side on one machine share nothing that one of them changes, and a used one is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.node_host import HostError, card_gigabytes, cluster_name
from support.node_cluster import NodeCluster, in_use

TESTS = Path(__file__).parents[2]
# What of a cluster is seen from the machine.
PLACES = """\
from cluster import node, node_containerd, node_host, node_images, node_kubelet
print(node_host.NETNS_PATH, node_host.CGROUP, node_host.RUN_FOLDER, node_host.node_folder(), node.KEEPER_FILE,
      node_containerd.SOCKET, node_containerd.STATE, node_kubelet.KUBELET_FOLDER, node_kubelet.LOG_FOLDER)
"""


def places(name: str) -> list[str]:
    environment = os.environ | {"PYTHONPATH": str(TESTS), "ATOLL_TEST_CLUSTER": name}
    command = [sys.executable, "-P", "-c", PLACES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_two_clusters_have_no_place_in_common() -> None:
    first, second, unnamed = places("tests"), places("mine"), places("")
    assert len(first) == 9
    assert not {*first} & {*second}
    assert not {*unnamed} & {*first, *second}
    # A folder of one is never within a folder of another, which is removed with it.
    for one in (*first, *unnamed):
        assert not [other for other in second if other.startswith(f"{one}/")]
    assert unnamed[0] == "/run/netns/atoll"


@pytest.mark.parametrize("name", ["Tests", "a/b", "a b", "thirteenchars", "../x"])
def test_a_name_that_no_cluster_can_have_is_refused(name: str) -> None:
    with pytest.raises(HostError, match="1 to 12 characters"):
        cluster_name({"ATOLL_TEST_CLUSTER": name})


CARD = """\
import json
from cluster import node_kubelet
from cluster.node_host import disk_folder, node_folder
config = node_kubelet._kubelet_config()
print(json.dumps([str(disk_folder()), str(node_folder()), str(node_kubelet.KUBELET_FOLDER), config]))
"""


def test_a_node_with_a_disk_of_its_own_has_everything_on_it_and_minds_it() -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS), "ATOLL_TEST_CLUSTER": "pi"}
    found = []
    for size in ("0", "8"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", CARD],
            env=environment | {"ATOLL_TEST_CARD_GB": size},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found.append(json.loads(done.stdout))
    (shared, folder, _, careless), (card, _, kubelet, careful) = found
    assert shared == folder
    assert card == f"{folder}/card"
    assert kubelet.startswith(f"{card}/")
    assert careless["imageGCHighThresholdPercent"] == 100
    assert "imageGCHighThresholdPercent" not in careful
    assert careful["evictionHard"] == {"imagefs.available": "5%", "nodefs.available": "5%"}


@pytest.mark.parametrize("size", ["8G", "-1", "1.5"])
def test_a_size_that_no_disk_can_have_is_refused(size: str) -> None:
    with pytest.raises(HostError, match="whole number of gigabytes"):
        card_gigabytes({"ATOLL_TEST_CARD_GB": size})


class AnsweringCluster(NodeCluster):
    """`objects`: what `kubectl get KIND` finds, by kind; the kinds of Atoll among them are installed."""

    objects: dict[str, list[dict[str, Any]]] = {}  # noqa: RUF012

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        if arguments[1] == "crd":
            kinds = [kind for kind in self.objects if kind.endswith(".atoll.dev")]
            return "\n".join(
                f"customresourcedefinition.apiextensions.k8s.io/{kind}" for kind in [*kinds, "x.other.dev"]
            )
        return json.dumps({"items": [{"metadata": item} for item in self.objects.get(arguments[1], [])]})


def cluster_with(**objects: list[dict[str, Any]]) -> NodeCluster:
    kind = type(
        "Cluster", (AnsweringCluster,), {"objects": {name.replace("_", "."): of for name, of in objects.items()}}
    )
    cluster: NodeCluster = kind(keeper=None)
    return cluster


def test_a_cluster_with_an_operator_or_a_run_is_in_use() -> None:
    users = cluster_with(
        deployments_apps=[{"namespace": "atoll", "name": "atoll"}],
        trainingruns_atoll_dev=[{"namespace": "team-190", "name": "note"}],
        trainingprofiles_atoll_dev=[{"name": "default"}],
    ).users()
    assert set(users) == {
        "deployments.apps atoll/atoll",
        "trainingruns.atoll.dev team-190/note",
        "trainingprofiles.atoll.dev default",
    }
    refusal = in_use(users)
    assert "team-190/note" in refusal
    assert "make e2e NAME=tests" in refusal


def test_kinds_that_a_test_left_behind_are_nobodys() -> None:
    assert in_use(cluster_with(trainingruns_atoll_dev=[], objectstores_atoll_dev=[]).users()) == ""


def test_of_many_runs_some_are_named() -> None:
    refusal = in_use([f"trainingruns.atoll.dev team/run-{number}" for number in range(40)])
    assert "run-4 and 35 more" in refusal
