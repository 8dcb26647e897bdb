"""What `python -m atoll_stages.train --time …` prints: how fast a machine trains a detector."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What was measured of `width` and `batch`. `seconds_per_step` is the mean over a run, whose first steps see
    smaller pictures; `other_seconds` are what train and export take beside the steps: loading, evaluations."""

    accelerator: str
    cpus: int
    width: float
    batch: int
    seconds_per_step: float
    other_seconds: float
