"""Line charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 34
TICKS = 5
# Most colour-blind readers can tell these apart, too (Okabe and Ito).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#6a51a3")


@dataclass(frozen=True)
class Series:
    """One line; `mark` is a point (x, y) to emphasise, such as the best step."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axes:
    """Titles and ranges of a chart."""

    x_title: str
    y_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def around(cls, x_title: str, y_title: str, series: Sequence[Series]) -> Axes:
        """Returns axes that hold all points and, upwards, zero."""
        xs = [v for s in series for v in s.x] or [0.0, 1.0]
        ys = [v for s in series for v in s.y] or [0.0, 1.0]
        return cls(x_title, y_title, (min(xs), max(xs)), (0.0, max(*ys, 1e-9)))

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / ((self.x_range[1] - self.x_range[0]) or 1.0)
        up = (y - self.y_range[0]) / ((self.y_range[1] - self.y_range[0]) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def line_chart(axes: Axes, series: Sequence[Series]) -> Markup:
    """Returns a figure with its legend, as HTML."""
    parts = _grid(axes)
    for index, item in enumerate(series):
        parts += _line(axes, item, _color(index))
    legend = [
        Markup('<span><i style="background:{}"></i>{}</span>').format(_color(i), s.name) for i, s in enumerate(series)
    ]
    return Markup(
        '<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
        '{parts}</svg><div class="legend">{legend}</div></figure>'
    ).format(title=axes.y_title, width=WIDTH, height=HEIGHT, parts=Markup().join(parts), legend=Markup().join(legend))


def _grid(axes: Axes) -> list[Markup]:
    line = Markup('<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{:g}</text>')
    parts = []
    for value in ticks(*axes.y_range):
        x, y = axes.to_pixels(axes.x_range[0], value)
        parts += [line.format(x, y, WIDTH - RIGHT, y), text.format(x - 7, y + 4, "end", value)]
    for value in ticks(*axes.x_range):
        x, y = axes.to_pixels(value, axes.y_range[0])
        parts.append(text.format(x, y + 15, "middle", value))
    title = Markup('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>')
    return [*parts, title.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, axes.x_title)]


def _line(axes: Axes, series: Series, color: str) -> list[Markup]:
    points = " ".join("{:.1f},{:.1f}".format(*axes.to_pixels(x, y)) for x, y in zip(series.x, series.y, strict=True))
    parts = [Markup('<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>').format(color, points)]
    if series.mark is not None:
        x, y = axes.to_pixels(*series.mark)
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}"/>').format(x, y, color))
    return parts


def ticks(low: float, high: float) -> list[float]:
    """Returns round values across a range, about TICKS of them."""
    span = high - low
    if span <= 0.0:
        return [low]
    minimum = span / TICKS
    power = 10.0 ** math.floor(math.log10(minimum))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= minimum)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]
