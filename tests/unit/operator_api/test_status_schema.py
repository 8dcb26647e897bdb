"""The status that the operator writes and the status that the CRD admits are the same."""

import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args, get_origin

import msgspec

from atoll_contract.document import Document
from atoll_operator.api.crds import definitions
from atoll_operator.api.status import Phase, RunStatus, StagePhase

STATUS = definitions()["TrainingRun"].schema["properties"]["status"]
JSON_TYPES = {int: "integer", str: "string", bool: "boolean"}


def test_every_field_of_the_status_is_in_the_crd_and_the_other_way_round() -> None:
    assert dict(_differences(RunStatus, STATUS, "status")) == {}


def test_phases_are_the_operators() -> None:
    assert STATUS["properties"]["phase"]["enum"] == [str(phase) for phase in Phase]
    stages = STATUS["properties"]["stages"]["items"]["properties"]
    assert stages["phase"]["enum"] == [str(phase) for phase in StagePhase]


def _differences(expected: Any, schema: Mapping[str, Any], path: str) -> typing.Iterator[tuple[str, str]]:
    origin = get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        expected = next(arg for arg in get_args(expected) if arg is not type(None))
        origin = get_origin(expected)
    if origin is tuple:
        yield from _differences(get_args(expected)[0], schema["items"], f"{path}[]")
    elif issubclass(expected, Document):
        fields = {item.encode_name: item.type for item in msgspec.structs.fields(expected)}
        properties = schema.get("properties", {})
        for name in fields.keys() ^ properties.keys():
            yield f"{path}.{name}", "is in the CRD alone" if name in properties else "is in the operator alone"
        for name in fields.keys() & properties.keys():
            yield from _differences(fields[name], properties[name], f"{path}.{name}")
    else:
        kind = str if issubclass(expected, StrEnum) else expected
        if schema.get("type") != JSON_TYPES[kind]:
            yield path, f"is {expected} in the operator and {schema.get('type')} in the CRD"
