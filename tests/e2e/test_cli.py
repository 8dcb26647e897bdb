"""The command line on a real kubelet: push, submit, logs -f, pull, report; and kubectl beside atoll validate."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll_cli.commands.submit import validate
from atoll_cli.output import Output
from cluster.binaries import ensure
from cluster.node_host import inside
from support.node_cluster import NodeCluster
from support.step_log import StepLog
from support.tricky_yaml import TRICKY

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(2400)]

RUN = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "cli"},
    "spec": {
        "datasets": [{"key": "datasets/NAMESPACE/field.tar"}],
        "model": {"architecture": "ssd-mobilenet-v2-fpnlite-192", "width": "0.35"},
        "training": {"initFrom": {"type": "random"}, "steps": 30, "batchSize": 8, "accelerator": "cpu"},
        "publish": {"model": "cli"},
    },
}
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Atoll:
    """`atoll` in a process and folder of its own, in the node's network namespace."""

    cluster: NodeCluster
    namespace: str
    folder: Path
    steps: StepLog
    environment: dict[str, str]

    def __call__(self, *arguments: str, seconds: float = 120.0, code: int = 0) -> str:
        """What it prints on both streams; the command is a line of the step log."""
        self.steps.add(f"atoll {' '.join(arguments)}")
        command = [sys.executable, "-P", "-m", "atoll_cli.main", *arguments, "-n", self.namespace]
        done = subprocess.run(
            inside(command),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        self.steps.show("\n".join(done.stdout.splitlines()[-12:]))
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture
def atoll(cluster: NodeCluster, installed: str, steps: StepLog, tmp_path: Path) -> Atoll:
    """Without any S3 credentials."""
    foreign = ("AWS_", "ATOLL_", "KUBERNETES_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"KUBECONFIG": cluster.keeper.kubeconfig, "HOME": str(tmp_path), "COLUMNS": "160"}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true"}
    return Atoll(cluster, installed, tmp_path, steps, environment)


def test_a_run_from_push_to_pull_by_the_command_line_alone(
    atoll: Atoll, cluster: NodeCluster, installed: str, sample_archive: Path, tmp_path: Path
) -> None:
    told = atoll("push", str(sample_archive), code=21)
    assert all(f"export {name}=" in told for name in KEYS)
    secret = cluster.get("secret", "atoll-store", namespace=installed)["data"]
    atoll.environment.update({name: base64.b64decode(secret[name]).decode() for name in KEYS})
    assert "is put into s3://" in atoll("push", str(sample_archive))
    assert "is there already" in atoll("push", str(sample_archive))

    text = json.dumps(RUN).replace("NAMESPACE", installed)
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    atoll("submit", "-f", "run.yaml")
    followed = atoll("logs", "cli", "-f", seconds=1500)
    for stage in ("convert", "train", "export", "publish"):
        assert followed.count(f"== {stage}, attempt 1, pod ") == 1
    # Each line once, though many looks read it.
    steps = re.findall(r"^ *\d+%  .*\bstep \d+/30\b.*$", followed, re.MULTILINE)
    assert steps
    assert len(steps) == len(set(steps))
    assert "Succeeded" in atoll("wait", "cli", "--timeout", "60s")
    assert "publish" in atoll("status", "cli", "--watch")

    atoll("report", "cli", "--no-open")
    assert (tmp_path / "cli-report.html").read_bytes().startswith(b"<!")
    atoll("pull", "cli-v1")
    with tarfile.open(tmp_path / "cli-v1" / "model.tar.gz") as bundle:
        assert {"map.pbtxt", "unoptimized.tflite"} <= set(bundle.getnames())

    assert "nothing to remove in s3://" in atoll("prune")

    cluster.kubectl("delete", "pods,jobs", "-l", "atoll.dev/run=cli", "-n", installed, timeout=120)
    archived = atoll("logs", "cli", "--stage", "train")
    assert "== train, attempt 1, pod " in archived
    assert "from s3://" in archived
    assert set(steps) <= set(archived.splitlines())


# kubectl reads a file before it sends it, and of a key that is there twice it takes the last without a word.
STRICTER_THAN_KUBECTL = {"key-twice", "key-twice-quoted", "key-twice-deep", "merge-overridden"}


def test_kubectl_judges_tricky_files_as_atoll_validate_does(
    cluster: NodeCluster, installed: str, steps: StepLog, tmp_path: Path
) -> None:
    apply = (str(ensure("kubectl")), "apply", "--dry-run=server", "-n", installed, "-f")
    environment = os.environ | {"KUBECONFIG": cluster.keeper.kubeconfig}
    refused, differing = 0, []
    for name, text in TRICKY.items():
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(text.encode())
        done = subprocess.run(
            inside([*apply, str(path)]), env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        offline = validate([path], Output())
        refused += bool(offline)
        if bool(done.returncode) != bool(offline) and name not in STRICTER_THAN_KUBECTL:
            differing.append(f"{name}: kubectl says {done.stderr or done.stdout!r}")
    steps.add(f"{len(TRICKY)} tricky files, {refused} of them refused, by atoll validate and by kubectl apply")
    assert differing == []
    assert min(refused, len(TRICKY) - refused) >= 20
