"""TrainingSweeps."""

from typing import Any

from support.crd_cases.case import Case, Document, accepted, changed, refused
from support.crd_cases.runs import RUN

SWEEP_OF_RANGES: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingSweep",
    "metadata": {"name": "ball"},
    "spec": {
        "suspend": False,
        "cancel": False,
        "template": {"spec": {"datasets": [{"key": "a.tar"}], "publish": {"model": "ball"}}},
        "parameters": [{"name": "learningRate", "min": "0.001", "max": "0.1", "scale": "log"}],
        "trials": 12,
        "parallelism": 2,
        "algorithm": "tpe",
        "pruning": "asha",
        "seed": 7,
        "repeats": 3,
    },
}
SWEEP_OF_VALUES: Document = changed(
    SWEEP_OF_RANGES, {"spec": {"parameters": [{"name": "width", "values": ["0.5", "1.0"]}], "algorithm": "grid"}}
)
_CANCELLED = changed(SWEEP_OF_RANGES, {"spec": {"cancel": True}})
_NAME = "metadata.name must be at most 30 characters"
_FIXED = "of a sweep only suspend and cancel may change"


def _sweep(**spec: Any) -> Document:
    return changed(SWEEP_OF_RANGES, {"spec": spec})


def _template(**spec: Any) -> Document:
    return changed(SWEEP_OF_RANGES, {"spec": {"template": {"spec": spec}}})


def _parameter(**parameter: Any) -> Document:
    return _sweep(parameters=[parameter])


def _update(name: str, says: str | None = None, **spec: Any) -> Case:
    document = _sweep(**spec)
    return refused(name, document, says, old=SWEEP_OF_RANGES) if says else accepted(name, document, old=SWEEP_OF_RANGES)


SWEEP_CASES: tuple[Case, ...] = (
    accepted("sweep", SWEEP_OF_RANGES),
    accepted("sweep-grid", SWEEP_OF_VALUES),
    accepted("sweep-name", changed(SWEEP_OF_RANGES, {"metadata": {"name": "b" * 30}})),
    refused("sweep-long-name", changed(SWEEP_OF_RANGES, {"metadata": {"name": "b" * 31}}), _NAME),
    refused("sweep-name-with-a-dot", changed(SWEEP_OF_RANGES, {"metadata": {"name": "a.b"}}), _NAME),
    refused("sweep-grid-of-a-range", _sweep(algorithm="grid"), "algorithm: grid takes each parameter as values"),
    refused(
        "sweep-values-and-range",
        _parameter(name="steps", values=["100"], min="100", max="200"),
        "a parameter has either values, or min and max",
    ),
    refused("sweep-nothing-to-choose", _parameter(name="steps"), "a parameter has either values, or min and max"),
    refused("sweep-half-a-range", _parameter(name="steps", min="1"), "a parameter has either values, or min and max"),
    refused("sweep-range-of-words", _parameter(name="width", min="0.1", max="1"), "this parameter is no free number"),
    refused("sweep-empty-range", _parameter(name="steps", min="200", max="200"), "min must be less than max"),
    refused(
        "sweep-log-from-zero",
        _parameter(name="weight-decay", min="0", max="1", scale="log"),
        "scale: log needs a min above 0, and max",
    ),
    accepted("sweep-linear-from-zero", _parameter(name="weight-decay", min="0", max="1")),
    refused("sweep-same-parameter", _sweep(parameters=[{"name": "width", "values": ["0.5"]}] * 2), "Duplicate value"),
    accepted("sweep-whole-template", _template(**RUN["spec"])),
    # Which of the trials' batches three workers can share, each trial tells.
    accepted("sweep-template-of-workers", _template(training={"workers": 3, "batchSize": 16})),
    accepted("sweep-template-of-one-share", _template(conversion={"split": {"train": 90}})),
    refused(
        "sweep-template-typo", _template(training={"stepz": 900}), 'unknown field "spec.template.spec.training.stepz"'
    ),
    refused("sweep-template-width", _template(model={"width": "0.75"}), "spec.template.spec.model.width"),
    refused("sweep-template-number", _template(training={"steps": "900"}), "spec.template.spec.training.steps"),
    refused("sweep-template-steps", _template(training={"steps": 0}), "spec.template.spec.training.steps"),
    refused(
        "sweep-template-learning-rate",
        _template(training={"learningRate": "20"}),
        "must be above 0 and at most 10; 0.002 is usual",
    ),
    refused(
        "sweep-template-hyperparameter",
        _template(training={"hyperparameters": {"wieght-decay": "0.1"}}),
        "names are train-steps",
    ),
    refused("sweep-template-key", _template(datasets=[{"key": "../a.tar"}]), 'must not hold the path segments "."'),
    _update("sweep-update-suspend", suspend=True),
    _update("sweep-update-cancel", cancel=True),
    refused("sweep-update-cancel-back", SWEEP_OF_RANGES, "spec.cancel cannot be taken back", old=_CANCELLED),
    _update("sweep-update-trials", _FIXED, trials=13),
    _update("sweep-update-repeats", _FIXED, repeats=1),
    _update("sweep-update-pruning-to-its-newer-name", pruning="halving"),
    _update("sweep-update-pruning", _FIXED, pruning="median"),
    refused("sweep-update-pruning-from-its-newer-name", _sweep(pruning="none"), _FIXED, old=_sweep(pruning="halving")),
    _update(
        "sweep-update-parameters",
        "spec.parameters is immutable; copy the sweep under a new name and apply that",
        parameters=[{"name": "learningRate", "min": "0.001", "max": "0.2", "scale": "log"}],
    ),
)
