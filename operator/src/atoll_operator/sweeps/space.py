"""The settings that a sweep tries: the values of its parameters, and the run that has them."""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atoll_contract.document import to_json
from atoll_operator.api import API_VERSION
from atoll_operator.api.sweep import Parameter, TrainingSweepSpec
from atoll_operator.api.types import Body

SWEEP_LABEL = "atoll.dev/sweep"
TRIAL_LABEL = "atoll.dev/trial"
REPEAT_LABEL = "atoll.dev/repeat"
PARAMETERS_ANNOTATION = "atoll.dev/parameters"
# The steps of a training that chose them by itself: its progress tells them only while it is at work.
TOTAL_STEPS_ANNOTATION = "atoll.dev/total-steps"

# By the parameter's name: text, as the API has a decimal.
Settings = Mapping[str, str]

# Of a run's spec: what the sweep itself sets.
_OWN = frozenset({"suspend", "cancel", "holdPublish"})
_TRAINING = frozenset({"steps", "batchSize", "learningRate", "preset", "seed"})
_MODEL = frozenset({"architecture", "width"})
_WHOLE = frozenset({"steps", "batchSize", "seed", "frozen-blocks"})
# Numbers in the API's fields; all others are texts there.
_NUMBERS = frozenset({"steps", "batchSize", "seed"})
_SIGNIFICANT_DIGITS = 3


def is_whole(parameter: Parameter) -> bool:
    """Whether only whole numbers are values of it."""
    return parameter.name in _WHOLE


def text_of(parameter: Parameter, value: float) -> str:
    """A number of the parameter's range as the API writes it, with few digits and still in the range."""
    assert parameter.min is not None
    assert parameter.max is not None
    if is_whole(parameter):
        return str(round(value))
    short = min(max(float(f"{value:.{_SIGNIFICANT_DIGITS}g}"), parameter.min), parameter.max)
    text = f"{short:.10f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def grid(spec: TrainingSweepSpec) -> list[Settings]:
    """Every combination of the parameters' values, in an order that the seed alone decides."""
    names = [item.name for item in spec.parameters]
    values = [item.values or () for item in spec.parameters]
    found: list[Settings] = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]
    random.Random(spec.seed).shuffle(found)
    return found


def size(parameters: Sequence[Parameter]) -> float:
    """How many different settings there are."""
    return math.prod(len(item.values) if item.values else math.inf for item in parameters)


def trial_name(sweep: str, number: int, repeat: int = 0) -> str:
    """The name of the run of a trial; of the runs that repeat it with other seeds, the first is `repeat` 1."""
    return f"{sweep}-t{number:02d}" + (f"-s{repeat}" if repeat else "")


def trial_run(
    sweep: Body, spec: TrainingSweepSpec, settings: Settings, *, number: int, repeat: int = 0
) -> dict[str, Any]:
    """The TrainingRun of a trial, which the sweep owns."""
    metadata = sweep["metadata"]
    body: dict[str, Any] = json.loads(json.dumps(spec.template.spec))
    for name, text in settings.items():
        _set(body, name, text)
    if repeat:
        training = body.setdefault("training", {})
        training["seed"] = (int(training.get("seed", 0)) + repeat) % 2**31
    labels = {SWEEP_LABEL: metadata["name"], TRIAL_LABEL: str(number), REPEAT_LABEL: str(repeat)}
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {
            "name": trial_name(metadata["name"], number, repeat),
            "namespace": metadata["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {PARAMETERS_ANNOTATION: json.dumps(dict(settings), sort_keys=True)},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "TrainingSweep",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {name: value for name, value in body.items() if name not in _OWN} | {"holdPublish": True},
    }


def settings_of(run: Body) -> Settings:
    """The settings of a trial's run. Raises KeyError, ValueError, TypeError or AttributeError where they were changed
    by hand."""
    return {str(k): str(v) for k, v in json.loads(run["metadata"]["annotations"][PARAMETERS_ANNOTATION]).items()}


def corner_settings(spec: TrainingSweepSpec) -> Iterator[Settings]:
    """Settings that together have every value and both ends of every range, for a check before anything is trained."""
    first = {item.name: _ends(item)[0] for item in spec.parameters}
    for item in spec.parameters:
        for text in _ends(item):
            yield {**first, item.name: text}


def template_digest(spec: TrainingSweepSpec) -> str:
    """`sha256:<hex>` of the template."""
    return "sha256:" + hashlib.sha256(to_json(spec.template.spec)).hexdigest()


def _ends(parameter: Parameter) -> tuple[str, ...]:
    if parameter.values is not None:
        return parameter.values
    assert parameter.min is not None
    assert parameter.max is not None
    return text_of(parameter, parameter.min), text_of(parameter, parameter.max)


def _set(body: dict[str, Any], name: str, text: str) -> None:
    value = int(text) if name in _NUMBERS and text.isdecimal() else text
    if name in _MODEL:
        body.setdefault("model", {})[name] = value
    elif name in _TRAINING:
        body.setdefault("training", {})[name] = value
    else:
        body.setdefault("training", {}).setdefault("hyperparameters", {})[name] = value
