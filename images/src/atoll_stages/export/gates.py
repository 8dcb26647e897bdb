"""Quality gates: what the run asks of the exported file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atoll_contract.stage import QualityGates
from atoll_stages.export.mapping import MappingReport
from atoll_stages.train.evaluate import Metrics

# AP is a mean over pictures; a float's last digits must not decide.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Gate:
    """One gate: what it asks, what was measured, and whether that is enough."""

    name: str
    limit: float
    measured: float
    passed: bool

    def words(self) -> str:
        side = "at most" if self.name == "maxAP50Drop" else "at least"
        return f"{self.name}: measured {self.measured:.4g}, must be {side} {self.limit:g}"


def check_gates(gates: QualityGates, *, exact: Metrics, quantised: Metrics, mapping: MappingReport) -> Iterator[Gate]:
    """Every gate that the run sets. `exact` is the float model, `quantised` the exported file."""
    if gates.min_ap50 is not None:
        enough = quantised.ap50 >= gates.min_ap50 - ROUNDING
        yield Gate("minAP50", gates.min_ap50, quantised.ap50, enough)
    if gates.max_ap50_drop is not None:
        drop = exact.ap50 - quantised.ap50
        yield Gate("maxAP50Drop", gates.max_ap50_drop, drop, drop <= gates.max_ap50_drop + ROUNDING)
    if gates.min_mapped_percent is not None:
        enough = mapping.percent >= gates.min_mapped_percent - ROUNDING
        yield Gate("minMappedPercent", gates.min_mapped_percent, mapping.percent, enough)
