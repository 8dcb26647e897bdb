"""The report of a sweep: one HTML file without network, made from `templates/sweep.html.j2`, and its text tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from atoll_cli.sweep_chart import RESULT, parallel_coordinates
from atoll_operator.api.status import Phase
from atoll_operator.api.sweep import Parameter, SweepStatus, TrainingSweepSpec
from atoll_operator.sweeps.trials import Trial, TrialState

SWEEP_REPORT = "sweep.html"


def sweep_report(name: str, spec: TrainingSweepSpec, status: SweepStatus, trials: Sequence[Trial]) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("atoll_cli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    best = status.best.run if status.best else ""
    return environment.get_template("sweep.html.j2").render(
        name=name,
        summary=list(summary_lines(status)),
        best=best,
        chart=parallel_coordinates(spec.parameters, trials, best=best),
        columns=columns(spec.parameters),
        rows=list(trial_rows(trials, spec.parameters)),
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
        yield f"Best: {status.best.run} with {RESULT} {status.best.ap50} ({settings})."
    if status.confidence is not None:
        found = status.confidence
        yield (
            f"Its settings with {found.runs} seeds: {RESULT} {found.mean} on average, "
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
    return ("run", "state", *(item.name for item in parameters), RESULT, "int8 AP50", "steps")


def _described_state(trial: Trial) -> str:
    if trial.status.phase is Phase.SUCCEEDED:
        return "Published"
    return f"Failed: {trial.status.reason}" if trial.state is TrialState.FAILED else str(trial.state)


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
