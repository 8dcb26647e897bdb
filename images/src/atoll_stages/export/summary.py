"""The figures as the contract's documents have them (docs/contract.md §3)."""

from __future__ import annotations

from typing import Any

from atoll_stages.export.mapping import MappingReport
from atoll_stages.export.measurement import Measurement
from atoll_stages.train.evaluate import Metrics

DIGITS = 4
MOST_CLASSES = 40


def figures(metrics: Metrics) -> dict[str, Any]:
    """The figures of one model in the form that all documents have."""
    found: dict[str, Any] = {"ap50": round(metrics.ap50, DIGITS), "ap": round(metrics.ap, DIGITS)}
    if metrics.ap_small is not None:
        found["apSmall"] = round(metrics.ap_small, DIGITS)
    found["perClass"] = {name: round(value, DIGITS) for name, value in metrics.per_class.items()}
    return found


def metrics_document(measurement: Measurement) -> dict[str, Any]:
    """`metrics.json`. `recall` is that of each class at its threshold."""
    return {
        "split": measurement.split,
        "metrics": {"float": figures(measurement.exact), "int8": figures(measurement.quantised)},
        "thresholds": measurement.thresholds,
        "recall": {curve.name: round(curve.best_recall, DIGITS) for curve in measurement.curves},
    }


def outcome_summary(measurement: Measurement, mapping: MappingReport) -> dict[str, Any]:
    """The stage's summary: short enough for the termination message."""
    exact, quantised = figures(measurement.exact), figures(measurement.quantised)
    per_class = dict(list(quantised["perClass"].items())[:MOST_CLASSES])
    return {
        "metrics": {
            "float": {"ap50": exact["ap50"], "ap": exact["ap"]},
            "int8": {"ap50": quantised["ap50"], "ap": quantised["ap"], "perClass": per_class},
        },
        "predictedMappedPercent": mapping.percent,
        "split": measurement.split,
    }
