"""Where a drafted run is meant to run, and what is known there that its settings depend on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll_operator.api.types import ProfileEstimate
from atoll_operator.draft.settings import MOST_STEPS, Start

# What a run names where it names nothing.
DEFAULT_REF = "default"


@dataclass(frozen=True)
class Place:
    """`runs` are the TrainingRuns there, with their status; `taken` their names. `gpu` is None where only a timing
    can tell (this machine). `model` is given where the start decides it: a release goes on under its own name."""

    words: str
    namespace: str
    cluster: bool
    start: Start
    start_words: str
    runs: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    taken: frozenset[str] = frozenset()
    gpu: bool | None = None
    most_steps: int = MOST_STEPS
    model: str | None = None
    profile: str = DEFAULT_REF
    # What the profile says of the time, as long as no run has told.
    estimate: ProfileEstimate | None = None
    object_store: str = DEFAULT_REF
