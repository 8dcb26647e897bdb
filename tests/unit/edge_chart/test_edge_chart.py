"""What charts/atoll-edge renders: settings that the agent reads, `lab` restricted, `robot` on the host's own ports."""

from pathlib import Path
from typing import Any

import pytest

from atoll_edge.cameras import camera_setups
from atoll_edge.config import HarvestConfig, Verify
from atoll_edge.config_file import read_config
from support.helm import HelmRefused, pod_specs, render

pytestmark = pytest.mark.api

KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"
BUCKET = (
    "--set=model.namespace=team-190,model.name=note,store.bucket=frc,store.endpoint=https://minio:9000",
    "--set=store.secretName=s3,tokenSecretName=token,config.team=190,config.camera.path=synthetic",
    f"--set-string=model.publicKeys[0]={KEY}",
)


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [item for item in objects if item["kind"] == kind]
    return found


@pytest.mark.parametrize("mode", ["robot", "lab"])
def test_the_agent_reads_the_settings_that_the_chart_writes(tmp_path: Path, mode: str) -> None:
    data = one(render("atoll-edge", f"--set=mode={mode}", *BUCKET), "ConfigMap")["data"]
    (tmp_path / "config.yaml").write_text(data["config.yaml"])
    config = read_config(tmp_path / "config.yaml")
    assert config.model is not None
    assert (config.team, config.camera.path, config.model.name) == (190, "synthetic", "note")
    assert config.model.verify is Verify.REQUIRED
    assert config.model.public_key_files == ("/etc/atoll-edge/key-0.pem",)
    assert config.model.store.credentials_dir == "/run/atoll-edge/credentials"
    assert data["key-0.pem"].strip() == KEY
    assert (config.device is None) == (mode == "robot")


def test_harvesting_is_off_and_the_agent_reads_its_settings(tmp_path: Path) -> None:
    def harvest(*more: str) -> HarvestConfig:
        data = one(render("atoll-edge", *BUCKET, *more), "ConfigMap")["data"]
        (tmp_path / "config.yaml").write_text(data["config.yaml"])
        return read_config(tmp_path / "config.yaml").harvest

    assert harvest() == HarvestConfig()
    wanted = harvest("--set=config.harvest.enabled=true,config.harvest.maxMebibytes=100,config.harvest.minDoubt=2")
    assert wanted == HarvestConfig(enabled=True, max_mebibytes=100, min_doubt=2)
    with pytest.raises(HelmRefused, match="model"):
        render("atoll-edge", "--set=config.harvest.enabled=true")


def test_several_cameras_have_their_ports(tmp_path: Path) -> None:
    cameras = "--set=config.cameras[0].name=front,config.cameras[1].name=rear,config.cameras[1].rawPort=1190"
    more = "--set=config.cameras[0].path=synthetic,config.cameras[1].path=synthetic"
    objects = render("atoll-edge", "--set=mode=lab,config.tracks.enabled=true", cameras, more)
    (tmp_path / "config.yaml").write_text(one(objects, "ConfigMap")["data"]["config.yaml"])
    config = read_config(tmp_path / "config.yaml")
    assert config.tracks.enabled
    setups = camera_setups(config)
    wanted = {port for setup in setups for port in (setup.raw_port, setup.annotated_port)}
    assert wanted == {1181, 1182, 1190, 1184}
    assert {port["port"] for port in one(objects, "Service")["spec"]["ports"]} == wanted | {5808}
    [(_, pod)] = pod_specs(objects)
    assert {port["containerPort"] for port in pod["containers"][0]["ports"]} == wanted | {5808}
    with pytest.raises(HelmRefused, match="exclude each other"):
        render("atoll-edge", cameras, "--set=config.camera.path=synthetic")


def test_lab_fits_pod_security_restricted() -> None:
    objects = render("atoll-edge", "--set=mode=lab", *BUCKET)
    [(name, pod)] = pod_specs(objects)
    assert name.startswith("Deployment/")
    assert one(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "hostNetwork" not in pod
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {port["port"] for port in one(objects, "Service")["spec"]["ports"]} == {5808, 1181, 1182}


def test_a_robot_uses_its_own_ports_store_and_usb() -> None:
    objects = render("atoll-edge")
    [(name, pod)] = pod_specs(objects)
    assert name.startswith("DaemonSet/")
    assert one(objects, "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert pod["hostNetwork"] is True
    assert pod["automountServiceAccountToken"] is False
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert paths == {"/var/lib/atoll-edge", "/boot/firmware", "/dev"}
    assert pod["containers"][0]["securityContext"]["privileged"] is True
    assert not [item for item in objects if item["kind"] == "Service"]


@pytest.mark.parametrize(
    ("mode", "privileged", "resource"), [("none", False, None), ("device-plugin", False, 1), ("privileged", True, None)]
)
def test_the_ways_to_the_usb(mode: str, privileged: bool, resource: int | None) -> None:
    [(_, pod)] = pod_specs(render("atoll-edge", f"--set=usb.mode={mode}", "--set-json=cameraDevices=[]"))
    [container] = pod["containers"]
    assert bool(container["securityContext"].get("privileged")) is privileged
    assert container["resources"]["limits"].get("squat.ai/coral") == resource
    assert ("/dev" in {mount["mountPath"] for mount in container["volumeMounts"]}) is privileged


@pytest.mark.parametrize("cameras", ["[]", '["/dev/video0"]', '["/dev/video7","/dev/v4l/by-id/usb-front"]'])
@pytest.mark.parametrize("mode", ["none", "device-plugin", "privileged"])
def test_P17_no_device_of_a_robot_has_to_be_there_for_its_pod_to_start(mode: str, cameras: str) -> None:
    [(_, pod)] = pod_specs(render("atoll-edge", f"--set=usb.mode={mode}", f"--set-json=cameraDevices={cameras}"))
    paths = {
        volume["hostPath"]["path"]: volume["hostPath"].get("type", "")
        for volume in pod["volumes"]
        if "hostPath" in volume
    }
    # Of /dev only the folder itself: every host has it. The kubelet makes the state's folder, and a runtime the other.
    assert {path for path in paths if path.startswith("/dev")} <= {"/dev"}
    assert paths | {"/dev": "Directory"} == {
        "/dev": "Directory",
        "/var/lib/atoll-edge": "DirectoryOrCreate",
        "/boot/firmware": "",
    }


@pytest.mark.parametrize("mode", ["none", "device-plugin", "privileged"])
def test_P18_a_robot_with_a_camera_may_open_it_whatever_its_coral_is(mode: str) -> None:
    [(_, pod)] = pod_specs(render("atoll-edge", f"--set=usb.mode={mode}", "--set=cameraDevices={/dev/video0}"))
    [container] = pod["containers"]
    assert container["securityContext"]["privileged"] is True
    assert {"name": "dev", "mountPath": "/dev"} in container["volumeMounts"]
    # The runtime would make the file of its default path in the host's /dev.
    assert not container["terminationMessagePath"].startswith("/dev")


def test_P16_a_robot_is_a_critical_pod_and_a_lab_is_not() -> None:
    def priority(*arguments: str) -> str | None:
        [(_, pod)] = pod_specs(render("atoll-edge", *arguments))
        found: str | None = pod.get("priorityClassName")
        return found

    assert priority() == "system-node-critical"
    assert priority("--set=mode=lab") is None
    assert [priority(f"--set=mode={mode},priorityClassName=mine") for mode in ("robot", "lab")] == ["mine", "mine"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_the_probes_are_the_agents(path: str) -> None:
    [(_, pod)] = pod_specs(render("atoll-edge"))
    container = pod["containers"][0]
    probes = {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert path in probes


@pytest.mark.parametrize(
    "wrong",
    [
        "mode=pit",
        "usb.mode=always",
        "config.teem=190",
        "config.harvest.enable=true",
        "model.name=note",
        "model.verify=never",
        "store.endpoint=minio:9000",
        "store.prefix=atoll",
        "cameraDevices[0]=video0",
        "image.digest=latest",
    ],
)
def test_wrong_values_are_refused(wrong: str) -> None:
    with pytest.raises(HelmRefused, match=wrong.split("=")[0].split(".")[0].split("[")[0]):
        render("atoll-edge", f"--set={wrong}")
