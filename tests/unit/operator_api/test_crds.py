"""The CRDs themselves: documented, bounded, and of one mind with the contract."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import pytest
import yaml
from msgspec import structs

from atoll_contract.convert_spec import DatasetFormat, DatasetLimits, SplitBy
from atoll_contract.release import DeviceReport
from atoll_contract.stage import CompilePolicy
from atoll_contract.store_spec import AddressingStyle, ChecksumMode
from atoll_contract.train_spec import SEED_NAMES, Accelerator, Architecture, InitFrom, Preset
from atoll_operator.api.crds import definitions, folder
from atoll_stages.train.config import known_names
from support.sweep_template import checked_alone

Schema = Mapping[str, Any]

# What both Go's RE2 and Python's re read alike.
COMMON_SYNTAX = re.compile(r"[\^$()|?*+,\[\]{}A-Za-z0-9:!/@._=\-\\<>]*")


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}")
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield from fields(schema[keyword], f"{path}{mark}")


ALL = {path: schema for kind, item in definitions().items() for path, schema in fields(item.schema, kind)}
SPEC = {path.removeprefix("TrainingRun.spec."): schema for path, schema in ALL.items() if "Run.spec." in path}


def test_six_kinds() -> None:
    short = {kind: definition.short_names for kind, definition in definitions().items()}
    assert short == {
        "TrainingRun": ("trun",),
        "TrainingSweep": ("tsweep",),
        "ObjectStore": ("ostore",),
        "TrainingProfile": ("tprof",),
        "ModelRelease": ("mrel",),
        "EdgeDevice": ("edev",),
    }
    assert [kind for kind, definition in definitions().items() if not definition.namespaced] == ["TrainingProfile"]
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder().glob("*.yaml")]
    assert all("atoll" in file["spec"]["names"]["categories"] for file in files)


def test_columns_of_a_run() -> None:
    columns = definitions()["TrainingRun"].columns
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Phase",
        "Reason",
        "Progress",
        "AP50",
        "Targets",
        "Release",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority")] == ["Queue", "ETA", "Message"]


def test_columns_show_fields_that_exist() -> None:
    for kind, definition in definitions().items():
        # A filter chooses entries of a list.
        places = [re.sub(r"\[\?\(.*?\)\]", "[]", column["jsonPath"]) for column in definition.columns]
        assert [
            place for place in places if place != ".metadata.creationTimestamp" and f"{kind}{place}" not in ALL
        ] == []


def test_every_field_is_explained() -> None:
    named = {path: schema for path, schema in ALL.items() if not path.endswith(("[]", "{}", ".metadata"))}
    assert [path for path, schema in named.items() if not schema.get("description", "").strip()] == []


def test_everything_is_bounded() -> None:
    unbounded = []
    for path, schema in ALL.items():
        if path.count(".") == 1 and path.endswith((".apiVersion", ".kind")):
            continue
        by_type: dict[str, tuple[str, ...]] = {
            "string": () if "enum" in schema or schema.get("format") == "date-time" else ("maxLength",),
            "array": ("maxItems",),
            "object": ("maxProperties",) if "additionalProperties" in schema else (),
        }
        needed = by_type.get(str(schema.get("type")), ())
        if schema.get("x-kubernetes-int-or-string"):
            needed = ("maxLength",)
        if schema.get("type") == "integer" and ".spec" in path:
            needed = ("minimum", "maximum")
        unbounded += [f"{path} lacks {keyword}" for keyword in needed if keyword not in schema]
    assert unbounded == []


def test_lists_say_how_they_are_merged() -> None:
    lists = {path: schema for path, schema in ALL.items() if schema.get("type") == "array"}
    unsaid = [path for path, schema in lists.items() if "x-kubernetes-list-type" not in schema]
    # Their order counts, so it is part of the run's identity.
    classes = "spec.conversion.classes"
    assert sorted(unsaid) == [f"TrainingRun.{classes}", f"TrainingSweep.spec.template.{classes}"]


def test_patterns_mean_the_same_in_go_and_python() -> None:
    patterns = {schema["pattern"] for schema in ALL.values() if "pattern" in schema}
    assert [pattern for pattern in patterns if not COMMON_SYNTAX.fullmatch(pattern)] == []
    # \d, \w and \b differ between the two beyond ASCII; \s is used in negation alone, \x and \\ are the same.
    assert [pattern for pattern in patterns if re.search(r"\\[^sx]", pattern.replace("\\\\", ""))] == []


def test_the_template_of_a_sweep_is_a_run_without_defaults_and_joint_rules() -> None:
    template, run = ALL["TrainingSweep.spec.template.spec"], checked_alone(ALL["TrainingRun.spec"])
    assert dict(template) | {"description": ""} == run | {"description": ""}
    assert [path for path, schema in ALL.items() if ".template." in path and "default" in schema] == []


@pytest.mark.parametrize(
    ("field", "members"),
    [
        ("datasets[].format", DatasetFormat),
        ("conversion.split.by", SplitBy),
        ("model.architecture", Architecture),
        ("training.initFrom.type", InitFrom),
        ("training.preset", Preset),
        ("training.accelerator", Accelerator),
        ("compile[].policy", CompilePolicy),
    ],
)
def test_enums_are_the_contracts(field: str, members: type[StrEnum]) -> None:
    assert SPEC[field]["enum"] == [str(member) for member in members]


def test_enums_of_the_store_are_the_contracts() -> None:
    assert ALL["ObjectStore.spec.addressingStyle"]["enum"] == [str(member) for member in AddressingStyle]
    assert ALL["ObjectStore.spec.checksumMode"]["enum"] == [str(member) for member in ChecksumMode]


def test_a_devices_status_has_what_the_device_reports() -> None:
    reported = {item.encode_name for item in structs.fields(DeviceReport)}
    identity = {"schemaVersion", "namespace", "model", "device", "channel"}
    mirrored = set(ALL["EdgeDevice.status"]["properties"]) - {"observedGeneration", "lastSeen", "conditions"}
    assert mirrored == reported - identity


def test_limits_are_the_contracts() -> None:
    properties = ALL["TrainingProfile.spec.limits.dataset"]["properties"]
    expected = {item.encode_name: item.default for item in structs.fields(DatasetLimits)}
    assert {name: schema["default"] for name, schema in properties.items()} == expected


def test_hyperparameters_are_those_of_the_train_stage() -> None:
    rules = [rule["rule"] for rule in SPEC["training.hyperparameters"]["x-kubernetes-validations"]]
    names = [set(re.findall(r"'([a-z_-]+)'", rule)) for rule in rules]
    numbers = {name for names, _ in SEED_NAMES.values() for name in names}
    assert names[0] == set(known_names())
    assert names[1] == numbers
    training = ALL["TrainingRun.spec.training"]["properties"]
    assert {name: training[name]["maximum"] for name in SEED_NAMES} == {n: most for n, (_, most) in SEED_NAMES.items()}


def test_hyperparameters_are_named_in_the_message() -> None:
    message = SPEC["training.hyperparameters"]["x-kubernetes-validations"][0]["message"]
    assert [name for name in known_names() if not re.search(rf"(^|[\s,]){name}([\s,;.]|$)", message)] == []
