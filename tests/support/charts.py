"""The generated parts of the charts: `python -m support.charts` (`make charts`) writes them, a test compares.

`files/crds/` is a copy of `crds/`, where the template of sweeps is generated, too; both charts have the version of the
packages; the README's table of values is made of the `# --` comments in values.yaml, in the syntax of helm-docs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from atoll_contract import __version__
from support.sweep_template import SWEEPS, with_template

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "atoll"
CHARTS = (CHART, ROOT / "charts" / "atoll-edge")
MARK = "<!-- values -->"
_ENTRY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][\w-]*):(?P<rest>.*)$")


def generated() -> dict[Path, str]:
    """Path → text of every generated file."""
    texts = {path: path.read_text(encoding="utf-8") for path in crds()} | {SWEEPS: with_template()}
    files = {CHART / "files" / "crds" / path.name: text for path, text in texts.items()} | {SWEEPS: texts[SWEEPS]}
    readme = CHART / "README.md"
    head = readme.read_text(encoding="utf-8").partition(MARK)[0]
    files[readme] = head + MARK + "\n\n" + values_table(CHART / "values.yaml")
    return files | {chart / "Chart.yaml": versioned(chart / "Chart.yaml") for chart in CHARTS}


def versioned(path: Path) -> str:
    """The text of a Chart.yaml with the version of the packages."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^(version|appVersion): .*$", rf"\1: {__version__}", text, flags=re.MULTILINE)


def crds() -> list[Path]:
    return sorted((ROOT / "crds").glob("*.yaml"))


def values_table(path: Path) -> str:
    """The commented values as a Markdown table."""
    text = path.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows = ["| value | default | what |", "|---|---|---|"]
    for name, description, given in comments(text):
        default = given or f"`{json.dumps(lookup(values, name), ensure_ascii=False)}`"
        rows.append(f"| `{name}` | {default} | {description} |")
    return "\n".join(rows) + "\n"


def comments(text: str) -> Iterator[tuple[str, str, str]]:
    """Dotted name, description and `@default` of each value with a `# --` comment, in the file's order."""
    path: list[tuple[int, str]] = []
    description: list[str] = []
    default = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            description, default = [stripped.removeprefix("# --").strip()], ""
        elif description and stripped.startswith("# @default --"):
            default = stripped.removeprefix("# @default --").strip()
        elif description and stripped.startswith("#"):
            description.append(stripped.removeprefix("#").strip())
        elif found := _ENTRY.match(line):
            indent = len(found["indent"])
            path = [(depth, key) for depth, key in path if depth < indent] + [(indent, found["key"])]
            if description:
                yield ".".join(key for _, key in path), " ".join(description), default
            description, default = [], ""


def lookup(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def main() -> int:
    current = generated()
    for path in (CHART / "files" / "crds").glob("*.yaml"):
        if path not in current:
            path.unlink()
    for path, text in current.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(current)} files of {CHART.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
