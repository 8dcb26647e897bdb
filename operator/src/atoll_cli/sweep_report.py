"""The report of a sweep: one HTML file without network, with a parallel-coordinates picture and a table of trials."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from atoll_operator.api.status import Phase
from atoll_operator.api.sweep import Parameter, Scale, SweepStatus, TrainingSweepSpec
from atoll_operator.sweeps.trials import Trial, TrialState

SWEEP_REPORT = "sweep.html"
_WIDTH, _HEIGHT = 960, 380
_TOP, _BOTTOM, _SIDE = 50, 330, 70
_MAX_TICKS = 6
_RESULT = "validation AP50"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66727f; --line: #c8d0d8; --paper: #fff; --best: #d9480f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa6b2; --line: #3a4550; --paper: #14191f; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
tr.best { font-weight: 600; color: var(--best); }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; } svg .tick { fill: var(--soft); }
svg .axis { stroke: var(--soft); } svg path { fill: none; stroke-width: 2; } svg path.best { stroke-width: 4; }
.scroll { overflow-x: auto; }
"""


def sweep_report(name: str, spec: TrainingSweepSpec, status: SweepStatus, trials: Sequence[Trial]) -> str:
    """The page."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>Sweep {escape(name)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>Sweep {escape(name)}</h1>",
            *(f"<p>{escape(line)}</p>" for line in summary_lines(status)),
            '<h2>Settings and results</h2><div class="scroll">',
            _coordinates_svg(spec.parameters, trials, best=status.best.run if status.best else ""),
            "</div><p>A line is a trial, from its settings on the left to its result on the right; the darker, the "
            "better. Dashed trials were ended early, with the AP50 that they had then.</p>",
            '<h2>Trials</h2><div class="scroll">',
            _table(spec.parameters, status, trials),
            "</div></body></html>",
        ]
    )


def summary_lines(status: SweepStatus) -> Iterator[str]:
    """The sweep as a whole, in sentences."""
    yield f"{status.phase}: {status.message}" if status.message else str(status.phase)
    if status.trials is not None:
        item = status.trials
        yield (
            f"{item.display} trials ended: {item.completed} trained to the end, {item.pruned} ended early, "
            f"{item.failed} failed."
        )
    if status.steps is not None and status.steps.full:
        share = 100 * status.steps.done / status.steps.full
        yield f"{status.steps.done} training steps, {share:.0f}% of the {status.steps.full} without pruning."
    if status.best is not None:
        settings = ", ".join(f"{key} {value}" for key, value in status.best.parameters.items())
        yield f"Best: {status.best.run} with {_RESULT} {status.best.ap50} ({settings})."
    if status.confidence is not None:
        found = status.confidence
        yield (
            f"Its settings with {found.runs} seeds: {_RESULT} {found.mean} on average, "
            f"from {found.low} to {found.high}. "
            "A difference between trials that is smaller than this range may be chance."
        )


def trial_rows(trials: Sequence[Trial], parameters: Sequence[Parameter]) -> Iterator[tuple[str, ...]]:
    """Name, state, settings, AP50 on the validation split, AP50 of the exported model, and steps of each trial."""
    for trial in trials:
        metrics = trial.status.metrics
        exported = metrics.int8.ap50 if metrics is not None else ""
        yield (
            trial.name,
            _described_state(trial),
            *(trial.settings.get(item.name, "") for item in parameters),
            "" if trial.ap50 is None else f"{trial.ap50:.3f}",
            f"{float(exported):.3f}" if exported else "",
            f"{trial.steps}/{trial.total_steps}",
        )


def columns(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """The names of the columns of `trial_rows`."""
    return ("run", "state", *(item.name for item in parameters), _RESULT, "int8 AP50", "steps")


def _described_state(trial: Trial) -> str:
    if trial.status.phase is Phase.SUCCEEDED:
        return "Published"
    return f"Failed: {trial.status.reason}" if trial.state is TrialState.FAILED else str(trial.state)


def _table(parameters: Sequence[Parameter], status: SweepStatus, trials: Sequence[Trial]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns(parameters))
    best = status.best.run if status.best else ""
    rows = []
    for row in trial_rows(trials, parameters):
        mark = ' class="best"' if row[0] == best else ""
        rows.append(f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _coordinates_svg(parameters: Sequence[Parameter], trials: Sequence[Trial], *, best: str) -> str:
    """The parallel coordinates as SVG."""
    measured = [trial for trial in trials if trial.ap50 is not None]
    axes = [_Axis.of(item, [trial.settings.get(item.name, "") for trial in measured]) for item in parameters]
    values = [trial.ap50 or 0.0 for trial in measured]
    axes.append(_Axis(_RESULT, {}, *_range(values)))
    positions = [_SIDE + number * (_WIDTH - 2 * _SIDE) / (len(axes) - 1) for number in range(len(axes))]
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Settings and result of each trial">']
    low, high = _range(values)
    for trial in sorted(measured, key=lambda item: (item.name == best, item.ap50)):
        cells = [*(trial.settings.get(item.name, "") for item in parameters), f"{trial.ap50}"]
        heights = [axis.height(cell) for axis, cell in zip(axes, cells, strict=True)]
        if None in heights:
            continue
        points = " L".join(f"{x:.1f} {y:.1f}" for x, y in zip(positions, heights, strict=True))
        shade = ((trial.ap50 or 0.0) - low) / (high - low)
        mark = (
            'class="best" stroke="var(--best)"'
            if trial.name == best
            else f'stroke="hsl(212 70% {78 - 40 * shade:.0f}%)"'
        )
        dashes = ' stroke-dasharray="5 5"' if trial.state is not TrialState.COMPLETED else ""
        parts.append(f'<path d="M{points}" {mark}{dashes}><title>{escape(trial.name)}: {trial.ap50:.3f}</title></path>')
    for axis, x in zip(axes, positions, strict=True):
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP - 20}" text-anchor="middle">{escape(axis.name)}</text>')
        for label, y in axis.ticks():
            parts.append(f'<text class="tick" x="{x + 6:.1f}" y="{y + 4:.1f}">{escape(label)}</text>')
    return "".join([*parts, "</svg>"])


class _Axis:
    """A vertical axis: of categories, each at a height of its own, or of numbers from `low` to `high`."""

    def __init__(
        self, name: str, categories: Mapping[str, float], low: float, high: float, *, log: bool = False
    ) -> None:
        self.name = name
        self._categories = categories
        self._low, self._high = (math.log10(low), math.log10(high)) if log else (low, high)
        self._log = log

    @classmethod
    def of(cls, parameter: Parameter, seen: Sequence[str]) -> "_Axis":
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
        return None if share is None else _BOTTOM - share * (_BOTTOM - _TOP)

    def ticks(self) -> Iterator[tuple[str, float]]:
        if self._categories:
            yield from ((category, _BOTTOM - share * (_BOTTOM - _TOP)) for category, share in self._categories.items())
            return
        for number in range(_MAX_TICKS):
            share = number / (_MAX_TICKS - 1)
            value = self._low + share * (self._high - self._low)
            yield f"{10**value if self._log else value:.3g}", _BOTTOM - share * (_BOTTOM - _TOP)

    def _share(self, value: float) -> float:
        scaled = math.log10(value) if self._log else value
        return min(1.0, max(0.0, (scaled - self._low) / ((self._high - self._low) or 1.0)))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest; never the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def sweep_result(name: str, status: SweepStatus, trials: Sequence[Trial], files: Mapping[str, Any]) -> dict[str, Any]:
    """The document of `-o json`."""
    best = status.best
    document = {
        "sweep": name,
        "phase": str(status.phase),
        "reason": str(status.reason),
        "message": status.message,
        "release": status.release,
        "steps": {"done": status.steps.done, "full": status.steps.full} if status.steps else None,
        "best": {"run": best.run, "ap50": float(best.ap50), "parameters": dict(best.parameters)} if best else None,
        "trials": [
            {
                "run": trial.name,
                "state": str(trial.state),
                "parameters": dict(trial.settings),
                "ap50": trial.ap50,
                "steps": trial.steps,
            }
            for trial in trials
        ],
        **{key: str(path) for key, path in files.items()},
    }
    return {key: value for key, value in document.items() if value is not None}
