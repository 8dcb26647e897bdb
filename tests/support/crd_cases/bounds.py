"""A refused case for every bound of the schemas (types, enums, limits, patterns, required fields), made from objects
that have every field."""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from atoll_operator.api.crds import definitions
from support.crd_cases.case import Case, Document, changed
from support.crd_cases.profiles import PINNED, PROFILE
from support.crd_cases.releases import DEVICE, RELEASE
from support.crd_cases.runs import DIGEST
from support.crd_cases.stores import STORE
from support.crd_cases.sweeps import SWEEP_OF_RANGES, SWEEP_OF_VALUES

_SAMPLES = Path(__file__).parents[3] / "crds" / "samples"
_STAGES = ("convert", "train", "export", "compile", "publish")
_QUANTITIES = {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}

_PROFILE_SPEC = definitions()["TrainingProfile"].schema["properties"]["spec"]["properties"]
_DATASET_LIMITS = _PROFILE_SPEC["limits"]["properties"]["dataset"]["properties"]

RUN_FULL: Document = yaml.safe_load((_SAMPLES / "trainingrun-full.yaml").read_text(encoding="utf-8"))
RUN_FULL["metadata"]["namespace"] = "default"
RUN_CHECKPOINT: Document = changed(RUN_FULL, {"spec": {"training": {"hyperparameters": {"weight-decay": "0.1"}}}})
RUN_CHECKPOINT["spec"]["training"]["initFrom"] = {
    "type": "checkpoint",
    "checkpoint": {"key": "weights/own.weights.h5", "digest": DIGEST},
}
RUN_CHECKPOINT["spec"]["compile"] = [
    {
        "target": "qnn",
        "policy": "Required",
        "chip": "qcs6490",
        "quality": {"maxAP50Drop": "0.02", "minMappedPercent": "90"},
    }
]
STORE_FULL = changed(
    STORE,
    {
        "spec": {
            "prefix": "atoll/",
            "endpoint": "https://minio:9000",
            "region": "us-east-1",
            "addressingStyle": "path",
            "checksumMode": "auto",
            "publishCredentialsRef": {"name": "w"},
            "signingKeyRef": {"name": "k", "key": "ed25519.pem"},
            "caBundleRef": {"name": "ca", "key": "ca.crt"},
        }
    },
)
PROFILE_FULL = changed(
    PROFILE,
    {
        "spec": {
            "images": dict.fromkeys(("trainGPU", "compile", "compileRKNN", "compileQNN", "compileHailo"), PINNED),
            "allowTags": False,
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "regcred"}],
            "resources": dict.fromkeys(_STAGES, _QUANTITIES),
            "scratch": {"sizeLimit": "1Gi"},
            "gpu": {"resourceName": "nvidia.com/gpu", "runtimeClassName": "nvidia"},
            "priorityClassName": "low",
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [
                {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoExecute", "tolerationSeconds": 60}
            ],
            "env": [{"name": "A", "value": "b"}],
            "serviceAccounts": {"stage": "a", "publish": "b"},
            "propagateLabels": ["team"],
            "limits": {
                "maxSteps": 10,
                "maxWorkers": 10,
                "maxShards": 10,
                "activeDeadlineSeconds": 10,
                "pendingDeadlineSeconds": 10,
                "dataset": dict.fromkeys(_DATASET_LIMITS, 10),
            },
            "estimate": {"secondsPerStep": "0.5", "otherSeconds": 60},
            "maxConcurrentRuns": 2,
        }
    },
)
# A run has either a release or a checkpoint to start from, so there are two, and so has a sweep's template.
FULL: tuple[Document, ...] = (
    *(RUN_FULL, RUN_CHECKPOINT, STORE_FULL, PROFILE_FULL, RELEASE, DEVICE),
    changed(SWEEP_OF_RANGES, {"spec": {"template": {"spec": RUN_FULL["spec"]}}}),
    changed(SWEEP_OF_VALUES, {"spec": {"template": {"spec": RUN_CHECKPOINT["spec"]}}}),
)

_WRONG_TYPES: Mapping[str, Any] = {"string": 7, "integer": "seven", "boolean": "yes", "array": {}, "object": []}


def _cases() -> Iterator[Case]:
    seen: set[str] = set()
    for document in FULL:
        kind = document["kind"]
        spec = definitions()[kind].schema["properties"]["spec"]
        for path, schema, required in _fields(document["spec"], spec, ()):
            for name, value, says in _violations(_at(document["spec"], path), schema, required):
                place = ".".join(str(part) for part in path)
                case = Case(f"{kind}.{place}-{name}", _with(document, path, value), says)
                if case.id not in seen:
                    seen.add(case.id)
                    yield case


def _fields(
    value: Any, schema: Mapping[str, Any], path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    for name, child in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            yield (*path, name), child, name in schema.get("required", ())
            yield from _fields(value[name], child, (*path, name))
    if isinstance(value, list) and value:
        yield (*path, 0), schema["items"], False
        yield from _fields(value[0], schema["items"], (*path, 0))
    extra = schema.get("additionalProperties")
    if extra and isinstance(value, dict) and value:
        name = next(iter(value))
        yield (*path, name), extra, False


_REMOVED = object()


def _violations(value: Any, schema: Mapping[str, Any], required: bool) -> Iterator[tuple[str, Any, str]]:
    """Name, value and what must be said of it, for each keyword of the field."""
    if required:
        yield "required", _REMOVED, "Required value"
    is_open = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    if schema.get("type") == "object" and not is_open:
        yield "unknown", {**value, "nonsense": 1}, "unknown field"
    for keyword, breaking in _BREAKING.items():
        # A bound of 0 on a length or number of items cannot be broken.
        if keyword in schema and not (keyword in ("minLength", "minItems") and schema[keyword] == 0):
            yield keyword, *breaking(value, schema[keyword])


# What breaks a keyword, and the words for it.
_BREAKING: Mapping[str, Callable[[Any, Any], tuple[Any, str]]] = {
    "type": lambda _, kind: (_WRONG_TYPES[kind], f"must be of type {kind}"),
    "enum": lambda value, _: ("nonsense" if isinstance(value, str) else False, "Unsupported value"),
    "minimum": lambda _, least: (least - 1, f"should be greater than or equal to {least}"),
    "maximum": lambda _, most: (most + 1, f"should be less than or equal to {most}"),
    "minLength": lambda _, least: ("", f"should be at least {least} char"),
    "maxLength": lambda _, most: ("1" * (most + 1), "Too long"),
    "pattern": lambda *_: ("\u00e4 \\\n", "should match"),
    "minItems": lambda _, least: ([], f"should have at least {least} items"),
    "maxItems": lambda value, most: ([*value, *value] * most, f"must have at most {most} items"),
    "maxProperties": lambda _, most: ({f"n{n}": "1" for n in range(most + 1)}, f"must have at most {most} items"),
}


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def _with(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    result = copy.deepcopy(document)
    holder = _at(result["spec"], path[:-1])
    if value is _REMOVED:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return result


BOUNDS: tuple[Case, ...] = (
    *(Case(f"{document['kind']}-full-{number}", document) for number, document in enumerate(FULL)),
    *_cases(),
)
