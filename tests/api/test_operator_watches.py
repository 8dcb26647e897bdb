"""Watches that break, a slow API server, kinds that go and come back; ids as in docs/faults.md.

The operator's calls go through a proxy. Its re-sync is switched off, so that only a watch can tell it of a change.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from cluster.api_proxy import ApiProxy, Fate, WatchFate
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, failing, run_on
from cluster.objects import Objects, run_manifest
from cluster.operator_process import OperatorProcess, grant
from cluster.processes import free_port
from support.polling import wait_until

pytestmark = pytest.mark.api

CRDS = Path(__file__).parents[2] / "crds"
NO_RESYNC = {"ATOLL_RESYNC_SECONDS": "3600", "ATOLL_WATCH_SILENCE_SECONDS": "2"}


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    ca_file = str(control_plane.ca_file)
    with ApiProxy(control_plane.server, ca_file, judge=lambda _: Fate.PASS, on_loss=lambda: None) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def account(api: kubernetes.client.ApiClient, team: Objects) -> None:
    """The operator's account in the team's namespace, with the rights for all."""
    grant(api, team.namespace, clusterwide=True)


@pytest.fixture
def operator(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, proxy: ApiProxy
) -> Iterator[OperatorProcess]:
    """An operator behind the proxy that hears by its watches alone. In the end its log must hold no error."""
    settings = NO_RESYNC
    with OperatorProcess(
        control_plane, api, team.namespace, settings=settings, prepare=False, server=proxy.url
    ) as process:
        wait_until(lambda: watched(proxy) >= {"trainingruns", "jobs"}, what="both watches", timeout_seconds=60)
        yield process
        process.stop()
        assert process.problems() == []


def watched(proxy: ApiProxy) -> set[str]:
    """The kinds that were watched at least once."""
    return {path.partition("?")[0].rpartition("/")[2] for path in proxy.watches}


def start_run(team: Objects, name: str) -> None:
    team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}))


def test_O7_a_watch_that_nothing_comes_through_is_begun_anew(
    team: Objects, kubelet: Kubelet, operator: OperatorProcess, proxy: ApiProxy
) -> None:
    proxy.deaf.set()
    seen = len(proxy.watches)
    start_run(team, "unheard")
    # Those of runs and Jobs were given up for their silence, and begun again in vain.
    wait_until(lambda: len(proxy.watches) >= seen + 4, what="the watches to be given up", timeout_seconds=60)
    # Each that begins anew comes with a list.
    wait_until(lambda: team.status("unheard") != {}, what="the run to be listed", timeout_seconds=60)
    proxy.deaf.clear()
    assert team.wait_for_phase("unheard", "Succeeded", "Failed")["phase"] == "Succeeded"
    operator.check()


def test_O9_decisions_on_old_news_create_nothing_twice(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, kubelet: Kubelet, proxy: ApiProxy
) -> None:
    """Every event comes late, so that nearly every look is at what was; a spec is changed in between."""
    proxy.watch_delay_seconds = 0.5
    settings = {"ATOLL_RESYNC_SECONDS": "3600"}
    kubelet.scripts["late", Stage.TRAIN] = run_on
    with OperatorProcess(
        control_plane, api, team.namespace, settings=settings, prepare=False, server=proxy.url
    ) as operator:
        start_run(team, "late")
        team.wait_for_phase("late", "Training")
        team.patch("trainingruns", "late", {"spec": {"suspend": True}})
        team.wait_for_phase("late", "Suspended")
        del kubelet.scripts["late", Stage.TRAIN]
        team.patch("trainingruns", "late", {"spec": {"suspend": False}})
        status = team.wait_for_phase("late", "Succeeded", "Failed")
        operator.stop()
        assert operator.problems() == []
    assert status["phase"] == "Succeeded"
    # The suspension took the first training's Job; nothing else was made again.
    attempts = [(stage["attempts"], stage.get("failures", 0)) for stage in status["stages"]]
    assert attempts == [(1, 0), (2, 0), (1, 0), (1, 0), (1, 0)]
    releases = [item["metadata"]["name"] for item in team.list_all("modelreleases")]
    assert [name for name in releases if name.startswith("late-")] == ["late-v1"]


def test_O7_a_version_that_is_gone_is_followed_by_a_new_list(
    team: Objects, kubelet: Kubelet, operator: OperatorProcess, proxy: ApiProxy
) -> None:
    proxy.watch_fates += [WatchFate.GONE] * 6
    start_run(team, "compacted")
    wait_until(lambda: proxy.watch_fates == [], what="six watches to be refused", timeout_seconds=60)
    assert team.wait_for_phase("compacted", "Succeeded", "Failed")["phase"] == "Succeeded"
    operator.check()


# A sixteenth of the fault's 5 s; that the Lease is kept at 5 s a call: tests/unit/operator_kube/test_lease.py.
SLOW_CALL_SECONDS = 0.3
SLOW_RUNS = 8


def test_O17_a_slow_api_server_is_no_reason_to_be_restarted(
    control_plane: ControlPlane,
    api: kubernetes.client.ApiClient,
    team: Objects,
    kubelet: Kubelet,
    proxy: ApiProxy,
) -> None:
    page = f"http://127.0.0.1:{free_port()}/healthz"
    names = [f"slow-{number}" for number in range(SLOW_RUNS)]
    for name in names:
        kubelet.scripts[name, Stage.CONVERT] = failing(Reason.DATASET_MALFORMED, "no archive", exit_code=13)
        start_run(team, name)
    proxy.delay_seconds = SLOW_CALL_SECONDS
    settings = {"ATOLL_LIVENESS": page, "ATOLL_RESYNC_SECONDS": "60"}
    with OperatorProcess(
        control_plane, api, team.namespace, settings=settings, prepare=False, server=proxy.url
    ) as operator:
        wait_until(lambda: is_alive(page), what="the liveness page", timeout_seconds=60)

        def drained() -> bool:
            assert is_alive(page)
            operator.check()
            return all(team.status(name).get("phase") == "Failed" for name in names)

        wait_until(drained, what="every run to be served", timeout_seconds=200)
        assert {team.status(name)["reason"] for name in names} == {"DatasetMalformed"}
        proxy.delay_seconds = 0.0
        operator.stop()
        assert operator.problems() == []


def is_alive(page: str) -> bool:
    """As the kubelet asks: an answer within its time."""
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("scope", ["cluster", "namespaced"])
def test_C8_without_its_kind_the_operator_waits_for_it(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, kubelet: Kubelet, scope: str
) -> None:
    extensions = kubernetes.client.ApiextensionsV1Api(api)
    manifest = yaml.safe_load((CRDS / "trainingruns.yaml").read_text(encoding="utf-8"))
    name = manifest["metadata"]["name"]
    kubelet.scripts["orphaned", Stage.TRAIN] = run_on
    settings = {"ATOLL_NAMESPACES": ""} if scope == "cluster" else {}
    wait_for_garbage_collection(team)
    with OperatorProcess(control_plane, api, team.namespace, settings=settings, prepare=False) as operator:
        start_run(team, "orphaned")
        team.wait_for_phase("orphaned", "Training")
        try:
            extensions.delete_custom_resource_definition(name, _request_timeout=10)
            wait_until(lambda: not of_run(team.pods(), "orphaned"), what="what the run owned to go", timeout_seconds=60)
            assert of_run(team.jobs(), "orphaned") == []
            wait_until(lambda: not crd_there(extensions, name), what="the kind to go", timeout_seconds=60)
        finally:
            wait_until(lambda: not crd_there(extensions, name), what="the kind to go", timeout_seconds=60)
            extensions.create_custom_resource_definition(manifest, _request_timeout=10)
            wait_until(lambda: served(team), what="the kind to be back", timeout_seconds=60)
        operator.check()
        start_run(team, "anew")
        assert team.wait_for_phase("anew", "Succeeded", "Failed")["phase"] == "Succeeded"
        operator.check()


def wait_for_garbage_collection(team: Objects) -> None:
    """The garbage collector of a new control plane finds the kind only after up to 30 s. If the kind goes before, it
    never learns that the owners are gone."""
    owner = team.create("trainingruns", run_manifest("collected"))
    team.create_job("collected-other", owner=owner)
    team.delete("trainingruns", "collected")
    wait_until(lambda: "collected-other" not in team.jobs(), what="the garbage collection", timeout_seconds=90)


def of_run(objects: dict[str, Any], run: str) -> list[str]:
    return [name for name in objects if name.startswith(f"{run}-")]


def crd_there(extensions: Any, name: str) -> bool:
    found = extensions.list_custom_resource_definition(field_selector=f"metadata.name={name}", _request_timeout=10)
    return bool(found.items)


def served(team: Objects) -> bool:
    try:
        team.list_all("trainingruns")
    except kubernetes.client.ApiException:
        return False
    return True
