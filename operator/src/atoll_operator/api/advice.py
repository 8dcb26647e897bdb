"""What to write instead of a value that an object may not have: sentences for the mistakes that people make."""

import re
from collections.abc import Mapping
from typing import Any

from atoll_operator.api.crds import Schema
from atoll_operator.api.yaml import Path

_MAX_DESCRIPTION = 200
_TYPOGRAPHIC_QUOTES = "“”„‟‘’‚‛«»"
_SUM = re.compile(r"((?:self\.\w+ \+ )+self\.\w+) == (\d+)")
_DISK_PATH = re.compile(r"[A-Za-z]:[\\/]|\.{0,2}/|~|[^/]*\\")
_EPOCHS = ("epochs", "epoch", "numEpochs", "num_epochs", "maxEpochs")


def for_type(value: Any, schema: Schema) -> str:
    """For a value whose type is not that of the schema."""
    expected = schema.get("type")
    if expected in ("integer", "number"):
        return _for_number(value, schema)
    if expected == "boolean":
        return "write true or false, without quotes"
    if expected == "array" and isinstance(value, str | int | float):
        return _for_list(value, schema.get("items", {}))
    if expected == "object" and isinstance(value, str):
        return _for_object(value, schema)
    return ""


def _for_number(value: Any, schema: Schema) -> str:
    if isinstance(value, float) and 0 < value < 1 and schema.get("maximum") == 100:
        return f"it is a percentage: write {value * 100:g}"
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9.]+\s*", value):
        return "write it without quotes"
    kind = "a whole number" if schema.get("type") == "integer" else "a number"
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"write {kind}" + (f" from {low} to {high}" if low is not None and high is not None else "")


def _for_list(value: str | int | float, items: Schema) -> str:
    if items.get("type") == "object" and items.get("required"):
        return f'it is a list: write "- {items["required"][0]}: {value}" in a line below'
    return f"it is a list: write [{value}]"


def _for_object(value: str, schema: Schema) -> str:
    properties: Mapping[str, Any] = schema.get("properties", {})
    before, colon, after = value.partition(":")
    if colon and before in properties:
        return f'a blank follows the colon: write "{before}: {after}"'
    chosen = [name for name, item in properties.items() if value in item.get("enum", ())]
    texts = [name for name in schema.get("required", ()) if properties.get(name, {}).get("type") == "string"]
    name = next(iter([*chosen, *texts]), None)
    return f"it has fields of its own: write {{ {name}: {value} }}" if name else ""


def for_minimum(value: Any, schema: Schema) -> str:
    """For a number that is too small."""
    return _for_number(value, schema) if isinstance(value, float) else ""


def for_pattern(path: Path, value: str, schema: Schema) -> str:
    """For a text that does not match: the words of the field's own rule, else its description."""
    if path[-1:] == ("key",) and _DISK_PATH.match(value):
        return for_disk_path()
    rules = [str(rule["message"]) for rule in schema.get("x-kubernetes-validations", ()) if "message" in rule]
    return rules[0] if rules else described(schema)


def for_disk_path() -> str:
    return (
        "a key names an archive in the store and no path on a disk: atoll push (or atoll run --data) puts "
        "the file there, and the key is datasets/<namespace>/<file name>"
    )


def for_rule(rule: str, path: Path, value: Any) -> str:
    """For a value that breaks a CEL rule whose message does not show the value."""
    found = _SUM.fullmatch(rule)
    if found is not None and isinstance(value, dict):
        names = re.findall(r"self\.(\w+)", found[1])
        numbers = [value.get(name) for name in names]
        if all(isinstance(number, int) for number in numbers):
            each = " + ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))
            return f"{each} is {sum(number or 0 for number in numbers)}"
    if path[-1:] == ("key",) and isinstance(value, str) and _DISK_PATH.match(value):
        return for_disk_path()
    return ""


def for_field(name: str) -> str:
    """For a field that other tools have; empty for all others."""
    if name not in _EPOCHS:
        return ""
    return (
        "Atoll counts steps: steps = epochs x pictures / batchSize (atoll new works them out); "
        'or write hyperparameters: {epochs: "50"} below training'
    )


def for_quotes(text: str) -> str:
    """For a text with quotes as word processors write them, which YAML takes as a part of the text."""
    found = "".join(sorted({letter for letter in text if letter in _TYPOGRAPHIC_QUOTES}))
    return f'the quotes {found} are typographic and become a part of the text; write "' if found else ""


def described(schema: Schema) -> str:
    """The description of a field, cut after a whole sentence."""
    text = " ".join(str(schema.get("description", "")).split())
    if len(text) <= _MAX_DESCRIPTION:
        return text
    end = text.rfind(". ", 0, _MAX_DESCRIPTION)
    return text[: end + 1] if end > 0 else f"{text[:_MAX_DESCRIPTION]}…"
