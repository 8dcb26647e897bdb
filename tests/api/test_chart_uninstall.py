"""The chart leaves a cluster in the documented order, and by the documented way out after the wrong one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from atoll_operator.api import GROUP
from atoll_operator.api.crds import definitions
from cluster.binaries import ensure
from cluster.controlplane import ControlPlane
from cluster.crds import wait_gone
from support.helm import CHARTS, HelmRefused, helm
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
KINDS = tuple(f"{definition.plural}.{GROUP}" for definition in definitions().values())
VALUES = ("-f", str(CHARTS / "atoll" / "values-quickstart.yaml"), "--set=bundledStore.persistence.enabled=false")


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """A control plane of this test's own: it deletes the kinds."""
    with ControlPlane() as plane:
        yield plane


def kubectl(plane: ControlPlane, *arguments: str) -> str:
    command = [str(ensure("kubectl")), "--kubeconfig", str(plane.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documented(heading: str, start: str) -> list[str]:
    """The words of the section's one command that begins so."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    section = text[text.index(f"## {heading}") :]
    found = re.findall(rf"^    ({re.escape(start)}.*)$", section, re.MULTILINE)
    assert found, start
    return str(found[0]).split()[1:]


def delete_kinds(plane: ControlPlane, start: str) -> None:
    """By the documented command, which ends once the kinds are gone."""
    kubectl(plane, *documented("Uninstall", start), "--wait=false")
    wait_gone(partial(kubectl, plane), KINDS)


def test_P27_kinds_deleted_before_the_uninstall_are_made_again_and_then_it_works(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = ("--kubeconfig", str(plane.kubeconfig), "-n", "atoll")
    helm("install", "atoll", str(CHARTS / "atoll"), *config, "--create-namespace", *VALUES)
    # As `helm upgrade` finds it after the first install, with the kinds known.
    helm("upgrade", "atoll", str(CHARTS / "atoll"), *config, *VALUES)
    delete_kinds(plane, "kubectl delete crd")
    # Some minutes later: until then Helm remembers the kinds.
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "later"))
    with pytest.raises(HelmRefused, match=r"no matches for kind|failed to delete release"):
        helm("uninstall", "atoll", *config)
    kubectl(plane, *documented("Uninstall", "kubectl apply -f crds/"))
    wait_until(
        lambda: "trainingruns" in kubectl(plane, "api-resources", "--api-group=atoll.dev", "--cached=false"),
        what="the kinds to be served",
    )
    helm("uninstall", "atoll", *config)
    delete_kinds(plane, "kubectl delete -f crds/")
    assert helm("list", "-q", "--all-namespaces", "--kubeconfig", str(plane.kubeconfig)).split() == []
    assert "atoll.dev" not in kubectl(plane, "get", "crd", "-o", "name")
    assert "atoll" not in kubectl(plane, "get", "clusterroles,clusterrolebindings", "-o", "name")
