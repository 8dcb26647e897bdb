"""charts/argocd.yaml and charts/flux.yaml: the chart takes their values, and their health checks judge every state of a
run as a person would."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml

from cluster.binaries import ensure
from support.helm import CHARTS, pod_specs, render

pytestmark = pytest.mark.api

STATUSES = sorted((Path(__file__).parents[2] / "golden" / "frozen" / "statuses").glob("*.json"))
HEALTHY, FAILED, AT_WORK, SUSPENDED = "healthy", "failed", "at work", "suspended"
FINISHED = {"succeeded": HEALTHY, "succeeded-without-compiler": HEALTHY, "suspended": SUSPENDED} | dict.fromkeys(
    ("cancelled", "invalid", "out-of-memory", "quality-gate"), FAILED
)
ARGO = {"Healthy": HEALTHY, "Degraded": FAILED, "Progressing": AT_WORK, "Suspended": SUSPENDED}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CHARTS / f"{name}.yaml").read_text(encoding="utf-8")))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    return next(document for document in documents(name) if document["kind"] == kind)


def run_with(status: dict[str, Any] | None, *, generation: int | None = None) -> dict[str, Any]:
    seen = (status or {}).get("observedGeneration", 1)
    run = {"metadata": {"name": "note", "generation": generation or seen}, "spec": {}}
    return run if status is None else run | {"status": status}


def status_of(path: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["status"]
    return status


def argo_health(run: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Status and message, by the Lua that Argo CD runs scripts with."""
    script = of_kind("argocd", "ConfigMap")["data"]["resource.customizations.health.atoll.dev_TrainingRun"]
    program = folder / "health.lua"
    program.write_text(
        f"obj = {lua(run)}\nlocal function check()\n{script}\nend\n"
        'local found = check()\nprint(found.status .. "\\t" .. found.message)\n',
        encoding="utf-8",
    )
    command = [str(ensure("glua")), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    status, _, message = done.stdout.rstrip("\n").partition("\t")
    return ARGO[status], message


def lua(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(key)}] = {lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(lua(item) for item in value) + "}"
    return "nil" if value is None else json.dumps(value, ensure_ascii=False)


def flux_health(run: dict[str, Any]) -> str:
    """As Flux judges it: a status of an older generation is not read, an expression that cannot be evaluated is waited
    for, the first expression that holds decides."""
    (expressions,) = of_kind("flux", "Kustomization")["spec"]["healthCheckExprs"]
    assert (expressions["apiVersion"], expressions["kind"]) == ("atoll.dev/v1alpha1", "TrainingRun")
    if run.get("status", {}).get("observedGeneration", run["metadata"]["generation"]) != run["metadata"]["generation"]:
        return AT_WORK
    environment = celpy.Environment()
    variables = {name: celpy.json_to_cel(value) for name, value in run.items()}
    for name, found in (("inProgress", AT_WORK), ("failed", FAILED), ("current", HEALTHY)):
        try:
            if environment.program(environment.compile(expressions[name])).evaluate(variables):
                return found
        except celpy.CELEvalError:
            assert "status" not in run
            return AT_WORK
    raise AssertionError(f"no expression holds for {run}")


@pytest.mark.parametrize("path", STATUSES, ids=lambda path: path.stem)
def test_argo_cd_judges_a_run_as_it_is(path: Path, tmp_path: Path) -> None:
    status = status_of(path)
    health, message = argo_health(run_with(status), tmp_path)
    assert health == FINISHED.get(path.stem, AT_WORK)
    assert status["message"].splitlines()[0] in message
    assert health != FAILED or message.startswith(f"{status['reason']}: ")


@pytest.mark.parametrize("path", STATUSES, ids=lambda path: path.stem)
def test_flux_judges_a_run_as_it_is(path: Path) -> None:
    # Flux knows no suspended state: such a run is not done.
    wanted = FINISHED.get(path.stem, AT_WORK)
    assert flux_health(run_with(status_of(path))) == (AT_WORK if wanted == SUSPENDED else wanted)


def test_a_run_that_nobody_has_seen_is_not_healthy(tmp_path: Path) -> None:
    succeeded = status_of(next(path for path in STATUSES if path.stem == "succeeded"))
    for run in (run_with(None), run_with(succeeded, generation=2)):
        assert flux_health(run) == AT_WORK
        assert argo_health(run, tmp_path)[0] == AT_WORK


def rendered(values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    quickstart = CHARTS / "atoll" / "values-quickstart.yaml"
    return render("atoll", f"--values={quickstart}", f"--values={folder / 'values.yaml'}")


def test_the_chart_takes_argo_cds_values_and_renders_them_always_alike(tmp_path: Path) -> None:
    source = of_kind("argocd", "Application")["spec"]["source"]
    assert (source["path"], source["helm"]["valueFiles"]) == ("charts/atoll", ["values-quickstart.yaml"])
    first, second = (rendered(source["helm"]["valuesObject"], tmp_path) for _ in range(2))
    assert first == second
    assert not [item for item in first if item["kind"] == "Secret"]
    assert images(first) == {"registry.example"}


def test_the_chart_takes_fluxs_values(tmp_path: Path) -> None:
    release = of_kind("flux", "HelmRelease")["spec"]
    assert release["chart"]["spec"]["chart"] == "charts/atoll"
    assert all((CHARTS.parent / path).is_file() for path in release["chart"]["spec"]["valuesFiles"])
    assert images(rendered(release["values"], tmp_path)) == {"registry.example"}


def images(objects: list[dict[str, Any]]) -> set[str]:
    """The registries of Atoll's own images."""
    found = {container["image"] for _, spec in pod_specs(objects) for container in spec["containers"]}
    for item in objects:
        found |= set(item["spec"]["images"].values()) if item["kind"] == "TrainingProfile" else set()
    return {image.partition("/")[0] for image in found if "/atoll/" in image}
