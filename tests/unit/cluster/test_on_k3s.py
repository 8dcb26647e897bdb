"""`tests/e2e/on_k3s.sh` with recorders in place of make, helm, kubectl and atoll: what it types, and when it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.on_k3s_page import block, commands_of, shown_on_page
from support.readme_commands import commands

ROOT = Path(__file__).parents[3]
RECORDER = """#!/usr/bin/env bash
line="$(basename "$0") $*"
echo "$line" >> "$CALLS"
case "$line" in
  $FAILS) echo "no such luck" >&2; exit 1 ;;
  "kubectl get crd"*) [ -n "${INSTALLED:-}" ] || exit 1 ;;
  *"{.metadata.name}"*) echo -n sample ;;
  *"{.status.phase}"*) echo -n "${PHASE:-Succeeded}" ;;
  *"{.status.release.name}"*) echo -n sample-v1 ;;
  *"{.data.AWS_"*) [ -n "${KEYLESS:-}" ] || echo -n c2VjcmV0LWtleQ== ;;
  "kubectl version -o json") echo '{"serverVersion": {"gitVersion": "v1.35.4+k3s1"}}' ;;
esac
"""


class Machine:
    """A checkout with README and script, and the recorders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests/e2e").mkdir(parents=True)
        (folder / ".venv/bin").mkdir(parents=True)
        shutil.copy(ROOT / "README.md", folder)
        shutil.copy(ROOT / "tests/e2e/on_k3s.sh", folder / "tests/e2e")
        for name in ("bin/make", "bin/helm", "bin/kubectl", ".venv/bin/atoll"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(RECORDER)
            path.chmod(0o755)

    def run(self, **environment: str) -> tuple[int, str]:
        """Exit code and output."""
        own = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "CALLS": f"{self.folder}/calls", "FAILS": "nothing"}
        script = self.folder / "tests/e2e/on_k3s.sh"
        done = subprocess.run(
            ["bash", str(script)], env=own | environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_it_types_the_readmes_commands_in_order_and_checks_the_run(machine: Machine) -> None:
    code, output = machine.run()
    assert code == 0, output
    typed = [line[2:] for line in output.splitlines() if line.startswith("$ ")]
    readme = commands("On a cluster")
    assert [" ".join(line.split()) for line in typed[: len(readme)]] == readme
    assert [line.split()[:2] for line in typed[len(readme) :]] == [
        [".venv/bin/atoll", "wait"],
        ["helm", "test"],
        [".venv/bin/atoll", "doctor"],
        ["export", 'AWS_ACCESS_KEY_ID="$(kubectl'],
        ["export", 'AWS_SECRET_ACCESS_KEY="$(kubectl'],
        [".venv/bin/atoll", "pull"],
        ["kubectl", "get"],
    ]
    assert "atoll doctor -n atoll" in machine.calls
    install = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert all(f"    {line}\n" in install for line in typed if line.startswith("export "))
    assert "secret-key" not in output
    assert 'ok: "gitVersion": "v1.35.4+k3s1" made sample-v1' in output
    assert (machine.folder / "build/on-k3s.log").read_text().strip() == output.strip()


def test_it_leaves_a_cluster_alone_that_has_atoll(machine: Machine) -> None:
    code, output = machine.run(INSTALLED="yes")
    assert code == 1
    assert "has Atoll already" in output
    assert machine.calls == ["kubectl get crd trainingruns.atoll.dev"]


@pytest.mark.parametrize(
    "fails", ["make*", "helm install*", "kubectl apply*", "atoll wait*", "helm test*", "atoll doctor*"]
)
def test_the_first_command_that_fails_is_the_end(machine: Machine, fails: str) -> None:
    code, output = machine.run(FAILS=fails)
    assert code == 1
    assert output.rstrip().splitlines()[-1].startswith("FAILED: ")
    assert machine.calls[-1].startswith(fails.rstrip("*"))


def test_a_run_that_did_not_succeed_is_no_success(machine: Machine) -> None:
    code, output = machine.run(PHASE="Failed")
    assert code == 1
    assert "run sample is Failed" in output


def test_a_store_without_keys_is_the_end(machine: Machine) -> None:
    code, output = machine.run(KEYLESS="yes")
    assert code == 1
    assert "FAILED: the Secret atoll-store has no AWS_ACCESS_KEY_ID" in output


def test_the_install_page_shows_a_run_of_the_scripts_present_steps(machine: Machine) -> None:
    _, output = machine.run()
    assert commands_of(shown_on_page()) == commands_of(re.sub(r"\bsample(?=-v1| )", "field", output))


def test_the_page_shows_each_command_with_the_end_of_its_output() -> None:
    log = "$ make images\n1\n2\n3\n4\n5\n$ helm test\nok  \n\nok: it made field-v1\n"
    assert block(log) == "$ make images\n…\n3\n4\n5\n$ helm test\nok\nok: it made field-v1\n"


def test_it_sets_a_fresh_checkout_up_before_it_types_anything_else(machine: Machine) -> None:
    (machine.folder / ".venv/bin/atoll").unlink()
    machine.run()
    assert next(line for line in machine.calls if not line.startswith("kubectl ")) == "make setup"
