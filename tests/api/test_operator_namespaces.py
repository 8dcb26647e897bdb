"""An operator of named namespaces, one of which goes and comes back; ids as in docs/faults.md."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Iterator

import kubernetes.client
import pytest

from atoll_contract.stage import Stage
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, run_on
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess, grant, grant_runs
from cluster.processes import free_port
from support.polling import wait_until

pytestmark = pytest.mark.api

# The new run's first Job has to be there by then, on a machine that may be busy with other tests.
FIRST_JOB_SECONDS = 10


@pytest.fixture
def names(api: kubernetes.client.ApiClient) -> Iterator[list[str]]:
    """Two namespaces that are not there yet."""
    names = [f"team-{secrets.token_hex(3)}" for _ in range(2)]
    yield names
    core = kubernetes.client.CoreV1Api(api)
    there = {item.metadata.name for item in core.list_namespace(_request_timeout=10).items}
    for name in set(names) & there:
        core.delete_namespace(name, _request_timeout=10)


def prepare(api: kubernetes.client.ApiClient, name: str, *, operator: str) -> Objects:
    kubernetes.client.CoreV1Api(api).create_namespace({"metadata": {"name": name}}, _request_timeout=10)
    objects = Objects(api, name)
    objects.create("objectstores", store_manifest())
    grant_runs(api, name, account_namespace=operator)
    return objects


def start_run(objects: Objects, name: str, *, profile: str) -> None:
    objects.create("trainingruns", run_manifest(name, profileRef={"name": profile}, publish={"model": name}))


def is_unreadable(page: str, namespace: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return f'atoll_namespace_unreadable{{namespace="{namespace}"}} 1.0' in answer.read().decode()
    except OSError:
        return False


def test_O26_a_namespace_that_is_gone_stops_no_other(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, names: list[str]
) -> None:
    own, core = team.namespace, kubernetes.client.CoreV1Api(api)
    grant(api, own)
    team.patch_profile(own, {"spec": {"maxConcurrentRuns": 10}})
    stays, goes = (prepare(api, name, operator=own) for name in names)
    port = free_port()
    page = f"http://127.0.0.1:{port}/metrics"
    settings = {"ATOLL_NAMESPACES": ",".join(names), "ATOLL_METRICS_PORT": str(port), "ATOLL_RESYNC_SECONDS": "3600"}
    with (
        Kubelet(api, stays.namespace) as kubelet,
        OperatorProcess(control_plane, api, own, settings=settings, prepare=False) as operator,
    ):
        for name in ("one", "two"):
            kubelet.scripts[name, Stage.CONVERT] = run_on
        start_run(stays, "one", profile=own)
        start_run(goes, "lost", profile=own)
        stays.wait_for_phase("one", "Converting")
        goes.wait_for_phase("lost", "Converting")
        core.delete_namespace(goes.namespace, _request_timeout=10)
        wait_until(lambda: goes.namespace not in spaces(core), what="the namespace to go", timeout_seconds=60)
        operator.stop()
        operator.start()
        wait_until(lambda: is_unreadable(page, goes.namespace), what="the metric", timeout_seconds=60)
        start_run(stays, "two", profile=own)
        stays.wait_for_phase("two", "Converting", timeout_seconds=FIRST_JOB_SECONDS)
        named = [entry["message"] for entry in operator.log() if "cannot be read" in str(entry["message"])]
        assert len([message for message in named if goes.namespace in message]) == 1
        prepare(api, goes.namespace, operator=own)
        start_run(goes, "back", profile=own)
        goes.wait_for_phase("back", "Converting")
        assert not is_unreadable(page, goes.namespace)
        operator.stop()
        assert operator.problems() == []


def spaces(core: kubernetes.client.CoreV1Api) -> set[str]:
    return {item.metadata.name for item in core.list_namespace(_request_timeout=10).items}
