"""The figures of all compile targets on the page: of a run, of a release, and of two releases side by side."""

from pathlib import Path
from typing import Any

from atoll_cli.ui.comparison import compare_figures
from atoll_cli.ui.targets import release_targets, target_rows
from atoll_contract.document import replace
from atoll_contract.errors import Reason
from atoll_contract.release import EdgeTpu, Manifest, TargetResult
from atoll_contract.store import directory_store, open_store
from atoll_operator.api.figures import TargetFigures
from atoll_operator.api.status import CompileStatus, RunStatus
from support.edge_release import MODEL, NAMESPACE, publish

RKNN = TargetResult(
    "rknn", compiled=True, chip="rk3588", mapped_percent=100.0, ap50=0.86, ap=0.478, figures_source="simulator"
)
QNN = TargetResult("qnn", compiled=True, mapped_percent=99.0, ap50=0.849, ap=0.473, figures_source="simulator")
LACKING = TargetResult("edgetpu", compiled=False, reason="CompilerUnavailable")


def test_a_run_shows_a_row_for_every_target() -> None:
    figures = TargetFigures("0.8597", "0.4779", "simulator")
    status = RunStatus(
        compile=(
            CompileStatus("edgetpu", reason=Reason.COMPILER_UNAVAILABLE, predicted_mapped_percent="97.6"),
            CompileStatus("rknn", True, Reason.COMPLETED, mapped_percent="100", chip="rk3588", figures=figures),
            CompileStatus("qnn", reason=Reason.RUNNING),
        )
    )
    assert target_rows(status) == [
        {"name": "Edge TPU", "result": "no compiler", "mapped": "97.6 predicted"},
        {
            "name": "Rockchip rk3588",
            "result": "compiled",
            "ap50": "0.8597",
            "ap": "0.4779",
            "source": "by the chip's simulator",
            "mapped": "100",
        },
        {"name": "Qualcomm", "result": "at work"},
    ]


def test_a_run_that_has_not_compiled_shows_none() -> None:
    assert target_rows(RunStatus(compile=(CompileStatus("edgetpu"), CompileStatus("rknn")))) == []


def release(version: int, folder: Path, **changes: Any) -> Manifest:
    store = open_store(directory_store(folder))
    return publish(store, version, alter=lambda manifest: replace(manifest, **changes)).manifest


def test_a_release_names_what_it_is_compiled_for(tmp_path: Path) -> None:
    assert release_targets(release(1, tmp_path)) == "CPU only"
    assert release_targets(release(2, tmp_path, targets=(LACKING, RKNN, QNN))) == "Rockchip 0.86, Qualcomm 0.85"
    alone = EdgeTpu(compiled=True, mapped_percent=97.6)
    assert release_targets(release(3, tmp_path, edgetpu=alone)) == "Edge TPU 98%"


def test_two_releases_are_compared_on_every_target(tmp_path: Path) -> None:
    release(1, tmp_path, targets=(LACKING, RKNN))
    release(2, tmp_path, targets=(replace(RKNN, ap50=0.9), QNN))
    store = open_store(directory_store(tmp_path))
    compared = compare_figures(store, NAMESPACE, f"{MODEL}-v1", f"{MODEL}-v2")
    figures = {row["name"]: row for row in compared["figures"]}
    assert figures["AP50 on Rockchip"] == {"name": "AP50 on Rockchip", "old": 0.86, "new": 0.9}
    assert figures["AP50 on Qualcomm"] == {"name": "AP50 on Qualcomm", "new": 0.849}
    assert "AP50 on Edge TPU" not in figures
    facts = {row["name"]: (row["old"], row["new"]) for row in compared["facts"]}
    assert facts["Edge TPU"] == ("not compiled", "not asked for")
    assert facts["Rockchip"] == ("compiled, 100 % of operations", "compiled, 100 % of operations")
    assert facts["Qualcomm"] == ("not asked for", "compiled, 99 % of operations")
