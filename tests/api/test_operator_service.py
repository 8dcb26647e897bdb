"""What the operator shows of itself, and that it writes nothing where nothing changes; all namespaces at once."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import kubernetes.client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, failing, run_on
from cluster.objects import GROUP, TIMEOUT, VERSION, Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from cluster.processes import free_port
from support.polling import wait_until

pytestmark = pytest.mark.api

# Events, the Lease and live progress counted apart. How often a slow machine is caught between two states varies.
MAX_WRITES = 40
TWIN = {"model": "twin"}


class Pages:
    """The operator's HTTP pages."""

    def __init__(self) -> None:
        self.metrics_port, self.liveness_port = free_port(), free_port()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ATOLL_NAMESPACES": "",
            "ATOLL_METRICS_PORT": str(self.metrics_port),
            "ATOLL_LIVENESS": f"http://127.0.0.1:{self.liveness_port}/healthz",
            "ATOLL_RESYNC_SECONDS": "1",
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def is_alive(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.liveness_port}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages()


def _runs_of_others(api: kubernetes.client.ApiClient, namespace: str) -> list[str]:
    """The runs outside this namespace."""
    custom = kubernetes.client.CustomObjectsApi(api)
    found = custom.list_cluster_custom_object(GROUP, VERSION, "trainingruns", _request_timeout=TIMEOUT)["items"]
    heads = [item["metadata"] for item in found]
    return [f"{head['namespace']}/{head['name']}" for head in heads if head["namespace"] != namespace]


@pytest.fixture(scope="module")
def wide_operator(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, pages: Pages
) -> Iterator[OperatorProcess]:
    """An operator that serves all namespaces, with its pages."""
    with OperatorProcess(control_plane, api, team.namespace, settings=pages.settings, clusterwide=True) as process:
        wait_until(pages.is_alive, what="the liveness page", timeout_seconds=60)
        # This operator serves those too that other tests have left to be deleted, and would write of them. The
        # namespaces themselves may stay: no controller here frees a volume claim that is deleted.
        wait_until(
            lambda: not _runs_of_others(api, team.namespace), what="the runs of other tests to go", timeout_seconds=120
        )
        yield process
        process.stop()
        assert process.problems() == []


@pytest.mark.usefixtures("wide_operator")
def test_a_run_at_rest_is_listed_and_not_written(team: Objects, kubelet: Kubelet, pages: Pages) -> None:
    kubelet.scripts["resting", Stage.CONVERT] = failing(Reason.DATASET_MALFORMED, "no archive", exit_code=13)
    team.create("trainingruns", run_manifest("resting", profileRef={"name": team.namespace}))
    team.wait_for_phase("resting", "Failed")

    def lists() -> float:
        return pages.metric("atoll_api_requests_total", method="GET", resource="trainingruns")

    def writes() -> float:
        written = (pages.metric("atoll_api_requests_total", method=method) for method in ("POST", "PATCH", "DELETE"))
        # Not all of PUT: the Lease is renewed.
        return sum(written) + pages.metric("atoll_api_requests_total", method="PUT", resource="trainingruns")

    seen = lists()
    wait_until(lambda: lists() >= seen + 2, what="a re-sync after the end")
    before, seen = writes(), lists()
    wait_until(lambda: lists() >= seen + 3, what="three re-syncs more")
    assert writes() == before


@pytest.mark.usefixtures("wide_operator", "kubelet")
def test_runs_that_are_over_cost_a_resync_nothing_but_the_two_lists(team: Objects, pages: Pages) -> None:
    team.create("trainingruns", run_manifest("over", profileRef={"name": team.namespace}))
    assert team.wait_for_phase("over", "Succeeded", "Failed")["phase"] == "Succeeded"

    def reads(resource: str) -> float:
        return pages.metric("atoll_api_requests_total", method="GET", resource=resource)

    seen = reads("trainingruns")
    wait_until(lambda: reads("trainingruns") >= seen + 2, what="a re-sync after the end")
    before, seen = reads("jobs"), reads("trainingruns")
    wait_until(lambda: reads("trainingruns") >= seen + 3, what="three re-syncs more")
    # One list of the Jobs that are not over; a list for each run would be more.
    assert reads("jobs") - before <= reads("trainingruns") - seen + 1


@pytest.mark.usefixtures("wide_operator")
def test_O20_a_job_in_another_namespace_does_not_end_the_run(
    team: Objects, kubelet: Kubelet, pages: Pages, namespace: str
) -> None:
    kubelet.scripts["victim", Stage.CONVERT] = run_on
    team.create("trainingruns", run_manifest("victim", profileRef={"name": team.namespace}, publish=TWIN))
    team.wait_for_phase("victim", "Converting")
    ((name, job),) = ((name, job) for name, job in team.jobs().items() if name.startswith("victim-"))
    evil = Objects(team.api, namespace)
    container = {"name": "stage", "image": "registry.invalid/x"}
    spec = {"activeDeadlineSeconds": 1, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    body = {"metadata": {"name": name, "labels": job["metadata"]["labels"]}, "spec": spec}
    kubernetes.client.BatchV1Api(team.api).create_namespaced_job(namespace, body, _request_timeout=10)

    def has_failed() -> bool:
        return "Failed" in [item["type"] for item in (evil.jobs()[name].get("status") or {}).get("conditions", [])]

    wait_until(has_failed, what="the deadline of the other Job", timeout_seconds=60)
    seen = pages.metric("atoll_api_requests_total", method="GET", resource="trainingruns")
    wait_until(
        lambda: pages.metric("atoll_api_requests_total", method="GET", resource="trainingruns") >= seen + 3,
        what="three re-syncs",
    )
    assert team.status("victim")["phase"] == "Converting"
    assert team.jobs()[name]["metadata"]["uid"] == job["metadata"]["uid"]
    team.patch("trainingruns", "victim", {"spec": {"cancel": True}})
    team.wait_for_phase("victim", "Cancelled")


@pytest.mark.usefixtures("wide_operator", "kubelet")
def test_a_whole_run_costs_few_writes(team: Objects, pages: Pages) -> None:
    def writes() -> float:
        resources = ("trainingruns", "modelreleases", "jobs", "controllerrevisions")
        methods = ("POST", "PUT", "PATCH", "DELETE")
        return sum(
            pages.metric("atoll_api_requests_total", method=method, resource=resource)
            for method in methods
            for resource in resources
        )

    before = writes()
    team.create("trainingruns", run_manifest("whole", profileRef={"name": team.namespace}))
    assert team.wait_for_phase("whole", "Succeeded", "Failed")["phase"] == "Succeeded"
    # Events, the Lease and live progress are counted apart.
    assert writes() - before <= MAX_WRITES


@pytest.mark.usefixtures("wide_operator")
def test_metrics_tell_of_runs_and_stages(team: Objects, kubelet: Kubelet, pages: Pages) -> None:
    kubelet.scripts["counted", Stage.CONVERT] = failing(Reason.DATASET_UNSAFE, "path leaves", exit_code=11)
    team.create("trainingruns", run_manifest("counted", profileRef={"name": team.namespace}))
    team.wait_for_phase("counted", "Failed")
    ended = {"stage": "convert", "phase": "Failed", "reason": "DatasetUnsafe"}
    wait_until(lambda: pages.metric("atoll_stages_ended_total", **ended) == 1, what="the stage's end to be counted")
    assert pages.metric("atoll_runs", phase="Failed") >= 1
    assert pages.metric("atoll_leader") == 1
    assert pages.metric("atoll_seconds_since_event") < 60


def test_without_named_namespaces_all_are_served(
    team: Objects, wide_operator: OperatorProcess, api: kubernetes.client.ApiClient, namespace: str
) -> None:
    other = Objects(api, namespace)
    other.create("trainingruns", run_manifest("elsewhere", profileRef={"name": team.namespace}))
    # There is no ObjectStore here: being told so is being served.
    wait_until(lambda: other.status("elsewhere").get("reason") == "ObjectStoreNotFound", what="to be served")
    wide_operator.check()


def test_C10_one_model_name_in_two_namespaces_is_two_models(
    team: Objects,
    kubelet: Kubelet,
    wide_operator: OperatorProcess,
    api: kubernetes.client.ApiClient,
    namespace: str,
) -> None:
    other = Objects(api, namespace)
    other.create("objectstores", store_manifest())
    with Kubelet(api, namespace):
        for place in (team, other):
            place.create("trainingruns", run_manifest("twin", profileRef={"name": team.namespace}, publish=TWIN))
        ends = [place.wait_for_phase("twin", "Succeeded", "Failed") for place in (team, other)]
    assert [end["summary"]["release"] for end in ends] == ["twin-v1", "twin-v1"]
    manifests = [end["release"]["manifest"]["key"] for end in ends]
    assert manifests == [f"models/{place.namespace}/twin/v1/manifest.json" for place in (team, other)]
    wide_operator.check()
