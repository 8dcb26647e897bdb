"""The assessment of a model: one plain sentence that says what it finds, and whether a robot may use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from atoll_contract.errors import bounded
from atoll_stages.export.edgetpu_mapping import MappingReport
from atoll_stages.export.evaluation import Curve, Gate, Measurement
from atoll_stages.export.reliability import Reliability

# Below this AP50 a model, or a class of it, finds almost nothing.
USELESS_AP50 = 0.1
# From these on a model may be used: it finds most objects, and most of its detections are right.
USABLE_RECALL = 0.7
USABLE_PRECISION = 0.6
# With fewer labelled objects the figures are hardly more than chance.
FEW_OBJECTS = 30
MAX_NAMED_CLASSES = 2
MAX_CLASS_NAME = 32


class Level(StrEnum):
    """How good a model is. The value is a class of the report's style sheet."""

    USABLE = "good"
    WEAK = "weak"
    USELESS = "bad"


@dataclass(frozen=True)
class ModelAssessment:
    """`sentence` begins with a verb in lower case, because messages and the report put a subject before it."""

    level: Level
    sentence: str


def assess_model(measurement: Measurement, gates: Sequence[Gate] = ()) -> ModelAssessment:
    """Assesses the int8 model by AP50, and by recall and precision of all classes at the threshold."""
    objects = sum(curve.objects for curve in measurement.curves)
    ap50 = measurement.int8_metrics.ap50
    if not objects:
        text = f"cannot be assessed: the {measurement.split} part has no labelled object; label some of its pictures"
        return ModelAssessment(Level.WEAK, text)
    if ap50 < USELESS_AP50:
        return ModelAssessment(Level.USELESS, f"finds almost nothing (AP50 {ap50:.2f}): do not use it")
    recall, precision = overall_figures(measurement.curves)
    finding = f"finds {share(recall)} objects, {share(precision)} detections are right"
    if objects < FEW_OBJECTS:
        finding += f", measured on {objects} objects only"
    weakness = _weakness(measurement, gates, recall=recall, precision=precision)
    if weakness:
        return ModelAssessment(Level.WEAK, finding + weakness)
    return ModelAssessment(Level.USABLE, f"{finding}: may be used")


def _weakness(measurement: Measurement, gates: Sequence[Gate], *, recall: float, precision: float) -> str:
    """Returns what keeps the model from being used, and what to do; empty where nothing does."""
    unlearned = _unlearned_classes(measurement)
    if unlearned:
        return f", but almost none of {_named(unlearned)}: label more of that"
    if recall < USABLE_RECALL:
        return ": label more pictures or train longer"
    if precision < USABLE_PRECISION:
        return ": label every object in the pictures, and add pictures without objects"
    if not all(gate.passed for gate in gates):
        return ", but fails a quality gate of its run"
    return ""


def overall_figures(curves: Sequence[Curve]) -> tuple[float, float]:
    """Returns recall and precision of all classes together, each at the threshold; 0 where nothing is found."""
    right = sum(curve.right for curve in curves)
    found = sum(curve.found for curve in curves)
    objects = sum(curve.objects for curve in curves)
    return right / objects if objects else 0.0, right / found if found else 0.0


def share(value: float) -> str:
    """Returns a share as people say it: "7 of 10", and never a round "all" or "0 of 10" that is not true."""
    if value >= 1.0 - 1e-9:
        return "all"
    if value >= 0.95:
        return "19 of 20"
    if value < 0.05:
        return "1 of 20 or fewer"
    return f"{math.floor(10 * value + 0.5)} of 10"


def _unlearned_classes(measurement: Measurement) -> list[str]:
    per_class = measurement.int8_metrics.per_class
    return [c.name for c in measurement.curves if c.objects and per_class.get(c.name, 0.0) < USELESS_AP50]


def _named(names: Sequence[str]) -> str:
    shown = " and ".join(f'"{bounded(name, MAX_CLASS_NAME)}"' for name in names[:MAX_NAMED_CLASSES])
    more = len(names) - MAX_NAMED_CLASSES
    return f"{shown} and {more} more classes" if more > 0 else shown


def outcome_message(
    assessment: ModelAssessment,
    failed: Sequence[str],
    measurement: Measurement,
    mapping: MappingReport,
    reliability: Reliability,
) -> str:
    """Returns the message of the stage: it begins with the assessment, and says of a failed gate what it means."""
    int8 = reliability.ap50_text(measurement.int8_metrics.ap50)
    chosen = ", which also chose the step" if reliability.chosen_on else ""
    figures = (
        f"AP50 {int8} int8, {measurement.float_metrics.ap50:.3f} float, on the {measurement.split} part{chosen}; "
        f"Edge TPU {mapping.percent}%"
    )
    gates = f"; nothing is published, as {'; '.join(failed)}" if failed else ""
    return bounded(f"{assessment.sentence}{gates} ({figures})")
