"""Helm's renderings of the project's charts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster.binaries import ensure

CHARTS = Path(__file__).parents[2] / "charts"
DEADLINE_SECONDS = 60


class HelmRefused(RuntimeError):
    """Helm ended with an error; the message is its own."""


def helm(*arguments: str) -> str:
    """Standard output of Helm 4. Raises HelmRefused."""
    command = [str(ensure("helm4")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise HelmRefused(done.stderr or done.stdout)
    return done.stdout


def render(chart: str, *arguments: str, namespace: str = "atoll", upgrade: bool = True) -> list[dict[str, Any]]:
    """The chart's objects. `upgrade` renders for a cluster that knows the project's kinds already."""
    known = ["--api-versions", "atoll.dev/v1alpha1/TrainingProfile"] if upgrade else []
    text = helm("template", "atoll", str(CHARTS / chart), "-n", namespace, *known, *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def pod_specs(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`Kind/name` and spec of every pod that the objects stand for."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield name, item["spec"]["template"]["spec"]
