"""What came of each compile target, in words and figures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from atoll_contract.errors import Reason
from atoll_contract.release import Manifest, TargetResult
from atoll_operator.api.status import CompileStatus, RunStatus

_NAMES = {"edgetpu": "Edge TPU", "rknn": "Rockchip", "qnn": "Qualcomm", "hailo": "Hailo"}
_RESULTS = {
    Reason.PENDING: "not yet",
    Reason.RUNNING: "at work",
    Reason.COMPLETED: "off",
    Reason.COMPILER_UNAVAILABLE: "no compiler",
}
_SOURCES = {"simulator": "by the chip's simulator", "predicted": "predicted from the int8 file"}


def target_name(target: str, chip: str | None = None) -> str:
    """The name of a target for people, with its chip where the run chose one."""
    name = _NAMES.get(target, target)
    return f"{name} {chip}" if chip else name


def target_rows(status: RunStatus) -> list[dict[str, Any]]:
    """A row for each compile target of a run, once one of them has a result; what is not known is left out."""
    if all(entry.reason is Reason.PENDING for entry in status.compile):
        return []
    return [{key: value for key, value in _row(entry).items() if value} for entry in status.compile]


def _row(entry: CompileStatus) -> dict[str, Any]:
    mapped = entry.mapped_percent or (entry.predicted_mapped_percent and f"{entry.predicted_mapped_percent} predicted")
    return {
        "name": target_name(entry.target, entry.chip),
        "result": "compiled" if entry.compiled else _RESULTS.get(entry.reason, str(entry.reason)),
        "ap50": entry.figures and entry.figures.ap50,
        "ap": entry.figures and entry.figures.ap,
        "source": entry.figures and _SOURCES.get(entry.figures.source, entry.figures.source),
        "mapped": mapped,
    }


def release_targets(manifest: Manifest) -> str:
    """What a release was compiled for, with AP50 or the share of operations on the chip."""
    compiled = [item for item in manifest.results if item.compiled]
    return ", ".join(f"{target_name(item.target)} {item.text}" for item in compiled) or "CPU only"


def compared_targets(pair: Sequence[Manifest]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The figures, and the facts, of every target that one of two releases has; each with `name`, `old` and `new`."""
    names = dict.fromkeys(item.target for manifest in pair for item in manifest.results)
    found = {name: [_result(manifest, name) for manifest in pair] for name in names}
    figures = [
        {"name": f"AP50 on {target_name(name)}", **dict(_values([item and item.ap50 for item in results]))}
        for name, results in found.items()
        if any(item and item.ap50 is not None for item in results)
    ]
    facts = [
        {"name": target_name(name), **dict(_values([_fact(item) for item in results]))}
        for name, results in found.items()
    ]
    return figures, facts


def _result(manifest: Manifest, target: str) -> TargetResult | None:
    return next((item for item in manifest.results if item.target == target), None)


def _fact(result: TargetResult | None) -> str:
    if result is None:
        return "not asked for"
    if not result.compiled:
        return "not compiled"
    mapped = "" if result.mapped_percent is None else f", {result.mapped_percent:.0f} % of operations"
    return f"compiled{mapped}"


def _values(pair: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in zip(("old", "new"), pair, strict=True) if value is not None)
