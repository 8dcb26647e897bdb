"""The model card of a release: what it finds, how well, and from what it was made, as Markdown for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from atoll_contract.images import Resize
from atoll_contract.release import Manifest
from atoll_contract.text import table_cell

_RESIZES = {
    Resize.SQUASH: "It is given pictures that are stretched to its square input (`resize: squash`).",
    Resize.LETTERBOX: "It is given pictures that keep their aspect ratio, with grey beside them (`resize: letterbox`).",
}


def model_card(manifest: Manifest, statement: Mapping[str, Any]) -> str:
    """The card of `manifest`, by the statement of its provenance."""
    return "\n".join(_lines(manifest, statement)) + "\n"


def _lines(manifest: Manifest, statement: Mapping[str, Any]) -> Iterator[str]:
    size = manifest.input
    yield f"# {_text(manifest.release)}"
    yield ""
    run = manifest.run
    yield f"An object detector for pictures of {size.width} × {size.height} pixels, published {manifest.created_at} by"
    yield f"the TrainingRun {_text(run.name)} in namespace {_text(run.namespace)}, channel {_text(manifest.channel)}."
    yield _RESIZES[manifest.resize]
    yield ""
    yield "## What it finds"
    yield ""
    yield "| class | threshold |"
    yield "|---|---|"
    for label, threshold in zip(manifest.labels, manifest.thresholds, strict=True):
        yield f"| {_text(label)} | {threshold:.2f} |"
    yield ""
    yield "It knows these classes alone, and pictures like those that it was trained on. It is no safety device."
    yield ""
    yield from _figures(statement)
    yield from _origin(statement)
    yield "## Files"
    yield ""
    yield "| file | sha256 | bytes |"
    yield "|---|---|---|"
    for item in manifest.files:
        yield f"| {_text(item.name)} | `{item.sha256}` | {item.size} |"


def _figures(statement: Mapping[str, Any]) -> Iterator[str]:
    (found,) = statement["predicate"]["runDetails"]["byproducts"]
    yield "## How well"
    yield ""
    yield "Measured on pictures that training did not see, with the published file (`int8`) and before its quantization"
    yield "(`float`)."
    yield ""
    yield "| of | figure | value |"
    yield "|---|---|---|"
    for kind, figures in sorted(found["annotations"].items()):
        for name, value in sorted(figures.items()):
            yield f"| {_text(kind)} | {_text(name)} | {_text(str(value))} |"
    yield ""


def _origin(statement: Mapping[str, Any]) -> Iterator[str]:
    definition = statement["predicate"]["buildDefinition"]
    yield "## What it was made from"
    yield ""
    yield "| what | where | sha256 |"
    yield "|---|---|---|"
    for item in definition["resolvedDependencies"]:
        where = item.get("uri") or item.get("annotations", {}).get("type", "")
        digest = item.get("digest", {}).get("sha256", "")
        yield f"| {_text(item['name'])} | {_text(where)} | {f'`{digest}`' if digest else ''} |"
    yield ""
    tools = definition["internalParameters"]["tools"]
    yield "Made with " + ", ".join(f"{_text(name)} {_text(version)}" for name, version in sorted(tools.items())) + "."
    yield ""


def _text(text: str) -> str:
    """A stranger's text in a cell, in which nothing is a control character, Markdown or HTML."""
    clean = table_cell(text)
    for character in "\\`*_[]<>|":
        clean = clean.replace(character, f"\\{character}")
    return clean
