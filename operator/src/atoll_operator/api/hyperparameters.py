"""The hyperparameter names of WPILib's CoralSagemaker and Axon, whose values are always strings."""

from collections.abc import Mapping
from dataclasses import dataclass

from atoll_contract.errors import SpecError

# The seed's "epochs" are training steps, in every version of it.
STEPS_NAMES = ("train-steps", "train_steps", "num_steps", "epochs")
BATCH_SIZE_NAMES = ("batch_size", "batch-size")
EVAL_NAMES = ("eval-frequency", "eval_frequency")

MAX_STEPS = 10_000_000
MAX_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Hyperparameters:
    """What the names came to, and `rest`: those that no typed field stands for."""

    steps: int | None
    batch_size: int | None
    eval_every_steps: int | None
    rest: Mapping[str, str]


def read_hyperparameters(values: Mapping[str, str]) -> Hyperparameters:
    """The numbers among `values`; where two names mean the same, the first of its list counts.

    Raises:
        SpecError: a value is no whole number in its range.
    """
    understood = {*STEPS_NAMES, *BATCH_SIZE_NAMES, *EVAL_NAMES}
    return Hyperparameters(
        steps=_first(values, STEPS_NAMES, maximum=MAX_STEPS),
        batch_size=_first(values, BATCH_SIZE_NAMES, maximum=MAX_BATCH_SIZE),
        eval_every_steps=_first(values, EVAL_NAMES, maximum=MAX_STEPS),
        rest={name: value for name, value in values.items() if name not in understood},
    )


def _first(values: Mapping[str, str], names: tuple[str, ...], *, maximum: int) -> int | None:
    name = next((name for name in names if name in values), None)
    if name is None:
        return None
    text = values[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= maximum):
        raise SpecError(
            f'spec.training.hyperparameters["{name}"] is {text[:40]!r}; it must be a whole number from 1 to {maximum}'
        )
    return int(text)
