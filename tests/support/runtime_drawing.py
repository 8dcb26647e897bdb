"""Draws docs/images/overview.svg: where each part runs, and what passes between them.

`python -m support.runtime_drawing` writes it; a test compares the file with what this module draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from atoll_contract.stage import Stage
from support.architecture_drawing import STYLE
from support.house import ROOT

FILE = ROOT / "docs/images/overview.svg"
WIDTH, HEIGHT, LINE = 1000, 430, 18
STAGES = " → ".join(stage.value for stage in Stage)


@dataclass(frozen=True)
class Place:
    """A machine or a service, with what is in it."""

    x: int
    y: int
    width: int
    name: str
    rows: tuple[str, ...]

    @property
    def height(self) -> int:
        return LINE * (len(self.rows) + 1) + 18

    def svg(self) -> list[str]:
        box = f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8"/>'
        title = f'<text class="name" x="{self.x + 12}" y="{self.y + 22}">{escape(self.name)}</text>'
        rows = (
            f'<text class="doc" x="{self.x + 12}" y="{self.y + 24 + LINE * number}">{escape(row)}</text>'
            for number, row in enumerate(self.rows, 1)
        )
        return [box, title, *rows]


PLACES = (
    Place(20, 20, 430, "Your laptop", ("atoll new, run, ui: the same stages as processes,", STAGES)),
    Place(550, 20, 430, "Your cluster", ("the operator starts Jobs for a TrainingRun:", STAGES)),
    Place(
        300,
        170,
        400,
        "The bucket, or a folder of the laptop",
        (
            "datasets/: labelled archives",
            "models/, blobs/: releases, signed if you want",
            "devices/, harvest/: what the Pi sends back",
        ),
    ),
    Place(
        20,
        320,
        520,
        "The Raspberry Pi on the robot",
        (
            "atoll-edge fetches a release, checks it, tries it, runs it,",
            "and returns to the last good one by itself; needs no network to run",
        ),
    ),
    Place(680, 320, 300, "Robot code and drivers", ("NetworkTables: boxes, angles", "MJPEG: the picture with boxes")),
)
# From x, y to x, y, with a text beside the middle.
ARROWS = (
    (235, 92, 380, 170, "archives, releases", -165),
    (765, 92, 620, 170, "archives, releases", 40),
    (420, 260, 300, 320, "releases", -90),
    (350, 320, 470, 260, "reports, frames", 50),
    (540, 356, 680, 356, "detections", -38),
)


def draw() -> str:
    """The whole drawing as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill:#fff;stroke:none"/>',
    ]
    for place in PLACES:
        parts += place.svg()
    for x1, y1, x2, y2, text, aside in ARROWS:
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#end)"/>')
        parts.append(f'<text x="{(x1 + x2) // 2 + aside}" y="{(y1 + y2) // 2 - 8}">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
