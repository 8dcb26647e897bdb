"""Reports become EdgeDevices on a real API server, with the rights that the chart gives the process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import pytest
from kubernetes.client.exceptions import ApiException

from atoll_contract import keys
from atoll_contract.document import from_json, replace, to_json
from atoll_contract.errors import Reason
from atoll_contract.rollout import RolloutControl, RolloutPlan, RolloutState, RolloutStep
from atoll_contract.store.base import ObjectInfo, StoreForbidden, StoreUnavailable
from atoll_contract.store.directory import DirStore
from atoll_operator.devices.bucket import Bucket
from atoll_operator.devices.config import DeviceSettings
from atoll_operator.devices.objects import OWNER_LABEL, Devices
from atoll_operator.devices.reconcile import Clocks, DeviceReconciler, Outcome
from atoll_operator.kube.client import Cluster
from cluster.controlplane import ControlPlane
from cluster.objects import Objects, store_manifest
from support.device_reports import MODEL, REPORT, REPORTED, Clock, DeviceBucket
from support.devices_kubeconfig import devices_kubeconfig
from support.edge_release import make_manifest, release_files
from support.kube_http import KubeHttp, collection
from support.polling import wait_until

pytestmark = pytest.mark.api

STORE = "default"
GROUP, VERSION, PLURAL = "atoll.dev", "v1alpha1", "edgedevices"


@dataclass
class FailingStore(DirStore):
    """A folder that may be unavailable, or refuse what is written."""

    root: Path
    down: list[str] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.root)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        if self.down:
            raise StoreUnavailable(f"{self.url} does not answer")
        return super().list(prefix)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        if self.read_only:
            raise StoreForbidden(f"{self.url} does not allow it")
        return super().put(key, data, if_absent=if_absent, if_match=if_match)


@dataclass
class World:
    """A namespace with a bucket, clocks, and a client with the rights that the chart gives."""

    api: kubernetes.client.ApiClient
    plane: ControlPlane
    namespace: str
    bucket: DeviceBucket
    wall: Clock
    clock: Clock
    store: FailingStore
    client: kubernetes.client.ApiClient

    @property
    def settings(self) -> DeviceSettings:
        return DeviceSettings(self.namespace, STORE)

    def reconciler(self, devices: type[Devices] = Devices) -> DeviceReconciler:
        """A fresh process, as after a restart."""
        cluster = Cluster(self.client, timeout_seconds=10)
        bucket = Bucket(cluster, self.settings, open_store=lambda _: self.store)
        own = devices(cluster, namespace=self.namespace, owner=STORE)
        return DeviceReconciler(own, bucket, self.settings, clocks=Clocks(self.wall, self.clock))

    def report(self, *, at: float = REPORTED, **changes: Any) -> str:
        return self.bucket.report(REPORT, at=at, namespace=self.namespace, **changes)

    @property
    def custom(self) -> Any:
        return kubernetes.client.CustomObjectsApi(self.api)

    def device(self, name: str = "pi-front") -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.custom.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=10
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return None
        return found

    def condition(self, kind: str, name: str = "pi-front") -> tuple[str, str]:
        device = self.device(name)
        assert device is not None
        (found,) = [item for item in device["status"]["conditions"] if item["type"] == kind]
        return found["status"], found["reason"]


@pytest.fixture
def world(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, crds: list[str], namespace: str, tmp_path: Path
) -> Iterator[World]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(devices_kubeconfig(api, control_plane, namespace, store=STORE), encoding="utf-8")
    Objects(api, namespace).create("objectstores", store_manifest())
    with kubernetes.config.new_client_from_config(str(kubeconfig)) as client:
        client.configuration.retries = False
        folder = tmp_path / "bucket"
        folder.mkdir()
        store = FailingStore(folder)
        wall = Clock(REPORTED + 10)
        yield World(api, control_plane, namespace, DeviceBucket(folder), wall, Clock(), store, client)


def test_kubectl_shows_which_device_runs_what(world: World) -> None:
    world.report()
    assert world.reconciler().reconcile() is Outcome.DONE
    device = world.device()
    assert device is not None
    assert device["spec"] == {"model": MODEL, "channel": "stable"}
    assert device["metadata"]["labels"][OWNER_LABEL] == STORE
    answer = KubeHttp(world.plane).table(collection("EdgeDevice", world.namespace)).body
    names = [column["name"] for column in answer["columnDefinitions"] if column["priority"] == 0]
    shown = dict(zip(names, answer["rows"][0]["cells"], strict=False))
    assert shown.pop("Seen")
    assert shown == {
        "Name": "pi-front",
        "Ready": "True",
        "State": "Active",
        "Release": "note-v3",
        "Desired": 3,
        "Wave": None,
        "Backend": "edgetpu",
        "FPS": "29.7",
        "Latency ms": "18.2",
    }


def test_a_reconcile_without_changes_writes_nothing(world: World) -> None:
    world.report()
    world.reconciler().reconcile()
    before = world.device()
    world.wall.now += 60
    world.clock.now += 60
    assert world.reconciler().reconcile() is Outcome.DONE
    assert world.device() == before


def test_a_new_report_changes_spec_and_status_and_removes_missing_fields(world: World) -> None:
    world.report(error="v4 is not signed")
    reconciler = world.reconciler()
    reconciler.reconcile()
    world.report(channel="beta", backend="cpu", error=None, fps=None, at=REPORTED + 60)
    reconciler.reconcile()
    device = world.device()
    assert device is not None
    assert device["spec"]["channel"] == "beta"
    status = device["status"]
    assert (status["backend"], "error" in status, "fps" in status) == ("cpu", False, False)
    assert status["observedGeneration"] == device["metadata"]["generation"] == 2


def test_a_newer_published_version_shows_although_the_device_is_off(world: World) -> None:
    world.report()
    reconciler = world.reconciler()
    reconciler.reconcile()
    assert world.condition("UpToDate") == ("True", "Current")
    pointer = world.bucket.folder / f"models/{world.namespace}"
    world.bucket.channel(4)
    (world.bucket.folder / "models/team-190").rename(pointer)
    for path in pointer.rglob("stable.json"):
        path.write_text(path.read_text().replace("team-190", world.namespace))
    world.clock.now += 301
    reconciler.reconcile()
    assert world.condition("UpToDate") == ("False", "Behind")
    assert world.condition("Ready") == ("False", "Offline")


def test_an_invalid_report_does_not_affect_other_devices(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.bucket.raw(f"devices/{world.namespace}/{MODEL}/pi-bad.json", b'{"fps": NaN, "\x00')
    world.report()
    assert world.reconciler().reconcile() is Outcome.DONE
    assert world.condition("Ready", "pi-bad") == ("False", "ReportInvalid")
    assert world.condition("Ready") == ("True", "Detecting")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_wrong_clock_of_the_device_or_the_bucket_does_no_harm(world: World) -> None:
    world.report(reported_at="2001-01-01T00:00:00Z", at=REPORTED + 86_400)
    reconciler = world.reconciler()
    reconciler.reconcile()
    assert world.condition("Ready") == ("True", "Detecting")
    world.clock.now += 301
    reconciler.reconcile()
    assert world.condition("Ready") == ("False", "Offline")


def test_a_device_whose_report_is_gone_is_marked_and_later_deleted(world: World) -> None:
    key = world.report()
    reconciler = world.reconciler()
    reconciler.reconcile()
    world.bucket.store.delete(key)
    reconciler.reconcile()
    assert world.condition("Ready") == ("Unknown", "ReportRemoved")
    world.clock.now += world.settings.forget
    reconciler.reconcile()
    assert world.device() is None
    world.report()
    reconciler.reconcile()
    assert world.condition("Ready") == ("True", "Detecting")


def test_edge_devices_of_others_are_left_alone(world: World) -> None:
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EdgeDevice",
        "metadata": {"name": "pi-front", "labels": {OWNER_LABEL: "another-store"}},
        "spec": {"model": "mine", "channel": "mine"},
    }
    Objects(world.api, world.namespace).create(PLURAL, manifest)
    before = world.device()
    world.report()
    world.report(device="pi-rear")
    reconciler = world.reconciler()
    for _ in range(2):
        assert reconciler.reconcile() is Outcome.DONE
        world.clock.now += world.settings.forget
    assert world.device() == before
    assert world.device("pi-rear") is not None


def test_a_write_conflict_is_repeated_by_the_next_reconcile(world: World) -> None:
    class OvertakenDevices(Devices):
        """The object is written by somebody else right after the first list."""

        overtaken = False

        def own(self) -> dict[str, dict[str, Any]]:
            listed = super().own()
            if listed and not OvertakenDevices.overtaken:
                OvertakenDevices.overtaken = True
                body = {"metadata": {"annotations": {"written": "meanwhile"}}}
                world.custom.patch_namespaced_custom_object(
                    GROUP, VERSION, world.namespace, PLURAL, "pi-front", body, _request_timeout=10
                )
            return listed

    world.report()
    reconciler = world.reconciler(OvertakenDevices)
    reconciler.reconcile()
    world.report(state="RolledBack", at=REPORTED + 60)
    states = []
    for _ in range(2):
        assert reconciler.reconcile() is Outcome.DONE
        device = world.device()
        assert device is not None
        states.append(device["status"]["state"])
    assert OvertakenDevices.overtaken
    assert states == ["Active", "RolledBack"]


def test_devices_are_unknown_while_the_bucket_is_down_for_long(world: World) -> None:
    world.report()
    reconciler = world.reconciler()
    reconciler.reconcile()
    world.store.down.append("power cut")
    assert reconciler.reconcile() is Outcome.STORE
    assert world.condition("Ready") == ("True", "Detecting")
    world.clock.now += 301
    assert reconciler.reconcile() is Outcome.STORE
    assert world.condition("Ready") == ("Unknown", Reason.STORAGE_UNAVAILABLE)
    world.store.down.clear()
    world.report(at=REPORTED + 400)
    assert reconciler.reconcile() is Outcome.DONE
    assert world.condition("Ready") == ("True", "Detecting")


def test_a_missing_object_store_and_missing_rights_are_logged_until_they_are_there(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.report()
    reconciler = world.reconciler()
    world.custom.delete_namespaced_custom_object(
        GROUP, VERSION, world.namespace, "objectstores", STORE, _request_timeout=10
    )
    assert reconciler.reconcile() is Outcome.STORE
    assert "there is no ObjectStore 'default'" in caplog.text
    Objects(world.api, world.namespace).create("objectstores", store_manifest())
    rbac = kubernetes.client.RbacAuthorizationV1Api(world.api)
    (binding,) = rbac.list_namespaced_role_binding(world.namespace, _request_timeout=10).items
    rbac.delete_namespaced_role_binding(binding.metadata.name, world.namespace, _request_timeout=10)
    wait_for(reconciler, Outcome.CLUSTER)
    assert "forbidden" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    binding.metadata = kubernetes.client.V1ObjectMeta(name=binding.metadata.name)
    rbac.create_namespaced_role_binding(world.namespace, binding, _request_timeout=10)
    wait_for(reconciler, Outcome.DONE)
    assert world.condition("Ready") == ("True", "Detecting")


def test_E21_the_report_of_a_failure_halts_the_roll_out_if_the_store_lets_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    plan = RolloutPlan((RolloutStep(10), RolloutStep(100, 3600)))
    manifest = replace(make_manifest(4, release_files(b"model")), namespace=world.namespace, model=MODEL, rollout=plan)
    world.store.put(keys.manifest(world.namespace, MODEL, 4), to_json(manifest))
    world.report(state="RolledBack", desired_version=4, failed_version=4, error="NaN")
    world.report(device="pi-rear", desired_version=4, wave=2, rollout="waiting")
    reconciler = world.reconciler()
    world.store.read_only.append("everything")
    # All else is shown as before.
    assert reconciler.reconcile() is Outcome.DONE
    assert "the reporter needs to write rollout.json" in caplog.text
    assert world.condition("UpToDate") == ("False", "Refused")
    assert world.condition("UpToDate", "pi-rear") == ("False", "Waiting")
    world.store.read_only.clear()
    assert reconciler.reconcile() is Outcome.DONE
    control = from_json(RolloutControl, world.store.get(keys.rollout(world.namespace, MODEL, 4)))
    assert (control.state, control.failed) == (RolloutState.HALTED, ("pi-front",))


def wait_for(reconciler: DeviceReconciler, outcome: Outcome) -> None:
    """The API server's authorizer learns of changed rights a moment later."""
    wait_until(lambda: reconciler.reconcile() is outcome, what=f"a reconcile that ends with {outcome}")
