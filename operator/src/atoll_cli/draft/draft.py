"""Drafts a run: its name, its settings, its time estimate and the text of its run.yaml."""

import re
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from atoll_cli.draft.estimate import ThroughputEstimate, estimate_from_benchmark, estimate_from_runs
from atoll_cli.draft.input_size import choose_input
from atoll_cli.draft.render import render
from atoll_cli.draft.settings import MIN_STEPS, Settings, limit_steps, select_settings
from atoll_cli.draft.targets import RunTarget
from atoll_cli.tool import time_training
from atoll_contract.errors import SpecError
from atoll_contract.text import duration
from atoll_contract.tool_reports import LintReport, Timing
from atoll_contract.train_spec import Architecture
from atoll_operator.api.manifests import read_text

MAX_NAME = 40
FALLBACK_NAME = "detector"
NO_ESTIMATE_YET = "no run with these settings has ended there yet; the first one will tell"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

# Takes the settings for a CPU and those for a GPU; times training with those that fit this machine.
Benchmark = Callable[[Settings, Settings], Timing]


@dataclass(frozen=True)
class DraftOptions:
    """The user's choices. `within`: seconds that the whole run may take; `max_invalid_percent`: bad labels allowed."""

    name: str | None = None
    within: float | None = None
    max_invalid_percent: float | None = None


@dataclass(frozen=True)
class Draft:
    """A valid run.yaml. `seconds` is the estimate, and `per_step` its part for each step; `basis` says where it comes
    from, or why there is none."""

    text: str
    run: str
    model: str
    settings: Settings
    seconds: int | None
    basis: str
    per_step: float | None = None
    # Why the detector has a larger input than the usual one, and what that costs.
    input_reason: str = ""


def draft_run(
    lint: LintReport,
    keys: Sequence[str],
    target: RunTarget,
    *,
    options: DraftOptions | None = None,
    benchmark: Benchmark | None = None,
) -> Draft:
    """Draft a run for the archives under `keys`, which `lint` describes as one data set. Without a benchmark only
    earlier runs give an estimate.

    Raises:
        SpecError: the time limit is too short or cannot be checked, or a name or key is not valid.
    """
    options = options or DraftOptions()
    model = target.model or options.name or model_name(keys)
    run = free_name(options.name or model, target.taken)
    choice = choose_input(lint)
    settings, estimate, basis = _settings(lint, target, benchmark, choice.architecture)
    # A release that is continued has its own input.
    reason = choice.reason if settings.architecture is choice.architecture else ""
    if options.within is not None:
        settings = _fit_time(settings, estimate, options.within, basis)
    settings = replace(settings, max_invalid_percent=options.max_invalid_percent)
    seconds = round(estimate.seconds(settings.steps)) if estimate else None
    time = "no estimate" if seconds is None else f"about {duration(seconds)} on {target.description}"
    notes = [
        f"Time: {time}: {basis}",
        *([f"Input: {settings.architecture.side} pixels, as {reason}"] if reason else []),
    ]
    text = render(lint, keys, target, run=run, model=model, settings=settings, notes=notes)
    problems = [str(problem) for manifest in read_text(text, source="run.yaml") for problem in manifest.problems]
    if problems:
        raise SpecError("; ".join(problems))
    return Draft(text, run, model, settings, seconds, basis, estimate.per_step if estimate else None, reason)


def model_name(archives: Sequence[str]) -> str:
    """A name for the model from the file name (or key) of its first archive: of a-z, 0-9 and "-", at most 40.

    Additions of the labelling tool (`project 12.tar`, `Reefscape_2025`) stay, in lower case.
    """
    stem = PurePosixPath(archives[0].rstrip("/")).name if archives else ""
    suffix = next((item for item in _SUFFIXES if stem.lower().endswith(item)), "")
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower().removesuffix(suffix)).strip("-")
    return plain[:MAX_NAME].rstrip("-") or FALLBACK_NAME


def require_name(name: str) -> None:
    """Raises SpecError if no run and model can be called so."""
    if not (_NAME.fullmatch(name) and len(name) <= MAX_NAME):
        raise SpecError(
            f'--name {name!r}: a name has a-z, 0-9 and "-", a letter or digit at both ends, and at most {MAX_NAME} '
            f"characters; for example {model_name([name])}"
        )


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that no run has: the spec of a run cannot be replaced."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        suffix = f"-{number}"
        name = wanted[: MAX_NAME - len(suffix)].rstrip("-") + suffix
    return name


def benchmark_for(lint: LintReport, *, stop: threading.Event | None = None) -> Benchmark:
    """A benchmark of this machine on data like that of `lint`. Setting `stop` ends it early, with a SpecError."""

    def run(on_cpu: Settings, on_gpu: Settings) -> Timing:
        cpu, gpu = on_cpu.benchmark_option, on_gpu.benchmark_option
        start, steps = on_cpu.initial_weights.type, on_cpu.steps
        return time_training(lint, on_cpu.architecture, on_cpu=cpu, on_gpu=gpu, start=start, steps=steps, stop=stop)

    return run


def _settings(
    lint: LintReport, target: RunTarget, benchmark: Benchmark | None, architecture: Architecture
) -> tuple[Settings, ThroughputEstimate | None, str]:
    """The settings for the device that will train, its throughput, and what that is based on."""
    images = (lint.split or {}).get("train", 0)
    on_cpu, on_gpu = (
        select_settings(images, target.initial_weights, gpu=gpu, max_steps=target.max_steps, architecture=architecture)
        for gpu in (False, True)
    )
    # Whether this machine has a GPU shows only in the width of its earlier runs.
    candidates = [on_cpu, on_gpu] if target.gpu is None else [on_gpu if target.gpu else on_cpu]
    for settings in candidates:
        estimate = estimate_from_runs(target, settings)
        if estimate is not None:
            return settings, estimate, estimate.basis
    if benchmark is None or target.cluster:
        return candidates[0], None, NO_ESTIMATE_YET
    try:
        timing = benchmark(on_cpu, on_gpu)
    except SpecError as error:
        return candidates[0], None, error.message
    estimate = estimate_from_benchmark(timing)
    return (on_gpu if timing.accelerator == "gpu" else on_cpu), estimate, estimate.basis


def _fit_time(settings: Settings, estimate: ThroughputEstimate | None, within: float, basis: str) -> Settings:
    if estimate is None:
        raise SpecError(f"how many steps fit into {duration(within)} cannot be said: {basis}")
    steps = estimate.steps(within)
    if steps < MIN_STEPS:
        needed = duration(estimate.seconds(MIN_STEPS))
        raise SpecError(f"{duration(within)} are too short for a training: {MIN_STEPS} steps take about {needed}")
    return limit_steps(settings, steps)
