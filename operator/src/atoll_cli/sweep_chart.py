"""The parallel coordinates of a sweep: where each trial's line and each axis of the picture lies."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from atoll_operator.api.sweep import Parameter, Scale
from atoll_operator.sweeps.trials import Trial, TrialState

RESULT = "validation AP50"
_WIDTH, _HEIGHT = 960, 380
_TOP, _BOTTOM, _SIDE = 50, 330, 70
_MAX_TICKS = 6
# Percent, of the worst trial's line, and how much darker the best one's is.
_LIGHTEST, _DARKER = 78, 40


@dataclass(frozen=True)
class TrialLine:
    """The line of a trial through `points` (x, y); `lightness` in percent, the darker the better."""

    name: str
    ap50: float
    points: tuple[tuple[float, float], ...]
    lightness: int
    ended_early: bool


@dataclass(frozen=True)
class ChartAxis:
    """A vertical axis at `x`, with labels and their heights."""

    name: str
    x: float
    ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Chart:
    """A picture of `width` by `height`, whose axes reach from `top` to `bottom`; the best trial's line is the last."""

    lines: tuple[TrialLine, ...]
    axes: tuple[ChartAxis, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def parallel_coordinates(parameters: Sequence[Parameter], trials: Sequence[Trial], *, best: str) -> Chart:
    """The picture of all trials that were measured; `best` is the name of the best one, empty without one."""
    measured = [(trial, trial.ap50) for trial in trials if trial.ap50 is not None]
    scales = [_Scale.of(item, [trial.settings.get(item.name, "") for trial, _ in measured]) for item in parameters]
    low, high = _range([ap50 for _, ap50 in measured])
    scales.append(_Scale(RESULT, {}, low, high))
    positions = [round(_SIDE + number * (_WIDTH - 2 * _SIDE) / (len(scales) - 1), 1) for number in range(len(scales))]
    lines = []
    for trial, ap50 in sorted(measured, key=lambda item: (item[0].name == best, item[1])):
        cells = [*(trial.settings.get(item.name, "") for item in parameters), f"{ap50}"]
        heights = [scale.height(cell) for scale, cell in zip(scales, cells, strict=True)]
        points = tuple((x, y) for x, y in zip(positions, heights, strict=True) if y is not None)
        if len(points) < len(scales):
            continue
        lightness = round(_LIGHTEST - _DARKER * (ap50 - low) / (high - low))
        lines.append(TrialLine(trial.name, ap50, points, lightness, trial.state is not TrialState.COMPLETED))
    axes = [ChartAxis(scale.name, x, tuple(scale.ticks())) for scale, x in zip(scales, positions, strict=True)]
    return Chart(tuple(lines), tuple(axes))


class _Scale:
    """Values of an axis: categories, each at a height of its own, or numbers from `low` to `high`."""

    def __init__(
        self, name: str, categories: Mapping[str, float], low: float, high: float, *, log: bool = False
    ) -> None:
        self.name = name
        self._categories = categories
        self._low, self._high = (math.log10(low), math.log10(high)) if log else (low, high)
        self._log = log

    @classmethod
    def of(cls, parameter: Parameter, seen: Sequence[str]) -> "_Scale":
        if parameter.values is not None:
            step = 1 / max(1, len(parameter.values) - 1)
            shares = {category: number * step for number, category in enumerate(parameter.values)}
            return cls(parameter.name, shares, 0, 1)
        numbers = [value for text in seen if (value := _number(text)) is not None]
        bounds = [*numbers, float(parameter.min or 0.0), float(parameter.max or 1.0)]
        log = parameter.scale is Scale.LOG and min(bounds) > 0
        return cls(parameter.name, {}, min(bounds), max(bounds), log=log)

    def height(self, text: str) -> float | None:
        """Where a value is; None for what is no value of the axis."""
        if self._categories:
            share: float | None = self._categories.get(text)
        else:
            value = _number(text)
            share = None if value is None or (self._log and value <= 0) else self._share(value)
        return None if share is None else _height(share)

    def ticks(self) -> Iterator[tuple[str, float]]:
        if self._categories:
            yield from ((category, _height(share)) for category, share in self._categories.items())
            return
        for number in range(_MAX_TICKS):
            share = number / (_MAX_TICKS - 1)
            value = self._low + share * (self._high - self._low)
            yield f"{10**value if self._log else value:.3g}", _height(share)

    def _share(self, value: float) -> float:
        scaled = math.log10(value) if self._log else value
        return min(1.0, max(0.0, (scaled - self._low) / ((self._high - self._low) or 1.0)))


def _height(share: float) -> float:
    return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest; never the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.05, high + 0.05)
