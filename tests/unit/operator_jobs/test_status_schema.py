"""The status that the engines write, against the schema that the API server prunes it by."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from atoll_contract.document import camel
from atoll_operator.api.status import RunStatus

CRD = Path(__file__).parents[3] / "crds/trainingruns.yaml"


def missing(cls: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Fields of `cls` that the schema does not know: the API server would drop them without a word."""
    if get_origin(cls) in (typing.Union, types.UnionType):
        cls = next(arg for arg in get_args(cls) if arg is not type(None))
    if get_origin(cls) is tuple:
        yield from missing(get_args(cls)[0], schema["items"], f"{where}[]")
    elif dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            name = camel(field.name)
            inner = schema.get("properties", {}).get(name)
            if inner is None:
                yield f"{where}.{name}"
            else:
                yield from missing(hints[field.name], inner, f"{where}.{name}")


def test_the_schema_knows_every_field_of_the_status() -> None:
    definition = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert list(missing(RunStatus, schema, "status")) == []
