"""A run of the sample for four targets, with the compilers and simulators of the vendors: `make test-targets`.

It trains for some minutes. The Edge TPU's compiler and Hailo's are not to be had, and their entries say so.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.document import from_json
from atoll_contract.release import Manifest, Role
from support.target_table import rows, table

pytestmark = [pytest.mark.targets, pytest.mark.slow, pytest.mark.timeout(3600)]

# The simulators compute with the chips' own roundings.
MAX_DIFFERENCE = 0.02


@pytest.fixture(scope="module")
def status(store: Path) -> dict[str, Any]:
    return run_status(store)


def run_status(store: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((store / ".atoll/engine/local/chips/run.json").read_text())
    return dict(run["status"])


def test_a_detector_with_distributions_is_measured_in_both_simulators(distribution_store: Path) -> None:
    assert_simulated(run_status(distribution_store))


def assert_simulated(status: dict[str, Any]) -> None:
    entries = {item["target"]: item for item in status["compile"]}
    int8 = float(status["metrics"]["int8"]["ap50"])
    assert int8 > 0.1
    for target in ("rknn", "qnn"):
        figures = entries[target]["figures"]
        assert figures["source"] == "simulator"
        assert abs(float(figures["ap50"]) - int8) <= MAX_DIFFERENCE
        assert float(entries[target]["mappedPercent"]) > 90
        assert entries[target]["compilerVersion"]


def test_two_targets_are_measured_in_their_simulators_and_two_say_what_they_lack(status: dict[str, Any]) -> None:
    assert_simulated(status)
    entries = {item["target"]: item for item in status["compile"]}
    for target in ("edgetpu", "hailo"):
        assert (entries[target]["compiled"], entries[target]["reason"]) == (False, "CompilerUnavailable")
    assert status["summary"]["targets"].startswith("edgetpu no compiler, rknn ")


def test_the_release_has_the_files_of_both_targets(store: Path) -> None:
    (path,) = store.glob("models/local/chips/v1/manifest.json")
    manifest = from_json(Manifest, path.read_bytes())
    files = {item.target: item for item in manifest.files if item.role is Role.MODEL_COMPILED}
    assert {target: item.name for target, item in files.items()} == {
        "rknn": "model-rk3588.rknn",
        "qnn": "model-qcs6490.onnx",
    }
    assert all(item.size > 100_000 for item in files.values())
    found = rows(store, "chips")
    assert [row.target for row in found] == ["float", "int8", "rknn", "qnn"]
    print(table(found))
