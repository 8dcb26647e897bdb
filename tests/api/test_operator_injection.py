"""A container that somebody puts into every pod (a service mesh, say) and that never ends; ids as in docs/faults.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import kubernetes.client
import pytest

from atoll_contract.errors import Reason
from atoll_contract.stage import Stage, StageInput
from atoll_operator.lifecycle.decide import SIDECAR_GRACE_SECONDS
from cluster.api_proxy import ApiProxy, Fate, Write
from cluster.controlplane import ControlPlane
from cluster.kubelet import Kubelet, Script, StageEnd, failing, succeed
from cluster.objects import Objects, run_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = pytest.mark.api


def with_a_sidecar(write: Write) -> bytes:
    """The Job as a mesh's webhook makes it: its own container first, as those do that hold the others back."""
    if write.method != "POST" or not write.path.partition("?")[0].endswith("/jobs"):
        return write.body
    job = json.loads(write.body)
    job["spec"]["template"]["spec"]["containers"].insert(0, {"name": "mesh-proxy", "image": "registry.invalid/mesh"})
    return json.dumps(job).encode()


def outlived(script: Script) -> Script:
    """The stage ends as in `script`, long ago; its pod goes on."""

    def played(given: StageInput, pod_uid: str) -> StageEnd | None:
        end = script(given, pod_uid)
        return replace(end, outlived_by=SIDECAR_GRACE_SECONDS + 60.0) if end else None

    return played


@pytest.fixture
def meshed(control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects) -> Iterator[OperatorProcess]:
    """An operator whose Jobs all get the sidecar. In the end its log must hold no error."""
    ca_file = str(control_plane.ca_file)
    with ApiProxy(control_plane.server, ca_file, judge=lambda _: Fate.PASS, on_loss=lambda: None) as proxy:
        proxy.rewrite = with_a_sidecar
        with OperatorProcess(control_plane, api, team.namespace, server=proxy.url) as process:
            yield process
            process.stop()
            assert process.problems() == []


def test_P15_a_sidecar_that_never_ends_keeps_no_run(team: Objects, kubelet: Kubelet, meshed: OperatorProcess) -> None:
    for stage in Stage:
        kubelet.scripts["meshed", stage] = outlived(succeed)
    kubelet.scripts["broken", Stage.CONVERT] = outlived(failing(Reason.DATASET_UNSAFE, "path leaves", exit_code=11))
    for name in ("meshed", "broken"):
        team.create("trainingruns", run_manifest(name, profileRef={"name": team.namespace}, publish={"model": name}))
    status = team.wait_for_phase("meshed", "Succeeded", "Failed")
    meshed.check()
    assert status["phase"] == "Succeeded"
    assert [(stage["attempts"], stage.get("failures", 0)) for stage in status["stages"]] == [(1, 0)] * 5
    assert team.wait_for_phase("broken", "Succeeded", "Failed")["reason"] == "DatasetUnsafe"
    # What the sidecar kept goes: neither a slot nor a GPU is held for nothing.
    wait_until(lambda: not team.pods() and not team.jobs(), what="the Jobs and pods to go", timeout_seconds=60)
