"""The chart's files: generated parts are current, values and their schema agree, every template is accounted for."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from support.charts import CHART, ROOT, comments, generated

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
VALUES = yaml.safe_load(TEXT)
QUICKSTART = yaml.safe_load((CHART / "values-quickstart.yaml").read_text(encoding="utf-8"))
# Free by their nature: Kubernetes' own objects, and maps of names that the user chooses.
FREE = {"podSecurityContext", "securityContext", "affinity"}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As Helm merges values."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        deep = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if deep else value
    return result


def check(values: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(values)


@pytest.mark.parametrize("path", sorted(generated()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_generated_files_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "run `make charts`"


def test_no_other_crd_lies_in_the_chart() -> None:
    assert set((CHART / "files" / "crds").iterdir()) <= set(generated())


def test_values_and_quick_start_pass_the_schema() -> None:
    check(VALUES)
    check(merged(VALUES, QUICKSTART))


BAD: dict[str, dict[str, Any]] = {
    "unknown name at the top": {"replicas": 1},
    "unknown name inside": {"rbac": {"scoped": True}},
    "three replicas": {"replicaCount": 3},
    "scope": {"rbac": {"scope": "global"}},
    "digest that is a tag": {"image": {"digest": "latest"}},
    "pull policy": {"image": {"pullPolicy": "Sometimes"}},
    "environment as a list": {"extraEnv": [{"name": "A", "value": "b"}]},
    "environment name": {"extraEnv": {"A-B": "c"}},
    "a number as environment": {"extraEnv": {"A": 1}},
    "unknown store": {"bundledStore": {"server": "seaweedfs"}},
    "size without a meaning": {"bundledStore": {"persistence": {"size": "much"}}},
    "memory in MB": {"resources": {"limits": {"memory": "256MB"}}},
    "namespace with a capital": {"watch": {"namespaces": ["Team"]}},
    "no convert image": {"images": {"convert": None}},
    "an image of no stage": {"images": {"evaluate": {"repository": "x"}}},
    "profile that is a list": {"profiles": {"default": []}},
    "mirror without a store": {"edgeDevices": [{"namespace": "team"}]},
    "mirror with an endpoint": {"edgeDevices": [{"namespace": "team", "store": "s", "endpoint": "http://x"}]},
    "mirror with an interval of 0": {"mirror": {"intervalSeconds": 0}},
    "weights of a width that there is not": {"imagenetWeights": "0.75"},
    "port 0": {"networkPolicy": {"apiServerPorts": [0]}},
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_values_are_refused(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(merged(VALUES, BAD[name]))


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_no_object_takes_unknown_names() -> None:
    for path, schema in objects(SCHEMA):
        free = path.rpartition("/")[2] in FREE or "/items" in path or path.startswith("/properties/profiles")
        assert "additionalProperties" in schema or free, f"{path} takes any name"


def test_every_value_is_described() -> None:
    described = {name for name, _, _ in comments(TEXT)}
    assert list(undescribed(VALUES, described, "")) == []


def undescribed(values: dict[str, Any], described: set[str], path: str) -> Iterator[str]:
    """Names without a `# --` comment of their own, of what is above them, or of all that is below."""
    for key, value in values.items():
        name = f"{path}{key}"
        if name in described:
            continue
        if isinstance(value, dict) and value:
            yield from undescribed(value, described, f"{name}.")
        else:
            yield name


def test_no_pod_has_a_right_on_secrets_or_to_run_as_others() -> None:
    forbidden = {"secrets", "configmaps", "serviceaccounts", "serviceaccounts/token", "pods/exec", "pods/attach"}
    for path in sorted((CHART / "files").glob("*-rules.yaml")):
        for rule in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert not forbidden & set(rule["resources"]), path.name
            assert not {"*", "escalate", "bind", "impersonate"} & set(rule["verbs"]), path.name
            assert "*" not in rule["resources"] + rule["apiGroups"], path.name
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"], path.name


def test_the_dashboard_is_json_and_its_metrics_exist() -> None:
    from atoll_operator.controller.metrics import OperatorMetrics

    known = {metric.name for metric in OperatorMetrics().registry.collect()}
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    rules = (CHART / "templates" / "prometheusrule.yaml").read_text(encoding="utf-8")
    used = {word for text in (json.dumps(dashboard), rules) for word in _metrics(text)}
    assert used
    for name in used:
        assert name.removesuffix("_total").removesuffix("_bucket") in known, name


def _metrics(text: str) -> set[str]:
    return set(re.findall(r"\batoll_[a-z_]+", text))
