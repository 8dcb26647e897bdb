"""Draws docs/images/architecture.svg from the sources: packages, their folders, and which package imports which.

`python -m support.architecture_drawing` writes it; a test compares the file with what this module draws.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from xml.sax.saxutils import escape

from support.house import ROOT, SOURCE_ROOTS, imported, modules

FILE = ROOT / "docs/images/architecture.svg"
TOP, LEFT, LINE = 20, 20, 17
BOX_WIDTH, COLUMN = 400, 440
GAP = 60
WIDTH = 2 * COLUMN + BOX_WIDTH + 2 * LEFT

# Columns from left to right, and in each the packages from top to bottom with where they run.
COLUMNS = (
    (("atoll_cli", "a person's laptop"), ("atoll_operator", "pods of the cluster")),
    (("atoll_contract", "every process: what two processes must agree on"),),
    (("atoll_stages", "the Jobs' pods, or processes of a laptop"), ("atoll_edge", "the Raspberry Pi")),
)
NOTES = (
    "An arrow: the package imports the other one. No package imports against an arrow.",
    "At run time: atoll_operator creates Jobs that run atoll_stages; the local engine of atoll_cli starts the same "
    "programs as processes.",
    "Both pass a StageInput and read a StageResult. The bucket carries models to atoll_edge, and its reports back.",
)
STYLE = (
    "text{font:13px sans-serif;fill:#1d2733}rect{fill:#f4f7fa;stroke:#7c8fa3}.name{font:bold 16px sans-serif}"
    ".where{font-style:italic}.folder{font-weight:bold}.doc,.files{fill:#45566a}"
    "line{stroke:#2b6cb0;stroke-width:2}path{fill:#2b6cb0}"
)


@dataclass(frozen=True)
class Box:
    """A package's rectangle and its rows of text (class, text)."""

    package: str
    x: int
    y: int
    rows: tuple[tuple[str, str], ...]

    @property
    def height(self) -> int:
        return LINE * len(self.rows) + 16

    def svg(self) -> list[str]:
        parts = [f'<rect x="{self.x}" y="{self.y}" width="{BOX_WIDTH}" height="{self.height}" rx="8"/>']
        for number, (kind, text) in enumerate(self.rows, 1):
            x = self.x + (24 if kind == "doc" else 12)
            parts.append(f'<text class="{kind}" x="{x}" y="{self.y + LINE * number + 2}">{escape(text)}</text>')
        return parts


def draw() -> str:
    """The whole drawing as SVG."""
    boxes = _boxes()
    bottom = max(box.y + box.height for box in boxes.values())
    height = bottom + LINE * (len(NOTES) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for box in boxes.values():
        parts += box.svg()
    parts += [_arrow(boxes[source], boxes[target]) for source, target in sorted(package_imports())]
    parts += [
        f'<text x="{LEFT}" y="{bottom + LINE * (number + 2)}">{escape(note)}</text>'
        for number, note in enumerate(NOTES)
    ]
    return "\n".join([*parts, "</svg>", ""])


def package_imports() -> set[tuple[str, str]]:
    """(importing, imported) packages."""
    return {
        (module.package, other)
        for module in modules()
        for other in {name.split(".")[0] for name in imported(module)} & (set(SOURCE_ROOTS) - {module.package})
    }


def _boxes() -> dict[str, Box]:
    boxes = {}
    tallest = sum(len(_rows(package, where)) for package, where in COLUMNS[0]) * LINE
    for number, column in enumerate(COLUMNS):
        y = TOP if len(column) > 1 else TOP + tallest // 3
        for package, where in column:
            box = boxes[package] = Box(package, LEFT + COLUMN * number, y, _rows(package, where))
            y += box.height + GAP
    return boxes


def _rows(package: str, where: str) -> tuple[tuple[str, str], ...]:
    rows = [("name", package), *(("where", row) for row in _wrapped(where, 54))]
    for folder, purpose in sorted(_folders(package).items()):
        rows += [("folder", f"{folder}/"), *(("doc", row) for row in _wrapped(purpose, 50))]
    return (*rows, *(("files", row) for row in _wrapped(", ".join(_files(package)), 54)))


def _folders(package: str) -> dict[str, str]:
    """Folder → first sentence of its docstring."""
    found = {}
    for module in modules():
        parts = module.name.split(".")
        if module.package == package and module.path.name == "__init__.py" and len(parts) == 2:
            text = " ".join((ast.get_docstring(module.tree) or "").split())
            found[parts[1]] = text.partition(". ")[0].rstrip(".")
    return found


def _files(package: str) -> list[str]:
    """Modules that lie in the package itself."""
    own = (m for m in modules() if m.package == package and m.path.parent.name == package)
    return [m.path.name for m in own if not m.path.name.startswith("__")]


def _wrapped(text: str, width: int) -> list[str]:
    rows: list[str] = []
    for word in text.split():
        if rows and len(rows[-1]) + len(word) < width:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return rows


def _arrow(source: Box, target: Box) -> str:
    if source.x == target.x:
        x = source.x + BOX_WIDTH // 2
        ends = (x, source.y + source.height, x, target.y)
    else:
        left_to_right = source.x < target.x
        near = source.x + BOX_WIDTH if left_to_right else source.x
        far = target.x if left_to_right else target.x + BOX_WIDTH
        start = source.y + source.height // 2
        ends = (near, start, far, min(max(start, target.y + 20), target.y + target.height - 20))
    x1, y1, x2, y2 = ends
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#end)"/>'


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
