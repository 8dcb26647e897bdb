"""Line charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

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
