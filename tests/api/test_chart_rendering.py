"""What the chart renders is taken by a real API server and passes Pod Security `restricted`; bad values are refused."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient

from support.helm import CHARTS, HelmRefused, helm, pod_specs, render
from support.polling import wait_until

pytestmark = pytest.mark.api

DIGEST = "sha256:" + "0" * 64
QUICKSTART = ("-f", str(CHARTS / "atoll" / "values-quickstart.yaml"))
MATRIX = {
    "defaults": (),
    "quick start": QUICKSTART,
    "quick start with MinIO and no volume": (
        *QUICKSTART,
        "--set=bundledStore.server=minio,bundledStore.image.repository=minio,bundledStore.persistence.enabled=false",
    ),
    "named namespaces": ("--set=rbac.scope=namespaced,watch.namespaces={NAMESPACE}",),
    "images by digest": (
        f"--set=images.convert.digest={DIGEST},images.train.digest={DIGEST}",
        "--set=profiles.cpu.maxConcurrentRuns=2",
    ),
    "dashboard, proxies, placement": (
        "--set=metrics.dashboard.enabled=true,extraEnv.HTTPS_PROXY=http://proxy:3128,priorityClassName=high",
        "--set=tolerations[0].key=a,tolerations[0].operator=Exists,global.imagePullSecrets[0].name=pull",
    ),
    "mirrors of devices": (
        "--set=edgeDevices[0].namespace=NAMESPACE,edgeDevices[0].store=default,edgeDevices[0].secret=devices",
        "--set=edgeDevices[0].caConfigMap=ca,mirror.extraEnv.HTTPS_PROXY=http://proxy:3128",
        f"--set=edgeDevices[1].namespace=NAMESPACE,edgeDevices[1].store={'s' * 63}",
    ),
}
# Prometheus' own kinds are rendered and not sent: the test server does not know them.
FOREIGN = "monitoring.coreos.com/"


@pytest.fixture
def restricted(api: kubernetes.client.ApiClient) -> Iterator[str]:
    """A namespace that admits no pod but restricted ones."""
    core = kubernetes.client.CoreV1Api(api)
    name = f"chart-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}}, _request_timeout=10)
    # Pods are refused for want of an account before there is one.
    wait_until(lambda: core.list_namespaced_service_account(name, _request_timeout=10).items, what="an account")
    yield name
    core.delete_namespace(name, _request_timeout=10)


def rendered(case: str, namespace: str) -> list[dict[str, Any]]:
    return render("atoll", *(word.replace("NAMESPACE", namespace) for word in MATRIX[case]), namespace=namespace)


@pytest.mark.parametrize("case", sorted(MATRIX))
def test_the_api_server_takes_every_object(
    case: str, api: kubernetes.client.ApiClient, crds: list[str], restricted: str
) -> None:
    client = DynamicClient(api)
    objects = rendered(case, restricted)
    for item in sorted(objects, key=lambda item: item["kind"] != "ServiceAccount"):
        resource = client.resources.get(api_version=item["apiVersion"], kind=item["kind"])
        client.server_side_apply(
            resource,
            body=item,
            name=item["metadata"]["name"],
            namespace=item["metadata"].get("namespace"),
            field_manager="chart-test",
            force_conflicts=True,
            # The test's pod is refused without its account.
            dry_run=None if item["kind"] == "ServiceAccount" else "All",
            field_validation="Strict",
        )


@pytest.mark.parametrize("case", sorted(MATRIX))
def test_every_pod_is_restricted(case: str, api: kubernetes.client.ApiClient, restricted: str) -> None:
    core = kubernetes.client.CoreV1Api(api)
    specs = list(pod_specs(rendered(case, restricted)))
    assert specs
    for _, spec in specs:
        # Service account, volumes' sources and classes are not what is asked here.
        unnamed = {key: spec[key] for key in ("securityContext", "containers", "restartPolicy") if key in spec}
        pod = {"metadata": {"generateName": "probe-"}, "spec": unnamed | {"volumes": _volumes(spec)}}
        core.create_namespaced_pod(restricted, pod, dry_run="All", _request_timeout=10)


def _volumes(spec: dict[str, Any]) -> list[dict[str, Any]]:
    mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", [])}
    known = {volume["name"]: volume for volume in spec.get("volumes", [])}
    return [known.get(name, {"name": name, "emptyDir": {}}) for name in sorted(mounted)]


def test_a_pod_that_is_not_restricted_would_be_found(api: kubernetes.client.ApiClient, restricted: str) -> None:
    core = kubernetes.client.CoreV1Api(api)
    pod = {"metadata": {"generateName": "probe-"}, "spec": {"containers": [{"name": "root", "image": "x"}]}}
    with pytest.raises(ApiException) as refusal:
        core.create_namespaced_pod(restricted, pod, dry_run="All", _request_timeout=10)
    assert "PodSecurity" in refusal.value.body


@pytest.mark.parametrize("case", ["defaults", "quick start"])
def test_lint_is_clean(case: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHARTS / "atoll"), *MATRIX[case])


REFUSED = {
    "a profile with images by tag": (("--set=profiles.default.maxConcurrentRuns=1",), "allowTags"),
    "named namespaces without a name": (("--set=rbac.scope=namespaced",), "watch.namespaces"),
    "a quick start without a store": (("--set=quickstart.enabled=true",), "bundledStore.enabled"),
    "an unknown value": (("--set=replicas=2",), "replicas"),
    "no account at all": (("--set=serviceAccount.create=false",), "serviceAccount.name"),
    "a mirror without a store": (("--set=edgeDevices[0].namespace=team",), "store"),
    "two mirrors of one store": (
        ("--set=edgeDevices[0].namespace=a,edgeDevices[0].store=s,edgeDevices[1].namespace=a,edgeDevices[1].store=s",),
        "twice",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_bad_combinations_are_refused_with_the_value_to_change(case: str) -> None:
    arguments, word = REFUSED[case]
    with pytest.raises(HelmRefused, match=word):
        render("atoll", *arguments)


def test_the_notes_wait_for_the_job_of_the_sample() -> None:
    notes = (CHARTS / "atoll" / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    [line] = [line for line in notes.splitlines() if "kubectl wait" in line]
    label, _, value = line.rpartition(" ")[2].partition("=")
    jobs = [item for item in rendered("quick start", "team") if item["kind"] == "Job"]
    found = [item["metadata"]["name"] for item in jobs if item["metadata"]["labels"].get(label) == value]
    assert len(found) == 1
    assert "-sample-" in found[0]


def test_one_registry_serves_every_image() -> None:
    objects = render("atoll", *QUICKSTART, "--set=global.imageRegistry=mirror.example:5000")
    images = {container["image"] for _, spec in pod_specs(objects) for container in spec["containers"]}
    profile = next(item for item in objects if item["kind"] == "TrainingProfile")
    images |= set(profile["spec"]["images"].values())
    assert len(images) == 4  # operator, convert (and publish), train, store
    assert all(image.startswith("mirror.example:5000/") for image in images), images


@pytest.mark.parametrize("url", ["", "https://atoll.example/docs"])
def test_the_operator_knows_where_the_documentation_is(url: str) -> None:
    (deployment,) = (item for item in render("atoll", f"--set=docsURL={url}") if item["kind"] == "Deployment")
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [entry["value"] for entry in entries if entry["name"] == "ATOLL_DOCS_URL"] == [url]


def test_own_environment_replaces_the_charts_instead_of_standing_beside_it() -> None:
    objects = render("atoll", "--set-string=extraEnv.ATOLL_WORKERS=9")
    deployment = next(item for item in objects if item["kind"] == "Deployment")
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    values = [entry["value"] for entry in entries if entry["name"] == "ATOLL_WORKERS"]
    assert values == ["9"]


def test_a_mirror_lives_in_its_namespace_with_rights_there_alone() -> None:
    flags = "edgeDevices[0].namespace=team,edgeDevices[0].store=default,edgeDevices[0].secret=devices"
    before = {(item["kind"], item["metadata"]["name"]) for item in render("atoll")}
    objects = render("atoll", f"--set={flags}")
    added = [item for item in objects if (item["kind"], item["metadata"]["name"]) not in before]
    kinds = ["Deployment", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"]
    assert sorted(item["kind"] for item in added) == kinds
    assert {item["metadata"]["namespace"] for item in added} == {"team"}
    (role,) = [item for item in added if item["kind"] == "Role"]
    granted = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {
        *(("edgedevices", verb) for verb in ("list", "create", "patch", "delete")),
        ("edgedevices/status", "patch"),
        ("objectstores", "get"),
    }
    assert [rule["resourceNames"] for rule in role["rules"] if rule["resources"] == ["objectstores"]] == [["default"]]
    # The operator's own pod never has a namespace's credentials.
    holders = [name for name, spec in pod_specs(objects) for volume in spec["volumes"] if "secret" in volume]
    assert holders == ["Deployment/atoll-mirror-default"]


def test_objects_of_the_charts_own_kinds_are_hooks_until_the_kinds_are_there() -> None:
    for upgrade in (False, True):
        objects = render("atoll", *QUICKSTART, upgrade=upgrade)
        own = [item for item in objects if item["kind"] in ("TrainingProfile", "ObjectStore")]
        assert len(own) == 2
        for item in own:
            annotations = item["metadata"].get("annotations", {})
            assert ("helm.sh/hook" in annotations) is not upgrade
            # By this mark an upgrade takes the hook's object over.
            assert upgrade or annotations["meta.helm.sh/release-name"] == "atoll"


def test_kinds_outlive_the_chart_unless_that_is_switched_off() -> None:
    def policies(*arguments: str) -> set[str | None]:
        crds = [item for item in render("atoll", *arguments) if item["kind"] == "CustomResourceDefinition"]
        assert len(crds) == 6
        return {item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for item in crds}

    assert policies() == {"keep"}
    assert policies("--set=crds.keep=false") == {None}


def test_monitoring_is_there_when_asked_for() -> None:
    flags = "--set=metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true"
    foreign = [item for item in render("atoll", flags) if item["apiVersion"].startswith(FOREIGN)]
    assert sorted(item["kind"] for item in foreign) == ["PrometheusRule", "ServiceMonitor"]
    assert not [item for item in render("atoll") if item["apiVersion"].startswith(FOREIGN)]
