"""Line charts as inline SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from atoll_stages.export.sample_images import Shown
from atoll_stages.train.dataset import Example

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw


WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 34
TICKS = 5
# Told apart by most colour-blind readers, too (Okabe and Ito).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#6a51a3")


@dataclass(frozen=True)
class Series:
    """One line; `mark` is an (x, y) to point out, such as the best step."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axes:
    """Ranges and titles of a chart."""

    x_title: str
    y_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Data to pixels."""
        across = (x - self.x_range[0]) / ((self.x_range[1] - self.x_range[0]) or 1.0)
        up = (y - self.y_range[0]) / ((self.y_range[1] - self.y_range[0]) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def ticks(low: float, high: float) -> list[float]:
    """Round values across a range, about TICKS of them."""
    span = high - low
    if span <= 0.0:
        return [low]
    raw = span / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def fitting(title_x: str, title_y: str, series: Sequence[Series], *, y_from: float | None = None) -> Axes:
    """Axes that hold all points; `y_from` fixes the lower end."""
    xs = [v for s in series for v in s.x] or [0.0, 1.0]
    ys = [v for s in series for v in s.y] or [0.0, 1.0]
    low = min(ys) if y_from is None else y_from
    return Axes(title_x, title_y, (min(xs), max(xs)), (low, max(*ys, low + 1e-9)))


def _grid(axes: Axes) -> list[str]:
    parts = []
    for value in ticks(*axes.y_range):
        x, y = axes.place(axes.x_range[0], value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(*axes.x_range):
        x, y = axes.place(value, axes.y_range[0])
        parts.append(f'<text x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="title" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(axes.x_title)}</text>'
    )
    return parts


def _line(axes: Axes, series: Series, index: int) -> list[str]:
    points = " ".join("{:.1f},{:.1f}".format(*axes.place(x, y)) for x, y in zip(series.x, series.y, strict=True))
    parts = [f'<polyline fill="none" stroke="{colour(index)}" stroke-width="2" points="{points}"/>']
    if series.mark is not None:
        x, y = axes.place(*series.mark)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour(index)}"/>')
    return parts


def line_chart(axes: Axes, series: Sequence[Series]) -> str:
    """A figure with its legend."""
    parts = _grid(axes)
    for index, item in enumerate(series):
        parts += _line(axes, item, index)
    legend = "".join(
        f'<span><i style="background:{colour(i)}"></i>{escape(s.name)}</span>' for i, s in enumerate(series)
    )
    return (
        f'<figure><figcaption>{escape(axes.y_title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(axes.y_title)}">{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'
    )


LONG_SIDE = 400
JPEG_QUALITY = 82
CORRECT, WRONG, MISSED = (0, 200, 110), (255, 64, 64), (255, 200, 0)
LABEL_SIZE = 11
DASH = 5


def _scaled(encoded: bytes) -> Image:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as source:
        picture = source.convert("RGB")
    ratio = LONG_SIDE / max(picture.size)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _corners(box: np.ndarray, picture: Image) -> tuple[float, float, float, float]:
    ymin, xmin, ymax, xmax = (float(v) for v in box)
    return xmin * picture.width, ymin * picture.height, xmax * picture.width, ymax * picture.height


def _label(draw: ImageDraw, at: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=LABEL_SIZE)
    left, top = max(0.0, at[0]), max(0.0, at[1] - LABEL_SIZE - 4)
    width = draw.textlength(text, font=font)
    draw.rectangle((left, top, left + width + 4, top + LABEL_SIZE + 3), fill=colour)
    draw.text((left + 2, top), text, fill=(0, 0, 0), font=font)


def _dashed(draw: ImageDraw, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    for start in np.arange(x0, x1, 2 * DASH):
        end = min(float(start) + DASH, x1)
        draw.line((float(start), y0, end, y0), fill=colour, width=2)
        draw.line((float(start), y1, end, y1), fill=colour, width=2)
    for start in np.arange(y0, y1, 2 * DASH):
        end = min(float(start) + DASH, y1)
        draw.line((x0, float(start), x0, end), fill=colour, width=2)
        draw.line((x1, float(start), x1, end), fill=colour, width=2)


def drawn(example: Example, shown: Shown, classes: Sequence[str]) -> str:
    """The picture with right, wrong and missed boxes, as a `data:` address of a JPEG."""
    from PIL import ImageDraw

    picture = _scaled(example.encoded)
    draw = ImageDraw.Draw(picture)
    for index in shown.missed:
        _dashed(draw, _corners(example.boxes[index], picture), MISSED)
    found = shown.found
    for box, label, score, right in zip(found.boxes, found.classes, found.scores, shown.right, strict=True):
        corners, colour = _corners(box, picture), CORRECT if right else WRONG
        draw.rectangle(corners, outline=colour, width=2)
        if not right:
            _label(draw, corners[:2], f"{classes[label]} {score:.2f}", colour)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
