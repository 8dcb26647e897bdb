"""The template of a TrainingSweep in its CRD, made from the CRD of TrainingRun (`make charts` writes it).

It has no defaults: an API server would put them into the sweeps that it has stored, and the template of a sweep that
is at work must not change. Rules stay where they look at a single value: one that relates fields reads defaults, or a
field that a parameter of the sweep sets, and is checked for each run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "crds"
RUNS = FOLDER / "trainingruns.yaml"
SWEEPS = FOLDER / "trainingsweeps.yaml"
_MARK = "                      # From here to the end of template: as in trainingruns.yaml, written by `make charts`.\n"
_END = "                parameters:\n"
_RULES = "x-kubernetes-validations"
_KEY = re.compile(r"( *)([A-Za-z-]+):")
# In trainingruns.yaml the fields of spec are so much less indented.
_DEEPER = " " * 8
_SPEC = " " * 12 + "spec:\n"
_STATUS = " " * 12 + "status:\n"


def with_template() -> str:
    """The text of trainingsweeps.yaml with the template of today."""
    head, _, rest = SWEEPS.read_text(encoding="utf-8").partition(_MARK)
    tail = rest[rest.index(_END) :]
    return f"{head}{_MARK}{''.join(template_lines())}{tail}"


def template_lines() -> list[str]:
    text = RUNS.read_text(encoding="utf-8")
    spec = text[text.index(_SPEC) + len(_SPEC) : text.index(_STATUS)].splitlines(keepends=True)
    kept = [line for line in _without_defaults_and_joint_rules(spec) if line.strip()]
    first = next(index for index, line in enumerate(kept) if line.lstrip().startswith("required:"))
    return [_DEEPER + line for line in kept[first:]]


def checked_alone(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without its defaults and the rules that relate fields. The text that this module writes has to mean
    the same."""
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "default" or (name == _RULES and _has_fields(schema)):
            continue
        if name == "properties":
            value = {field: checked_alone(child) for field, child in value.items()}
        elif name in ("items", "additionalProperties"):
            value = checked_alone(value)
        kept[name] = value
    return kept


def _has_fields(schema: Mapping[str, Any]) -> bool:
    return "properties" in schema or "properties" in schema.get("items", {})


def _without_defaults_and_joint_rules(lines: list[str]) -> Iterator[str]:
    skipped_below: int | None = None
    for index, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if skipped_below is not None and indent > skipped_below:
            continue
        skipped_below = None
        key = _KEY.match(line)
        name = key[2] if key else ""
        if name == "default" or (name == _RULES and _is_joint(lines, index, indent)):
            skipped_below = indent
            continue
        yield line


def _is_joint(lines: list[str], index: int, indent: int) -> bool:
    """Whether the rules at `index` belong to an object with fields, or to a list of such."""
    first = index
    while first > 0 and _indent(lines[first - 1]) >= indent:
        first -= 1
    last = index
    while last < len(lines) and _indent(lines[last]) >= indent:
        last += 1
    keys = {(_indent(line), line.split(":")[0].strip()) for line in lines[first:last]}
    return (indent, "properties") in keys or {(indent, "items"), (indent + 2, "properties")} <= keys


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
