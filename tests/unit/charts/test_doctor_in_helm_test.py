"""What `helm test` runs of `atoll doctor`: its account may read what that reads, and no more; and it can be started."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import atoll_operator.kube.client
from atoll_cli.commands.doctor import CHECKS, check_facts
from atoll_cli.doctor.facts import read_facts
from atoll_cli.doctor.rights import OPERATOR_RIGHTS
from atoll_cli.main import Commands
from atoll_operator.kube.objects import Resource
from support.charts import CHART
from support.doctor_facts import healthy, workload
from support.helm import render

ROOT = Path(__file__).parents[3]


class RecordedCluster:
    """Answers with nothing but an operator, and notes what it was asked for: (verb, group, resource, where)."""

    def __init__(self) -> None:
        self.asked: set[tuple[str, str, str, str]] = set()

    def list_all(self, resource: Resource, namespace: str | None = None, **_: Any) -> list[Any]:
        self._note("list", resource, namespace)
        return [workload("operator", "x")] if resource.plural == "deployments" else []

    def create(self, resource: Resource, namespace: str | None, body: Any) -> Any:
        self._note("create", resource, namespace)
        return {"status": {"allowed": True}}

    def read(self, resource: Resource, namespace: str | None, name: str) -> Any:
        return {"gitVersion": "v1.35.4"}

    def _note(self, verb: str, resource: Resource, namespace: str | None) -> None:
        group = resource.path.removeprefix("apis/").rpartition("/")[0] if resource.path.startswith("apis/") else ""
        self.asked.add((verb, group, resource.plural, namespace or ""))


def granted(rendered: list[dict[str, Any]], kind: str) -> set[tuple[str, str, str]]:
    """What a role of the test's account lets it do."""
    (role,) = (item for item in rendered if item["kind"] == kind and item["metadata"]["name"] == "atoll-test")
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.api
def test_the_tests_account_may_read_what_the_doctor_reads_and_no_more() -> None:
    cluster = RecordedCluster()
    read_facts(cluster, lambda: datetime.now(UTC), "atoll", own=(), operators=OPERATOR_RIGHTS)  # type: ignore[arg-type]
    # The charts' own objects are looked for in its namespace where nothing else may be read.
    own = {item[:3] for item in cluster.asked if item[3] == "atoll"}
    own |= {("list", "apps", name) for name in ("deployments", "daemonsets", "statefulsets")}
    rendered = render("atoll")
    assert granted(rendered, "Role") == own | {("create", "atoll.dev", "trainingruns")}
    assert granted(rendered, "ClusterRole") == {item[:3] for item in cluster.asked} - own


@pytest.mark.api
def test_without_rights_of_the_charts_there_is_no_cluster_role() -> None:
    rendered = render("atoll", "--set", "rbac.create=false")
    assert not [item for item in rendered if item["kind"].startswith("ClusterRole") and "-test" in str(item)]


def test_the_command_of_the_test_is_one_and_needs_no_package_that_the_operators_image_lacks() -> None:
    """The image has the sources of atoll_cli, and what the operator's own lock names."""
    names: dict[str, Any] = {}
    text = (CHART / "files" / "check.py").read_text(encoding="utf-8").removesuffix("main()\n")
    exec(compile(text, "check.py", "exec"), names)
    program = (
        "import sys\n"
        "from atoll_cli.main import main\n"
        "sys.argv[1:] = sys.argv[4:] + ['--help']\n"
        "code = main()\n"
        "print(code, *sorted({name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in str(getattr(module, '__file__', ''))}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *names["DOCTOR"]], capture_output=True, text=True, check=True, timeout=60
    )
    code, *packages = done.stderr.split()
    lock = (ROOT / "images" / "operator" / "requirements.txt").read_text(encoding="utf-8")
    locked = {line.partition("==")[0].replace("-", "_") for line in lock.splitlines() if "==" in line}
    assert (code, "Check the cluster" in done.stdout) == ("0", True)
    assert {name for name in packages if not name.startswith("_")} <= locked | {"yaml"}
    dockerfile = (ROOT / "images" / "operator" / "Dockerfile").read_text(encoding="utf-8")
    assert "COPY operator/src/atoll_cli /opt/atoll/src/atoll_cli\n" in dockerfile


def test_checks_that_are_skipped_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atoll_operator.kube.client, "connect_as_user", lambda *_, **__: (RecordedCluster(), "atoll"))
    monkeypatch.setattr("atoll_operator.kube.clock.ServerClock.__call__", lambda _: datetime.now(UTC))
    said = CliRunner().invoke(Commands(), ["doctor", "-o", "json", "--no-pod"])
    quiet = CliRunner().invoke(
        Commands(), ["doctor", "-o", "json", "--no-pod", "--skip", "kinds", "--skip", "profiles"]
    )
    names = [{item["check"] for item in json.loads(result.stdout)["checks"]} for result in (said, quiet)]
    assert {"kinds", "profiles", "api"} <= names[0]
    assert names[1] == names[0] - {"kinds", "profiles"}


def test_every_check_has_its_name_in_the_choice() -> None:
    assert {result.check for result in check_facts(healthy(), None)} <= {*CHECKS}
