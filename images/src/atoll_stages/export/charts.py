"""Charts of lines and points as inline SVG. Values show while the pointer rests on a point, without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from atoll_stages.export.colors import class_color
from atoll_stages.train.dataset import evenly_spaced

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 34
TICKS = 5
# Of a longer line only so many points are drawn, and so many show their values.
MAX_POINTS, MAX_VALUES = 160, 24


@dataclass(frozen=True)
class Series:
    """One line; `mark` is a point (x, y) to emphasise, such as the best step; without a colour it gets the next one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None
    color: str | None = None


@dataclass(frozen=True)
class Axes:
    """Titles and ranges of a chart. `title` says what is drawn upwards."""

    x_title: str
    title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def around(cls, x_title: str, title: str, series: Sequence[Series]) -> Axes:
        """Returns axes that hold all points and, upwards, zero."""
        xs = [v for s in series for v in s.x] or [0.0, 1.0]
        ys = [v for s in series for v in s.y] or [0.0, 1.0]
        return cls(x_title, title, (min(xs), max(xs)), (0.0, max(*ys, 1e-9)))

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / ((self.x_range[1] - self.x_range[0]) or 1.0)
        up = (y - self.y_range[0]) / ((self.y_range[1] - self.y_range[0]) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def line_chart(axes: Axes, series: Sequence[Series], *, note: str = "") -> Markup:
    """Returns a figure with its legend, as HTML."""
    colors = [item.color or class_color(index) for index, item in enumerate(series)]
    parts = [part for item, color in zip(series, colors, strict=True) for part in _line(axes, item, color)]
    values = [part for item, color in zip(series, colors, strict=True) for part in _values(axes, item, color)]
    legend = [(color, item.name) for item, color in zip(series, colors, strict=True)]
    return figure(axes, [*parts, *values], legend, note=note)


def figure(axes: Axes, parts: Sequence[Markup], legend: Sequence[tuple[str, str]], *, note: str = "") -> Markup:
    """Returns the parts, which lie in the pixels of the axes, with grid, title, and a legend of colours and names."""
    entries = [Markup('<span><i style="background:{}"></i>{}</span>').format(color, name) for color, name in legend]
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{title} over {across}">{parts}</svg>{note}<div class="legend">{legend}</div></figure>'
    ).format(
        title=axes.title,
        across=axes.x_title,
        width=WIDTH,
        height=HEIGHT,
        parts=Markup().join([*_grid(axes), *parts]),
        note=Markup("<p class=soft>{}</p>").format(note) if note else "",
        legend=Markup().join(entries),
    )


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
    chosen = evenly_spaced(list(zip(series.x, series.y, strict=True)), MAX_POINTS) if series.x else []
    points = " ".join("{:.1f},{:.1f}".format(*axes.to_pixels(x, y)) for x, y in chosen)
    parts = [Markup('<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>').format(color, points)]
    if series.mark is not None:
        x, y = axes.to_pixels(*series.mark)
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}"/>').format(x, y, color))
    return parts


def _values(axes: Axes, series: Series, color: str) -> list[Markup]:
    """Returns points that are seen, and tell their values, while the pointer is on them."""
    points = evenly_spaced(list(zip(series.x, series.y, strict=True)), MAX_VALUES) if series.x else []
    if series.mark is not None:
        points.append(series.mark)
    value = Markup('<circle class="value" cx="{:.1f}" cy="{:.1f}" r="6" fill="{}"><title>{}</title></circle>')
    return [
        value.format(*axes.to_pixels(x, y), color, f"{series.name}: {y:.3g} at {axes.x_title} {x:.4g}")
        for x, y in points
    ]


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
