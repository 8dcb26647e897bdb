"""Writes the API reference (docs/api.md) from `crds/`: `python -m atoll_operator.api.reference > docs/api.md`."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from atoll_operator.api import API_VERSION
from atoll_operator.api.crds import Definition, Schema, definitions, folder

# The order in which a user needs them.
ORDER = ("TrainingRun", "TrainingSweep", "ObjectStore", "TrainingProfile", "ModelRelease", "EdgeDevice")

# Files of `crds/samples`, the simplest first.
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "TrainingRun": ("trainingrun-reefscape.yaml", "trainingrun-full.yaml"),
    "TrainingSweep": ("trainingsweep.yaml",),
    "ObjectStore": ("objectstore-minio.yaml", "objectstore-aws.yaml"),
    "TrainingProfile": ("trainingprofile.yaml",),
    "ModelRelease": ("modelrelease.yaml",),
    "EdgeDevice": ("edgedevice.yaml",),
}

# Has the fields of a TrainingRun's spec, which the page lists once.
_TEMPLATE = "template.spec"

# Longer limits protect the API server; a manifest does not reach them.
_LONG = 64

_HEAD = f"""# API reference: `{API_VERSION}`

Written from `crds/` by `make docs`; `kubectl explain <kind> --recursive` shows the same on a cluster. A field
without a default that is not marked *required* may be left out. Decimals are strings, since the Kubernetes API has no
floating-point numbers. "Rules" are checked when an object is applied, and offline by `atoll validate -f FILE`.
"""


def reference() -> str:
    """The whole page, as Markdown."""
    kinds = [definitions()[kind] for kind in ORDER]
    contents = "\n".join(f"- [{item.kind}](#{item.kind.lower()}): {_first_sentence(item.schema)}" for item in kinds)
    return "\n".join([_HEAD, contents, *(line for item in kinds for line in _kind(item))]).rstrip() + "\n"


def _kind(definition: Definition) -> Iterator[str]:
    scope = "namespaced" if definition.namespaced else "cluster-scoped"
    yield f"\n## {definition.kind}\n"
    yield f"`{definition.plural}`, short name `{definition.short_names[0]}`, {scope}.\n"
    yield _text(definition.schema) + "\n"
    for rule in definition.schema.get("x-kubernetes-validations", ()):
        yield f"Rule: {rule['message']}.\n"
    yield from _examples(definition)
    for section in ("spec", "status"):
        yield f"### {definition.kind} {section}\n"
        yield _text(definition.schema["properties"][section]) + "\n"
        yield from _section(definition.schema["properties"][section])
    yield f"### {definition.kind} columns\n"
    yield from _columns(definition)


def _examples(definition: Definition) -> Iterator[str]:
    yield f"### {definition.kind} example\n"
    for name in EXAMPLES[definition.kind]:
        text = (folder() / "samples" / name).read_text(encoding="utf-8").rstrip()
        yield f"`crds/samples/{name}`:\n\n```yaml\n{text}\n```\n"


def _section(schema: Schema) -> Iterator[str]:
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for path, child, required in _fields(schema, ""):
        meaning = " ".join([*(["*Required.*"] if required else []), _text(child), *_constraints(child)])
        yield f"| `{path}` | {_type(child)} | {_default(child)} | {_cell(meaning)} |"
    yield ""
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        yield "Rules:\n"
        yield from (f"- {rule}" for rule in rules)
        yield ""


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, child, name in schema.get("required", ())
        if path == _TEMPLATE:
            continue
        yield from _fields(child, f"{path}.")
        if "items" in child:
            yield from _fields(child["items"], f"{path}[].")


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = str(schema.get("type"))
    if kind == "array":
        return f"list of {_plural(_type(schema['items']))}"
    if "additionalProperties" in schema:
        return f"map of {_plural(_type(schema['additionalProperties']))}"
    return "time" if schema.get("format") == "date-time" else kind


def _plural(name: str) -> str:
    return "quantities" if name == "quantity" else f"{name}s"


def _default(schema: Schema) -> str:
    # The fields of an object have rows of their own.
    return f"`{json.dumps(schema['default'])}`" if "default" in schema and schema.get("type") != "object" else ""


def _constraints(schema: Schema) -> Iterator[str]:
    if "enum" in schema:
        yield f"One of {', '.join(f'`{_plain(item)}`' for item in schema['enum'])}."
    yield from _range(schema)
    if "pattern" in schema:
        yield f"Pattern `{schema['pattern']}`."
    if "maxItems" in schema:
        minimum = schema.get("minItems", 0)
        yield f"{minimum} to {schema['maxItems']} items{_list_kind(schema)}."
    if "maxProperties" in schema:
        yield f"At most {schema['maxProperties']} entries."
    # The rules of a whole section are below its table.
    holders = (schema, schema.get("items", {}))
    for rule in (rule for holder in holders for rule in holder.get("x-kubernetes-validations", ())):
        yield f"Rule: {rule['message']}."


def _range(schema: Schema) -> Iterator[str]:
    if schema.get("maxLength", _LONG) < _LONG and "enum" not in schema and _type(schema) == "string":
        yield f"At most {schema['maxLength']} characters."
    minimum, maximum = schema.get("minimum"), schema.get("maximum")
    if minimum is not None and maximum is not None:
        yield f"{minimum} to {maximum}."
    elif minimum is not None:
        yield f"At least {minimum}."


def _list_kind(schema: Schema) -> str:
    match schema.get("x-kubernetes-list-type"):
        case "map":
            return f", each with another `{'`, `'.join(schema['x-kubernetes-list-map-keys'])}`"
        case "set":
            return ", none twice"
    return ""


def _columns(definition: Definition) -> Iterator[str]:
    yield "| column of `kubectl get` | shows | |"
    yield "|---|---|---|"
    for column in definition.columns:
        wide = "`-o wide`" if column.get("priority") else ""
        yield f"| {column['name'].upper()} | `{column['jsonPath']}` | {wide} |"
    yield ""


def _text(schema: Schema) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _first_sentence(schema: Schema) -> str:
    return _text(schema).split(". ")[0].rstrip(".") + "."


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").strip()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    sys.stdout.write(reference())
