"""How good a compiled file is: measured in its chip's simulator, or predicted; and the gates of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll_contract.errors import Reason
from atoll_contract.stage import CompileSpec
from atoll_stages.compile.target import Compilation, CompileTarget, FloatNetwork
from atoll_stages.train.detections import Detections

SIMULATOR = "simulator"
# The figures of the int8 file by LiteRT, whose arithmetic the chip's is taken to equal.
PREDICTED = "predicted"
DIGITS = 4
GATE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Figures:
    """AP50 and AP on the evaluation split; `source` is SIMULATOR or PREDICTED."""

    ap50: float
    ap: float
    source: str

    def document(self) -> dict[str, Any]:
        return {"ap50": round(self.ap50, DIGITS), "ap": round(self.ap, DIGITS), "source": self.source}

    def describe(self) -> str:
        return f"AP50 {self.ap50:.3f} ({self.source})"


def simulated_figures(network: FloatNetwork, detections: Sequence[Detections]) -> Figures:
    """The figures of what the simulator found, by the evaluator that export measures the other models with."""
    # Only targets with a simulator need pycocotools.
    from atoll_stages.train.evaluate import evaluate

    head = network.head
    metrics = evaluate(
        examples=network.examples, detections=detections, classes=head.classes, side=head.side, resize=head.resize
    )
    return Figures(metrics.ap50, metrics.ap, SIMULATOR)


def predicted_figures(metrics: Mapping[str, Any]) -> Figures | None:
    """The int8 file's own figures; None where export left none."""
    int8 = metrics.get("int8", {})
    if "ap50" not in int8 or "ap" not in int8:
        return None
    return Figures(float(int8["ap50"]), float(int8["ap"]), PREDICTED)


def failed_gate(
    spec: CompileSpec,
    target: CompileTarget,
    compilation: Compilation,
    figures: Figures | None,
    metrics: Mapping[str, Any],
) -> tuple[Reason, str] | None:
    """Reason and message of the first gate that the compiled file does not pass; None where it passes all."""
    required, percent = spec.min_mapped_percent, compilation.mapped_percent
    if required is not None and percent is not None and percent < required:
        first = f"; first unmapped: {compilation.unmapped[0]}" if compilation.unmapped else ""
        counts = f"{compilation.mapped}/{compilation.total} operations on {target.processor}"
        return Reason.OPS_NOT_MAPPED, f"{counts} ({percent:g} %), required {required:g} %{first}"
    limit = spec.max_ap50_drop
    if limit is None or not compilation.compiled:
        return None
    reference = metrics.get("float", {}).get("ap50")
    if figures is None or reference is None:
        text = f"quality.maxAP50Drop of {spec.target} cannot be checked: its AP50 was not measured; leave the gate out"
        return Reason.QUALITY_GATE_FAILED, text
    drop = float(reference) - figures.ap50
    if drop <= limit + GATE_TOLERANCE:
        return None
    measured = f"AP50 {figures.ap50:.3f} ({figures.source}), {reference:.3f} float"
    text = f"maxAP50Drop of {spec.target}: measured {round(drop, DIGITS):g}, must be at most {limit:g} ({measured})"
    return Reason.QUALITY_GATE_FAILED, text
