"""What the API server may answer to the operator's writes, and rights that go; ids as in docs/faults.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import cycle

import kubernetes.client
import pytest

from cluster.api_proxy import ApiProxy, Fate, Write
from cluster.controlplane import ControlPlane
from cluster.objects import Objects, run_manifest, store_manifest
from cluster.operator_process import OperatorProcess
from support.polling import wait_until

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("kubelet")]

TROUBLES = (Fate.BUSY, Fate.BROKEN, Fate.CONFLICT, Fate.LOSE_ANSWER, Fate.LOSE_REQUEST)


class Trouble:
    """Every third write gets one of the answers that a loaded API server gives; the Lease and Events get none. More
    often, and the waits after failures in a row would be all that the test sees."""

    def __init__(self) -> None:
        self.given: Counter[Fate] = Counter()
        self._next = cycle(TROUBLES)
        self._writes = 0

    def judge(self, write: Write) -> Fate:
        if "/leases" in write.path or "/events" in write.path:
            return Fate.PASS
        self._writes += 1
        fate = Fate.PASS if self._writes % 3 else next(self._next)
        self.given[fate] += 1
        return fate


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def troubled(
    control_plane: ControlPlane, api: kubernetes.client.ApiClient, team: Objects, trouble: Trouble
) -> Iterator[OperatorProcess]:
    """An operator whose calls go through the proxy. In the end its log must hold no error."""
    ca_file = str(control_plane.ca_file)
    with (
        ApiProxy(control_plane.server, ca_file, judge=trouble.judge, on_loss=lambda: None) as proxy,
        OperatorProcess(control_plane, api, team.namespace, server=proxy.url) as process,
    ):
        yield process
        process.stop()
        assert process.problems() == []


def test_O8_a_run_whose_every_third_write_fails_ends_as_any_other(
    team: Objects, troubled: OperatorProcess, trouble: Trouble
) -> None:
    team.create("trainingruns", run_manifest("bumpy", profileRef={"name": team.namespace}))
    status = team.wait_for_phase("bumpy", "Succeeded", "Failed")
    troubled.check()
    assert status["phase"] == "Succeeded"
    assert [(stage["attempts"], stage.get("failures", 0)) for stage in status["stages"]] == [(1, 0)] * 5
    assert len([name for name in team.jobs() if name.startswith("bumpy-")]) == 3
    assert [item["metadata"]["name"] for item in team.list_all("modelreleases")] == ["note-v1"]
    assert set(trouble.given) == {Fate.PASS, *TROUBLES}


def test_O11_a_right_that_is_taken_away_is_named_and_the_run_goes_on_when_it_is_back(
    team: Objects, control_plane: ControlPlane, api: kubernetes.client.ApiClient, namespace: str
) -> None:
    mine = Objects(api, namespace)
    rbac = kubernetes.client.RbacAuthorizationV1Api(api)
    with OperatorProcess(control_plane, api, namespace) as operator:
        role = rbac.read_namespaced_role("atoll-run", namespace, _request_timeout=10)
        jobs = next(rule for rule in role.rules if rule.resources == ["jobs"])
        jobs.verbs.remove("create")
        rbac.replace_namespaced_role("atoll-run", namespace, role, _request_timeout=10)
        wait_until(lambda: not mine.may(operator.account, "create", "jobs", group="batch"), what="the right to go")
        mine.create("objectstores", store_manifest())
        mine.create("trainingruns", run_manifest("powerless", profileRef={"name": team.namespace}))

        def complaints() -> list[str]:
            told = [str(entry["message"]) for entry in operator.log()]
            return [text for text in told if text.startswith("create jobs") and 'cannot create resource "jobs"' in text]

        wait_until(lambda: len(complaints()) >= 3, what="three refused creations in the log")
        status = mine.status("powerless")
        assert (status["phase"], status["reason"]) == ("Converting", "InternalError")
        assert "forbidden: the operator may not create jobs" in status["message"]
        assert {item["type"]: item["status"] for item in status["conditions"]}["Stalled"] == "True"
        told = [event for event in mine.events("powerless") if event["reason"] == "InternalError"]
        assert len(told) == 1
        assert 'cannot create resource "jobs"' in told[0]["message"]
        role = rbac.read_namespaced_role("atoll-run", namespace, _request_timeout=10)
        next(rule for rule in role.rules if rule.resources == ["jobs"]).verbs.append("create")
        rbac.replace_namespaced_role("atoll-run", namespace, role, _request_timeout=10)
        wait_until(lambda: mine.jobs(), what="the Job, now that it may be made", timeout_seconds=60)
        wait_until(lambda: mine.status("powerless")["reason"] == "Running", what="the status to take it back")
        operator.check()
        operator.stop()
        assert operator.problems() == []
