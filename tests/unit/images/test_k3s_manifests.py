"""`make k3s-manifests`: what k3s's Helm controller finds in the folder is the chart with the values, and the images."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from atoll_contract import __version__
from k3s_manifests import package
from support.helm import CHARTS, helm, render
from support.image_recorder import ROOT, ImageRecorder

pytestmark = pytest.mark.api

QUICKSTART = CHARTS / "atoll" / "values-quickstart.yaml"
MENTOR = "profiles:\n  default:\n    maxConcurrentRuns: 3\n"
ROBOT = "usb: {mode: none}\nconfig:\n  team: 190\n  # a comment, and a text of two lines\n  device: pi-front\n"


@pytest.fixture
def machine(tmp_path: Path) -> ImageRecorder:
    recorder = ImageRecorder(tmp_path)
    recorder.prepare()
    shutil.copytree(CHARTS, recorder.checkout / "charts")
    return recorder


def manifest(machine: ImageRecorder, release: str) -> list[dict[str, Any]]:
    path = machine.checkout / "build" / "k3s" / "server" / "manifests" / f"{release}.yaml"
    return list(yaml.safe_load_all(path.read_text()))


def installed(documents: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What Helm makes of them, as k3s's controller calls it."""
    chart, *configs = documents
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(chart["spec"]["chartContent"]))) as archive:
        archive.extractall(folder, filter="data")
    (name,) = (path.name for path in folder.iterdir() if path.is_dir())
    arguments = [f"--set={name}={value}" for name, value in chart["spec"].get("set", {}).items()]
    for number, document in enumerate(documents):
        if text := document["spec"].get("valuesContent"):
            (folder / f"values-{number}.yaml").write_text(text)
            arguments.append(f"--values={folder / f'values-{number}.yaml'}")
    assert all(document["metadata"] == chart["metadata"] for document in configs)
    known = ["--api-versions", "atoll.dev/v1alpha1/TrainingProfile"]
    place = ["-n", chart["spec"]["targetNamespace"]]
    text = helm("template", chart["metadata"]["name"], str(folder / name), *place, *known, *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def without_random_keys(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] != "Secret"]


def test_the_trainings_cluster_has_chart_two_files_of_values_and_the_built_images(
    machine: ImageRecorder, tmp_path: Path
) -> None:
    (machine.checkout / "mentor.yaml").write_text(MENTOR)
    machine.type("make images && make k3s-manifests VALUES='charts/atoll/values-quickstart.yaml mentor.yaml'")
    documents = manifest(machine, "atoll")
    assert [document["kind"] for document in documents] == ["HelmChart", "HelmChartConfig"]
    assert {document["metadata"]["namespace"] for document in documents} == {"kube-system"}
    found = installed(documents, tmp_path / "unpacked")
    values = (machine.checkout / name for name in ("mentor.yaml", "build/values-images.yaml"))
    wanted = render("atoll", f"--values={QUICKSTART}", *(f"--values={path}" for path in values))
    assert without_random_keys(found) == without_random_keys(wanted)
    (profile,) = (item for item in found if item["kind"] == "TrainingProfile")
    assert profile["spec"]["maxConcurrentRuns"] == 3
    images = {path.name for path in (machine.checkout / "build" / "k3s" / "agent" / "images").iterdir()}
    assert images == {"atoll-operator.tar", "atoll-convert.tar", "atoll-train.tar"}


def test_a_robots_pi_has_its_chart_and_the_edge_image(machine: ImageRecorder, tmp_path: Path) -> None:
    (machine.checkout / "my-pi.yaml").write_text(ROBOT)
    machine.type("make images IMAGES=edge && make k3s-manifests CHART=atoll-edge VALUES=my-pi.yaml")
    found = installed(manifest(machine, "edge"), tmp_path / "unpacked")
    (daemons,) = (item for item in found if item["kind"] == "DaemonSet")
    assert daemons["metadata"]["namespace"] == "atoll-edge"
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    archive = machine.checkout / "build" / "k3s" / "agent" / "images" / "atoll-edge.tar"
    assert archive.read_text().strip() == container["image"] == f"localhost/atoll/edge:{__version__}"
    (settings,) = (item for item in found if item["kind"] == "ConfigMap")
    assert yaml.safe_load(settings["data"]["config.yaml"])["device"] == "pi-front"


def test_pushed_images_are_named_by_digest(machine: ImageRecorder) -> None:
    digest = "sha256:" + "a" * 64
    values = machine.checkout / "build" / "values-images.yaml"
    values.parent.mkdir()
    operator = {"registry": "registry.example", "repository": "atoll/operator", "tag": "1", "digest": digest}
    values.write_text(json.dumps({"image": operator, "images": {}}))
    machine.type("make k3s-manifests IMAGES=none")
    (chart,) = manifest(machine, "atoll")
    assert chart["spec"]["set"]["image.digest"] == digest
    assert not (machine.checkout / "build" / "k3s" / "agent").exists()
    assert machine.calls() == []


def test_a_third_file_of_values_is_refused(machine: ImageRecorder) -> None:
    (machine.checkout / "a.yaml").write_text("{}\n")
    done = machine.run("make k3s-manifests IMAGES=none VALUES='a.yaml a.yaml a.yaml'")
    assert done.returncode != 0
    assert "2 files, not 3: put them into one" in done.stderr


def test_a_chart_is_packed_as_helm_packs_it_and_always_alike(tmp_path: Path) -> None:
    helm("package", str(CHARTS / "atoll"), "--destination", str(tmp_path))
    (helms,) = tmp_path.iterdir()
    with tarfile.open(helms) as archive:
        wanted = {member.name for member in archive.getmembers()}
    packed = package(CHARTS / "atoll")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {member.name for member in archive.getmembers()} == wanted - {"atoll/.helmignore"}
    assert package(ROOT / "charts" / "atoll") == packed
