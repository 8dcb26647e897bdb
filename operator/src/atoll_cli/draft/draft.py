"""Names that a run and its model get from their archive."""

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from atoll_cli.draft.estimate import Pace, known_pace, of_timing
from atoll_cli.draft.render import written
from atoll_cli.draft.settings import LEAST_STEPS, Settings, choose, shortened
from atoll_cli.draft.targets import Place
from atoll_contract.errors import SpecError
from atoll_contract.tool_reports import LintReport, Timing
from atoll_operator.api.manifests import read_text
from atoll_operator.lifecycle.progress import duration

MAX_NAME = 40
FALLBACK = "detector"
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def model_name(archives: Sequence[str]) -> str:
    """A name for the model, from the file names (or keys) of its archives: of a-z, 0-9 and "-", at most 40.

    What the labelling tool adds (`project 12.tar`, `Reefscape_2025`) stays, in small letters.
    """
    stem = PurePosixPath(archives[0].rstrip("/")).name if archives else ""
    suffix = next((item for item in _SUFFIXES if stem.lower().endswith(item)), "")
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower().removesuffix(suffix)).strip("-")
    return plain[:MAX_NAME].rstrip("-") or FALLBACK


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that no run has: a run cannot be changed, only followed."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        ending = f"-{number}"
        name = wanted[: MAX_NAME - len(ending)].rstrip("-") + ending
    return name


# Given the settings for a CPU and those for a GPU, times this machine with the one that it would train with.
Stopwatch = Callable[[Settings, Settings], Timing]

NO_PACE_YET = "no run with these settings has ended there yet; the first one will tell"


@dataclass(frozen=True)
class Wish:
    """What the user asked for beside the archive. `within`: seconds that the whole run may take."""

    name: str | None = None
    within: float | None = None


@dataclass(frozen=True)
class Draft:
    """A run.yaml, checked. `seconds` is the estimate, and `basis` where it comes from or why there is none."""

    text: str
    run: str
    model: str
    settings: Settings
    seconds: int | None
    basis: str


def drafted(
    look: LintReport, keys: Sequence[str], place: Place, *, wish: Wish | None = None, stopwatch: Stopwatch | None = None
) -> Draft:
    """A run for the archives under `keys`, which `look` has seen together. Without a stopwatch only earlier runs
    tell the time.

    Raises:
        SpecError: the time that is wished for is too short, or cannot be judged; or a name cannot be used.
    """
    wish = wish or Wish()
    model = place.model or wish.name or model_name(keys)
    run = free_name(wish.name or model, place.taken)
    settings, pace, basis = _timed(look, place, stopwatch)
    if wish.within is not None:
        settings = _fitted(settings, pace, wish.within, basis)
    seconds = round(pace.seconds(settings.steps)) if pace else None
    told = f"about {duration(seconds)} on {place.words}: {basis}" if seconds is not None else f"no estimate: {basis}"
    draft = Draft("", run, model, settings, seconds, basis)
    text = written(look, keys, place, draft_run=run, model=model, settings=settings, time=told)
    _check(text)
    return replace(draft, text=text)


def _timed(look: LintReport, place: Place, stopwatch: Stopwatch | None) -> tuple[Settings, Pace | None, str]:
    """The settings for the device that will train, and how fast it is."""
    pictures = (look.split or {}).get("train", 0)
    on_cpu, on_gpu = (
        choose(pictures=pictures, start=place.start, gpu=gpu, most_steps=place.most_steps) for gpu in (False, True)
    )
    # Of an earlier run on this machine nothing tells but its width whether it had a GPU.
    candidates = [on_cpu, on_gpu] if place.gpu is None else [on_gpu if place.gpu else on_cpu]
    for settings in candidates:
        pace = known_pace(place, settings)
        if pace is not None:
            return settings, pace, pace.basis
    if stopwatch is None or place.cluster:
        return candidates[0], None, NO_PACE_YET
    try:
        timing = stopwatch(on_cpu, on_gpu)
    except SpecError as error:
        return candidates[0], None, error.message
    pace = of_timing(timing)
    return (on_gpu if timing.accelerator == "gpu" else on_cpu), pace, pace.basis


def _fitted(settings: Settings, pace: Pace | None, within: float, basis: str) -> Settings:
    if pace is None:
        raise SpecError(f"how many steps fit into {duration(within)} cannot be said: {basis}")
    steps = pace.steps(within)
    if steps < LEAST_STEPS:
        least = duration(pace.seconds(LEAST_STEPS))
        raise SpecError(f"{duration(within)} are too short for a training: {LEAST_STEPS} steps take about {least}")
    return shortened(settings, steps)


def _check(text: str) -> None:
    """What `atoll validate` says.

    Raises:
        SpecError: it is not valid: a name that no object can have, a key that no archive can have.
    """
    problems = [str(problem) for manifest in read_text(text, source="run.yaml") for problem in manifest.problems]
    if problems:
        raise SpecError("; ".join(problems))
