"""Objects of the API as typed specs.

The functions take a whole object as the API server stores it: validated and with its defaults (`validation.check`
does both to a document from a file).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from atoll_contract.document import DecodeError, replace
from atoll_contract.errors import SpecError
from atoll_contract.stage import SEED_NAMES
from atoll_operator.api.types import Body, ObjectStoreSpec, TrainingProfileSpec, TrainingRunSpec

T = TypeVar("T")

# A folder as the store; only the embedded engine understands it.
DIRECTORY_ANNOTATION = "atoll.dev/directory"


def training_run(document: Body) -> TrainingRunSpec:
    """The spec of a TrainingRun.

    Raises:
        SpecError: a hyperparameter's number is out of its range.
        DecodeError: the object is not validated and defaulted.
    """
    spec = document["spec"]
    return _decoded(TrainingRunSpec, {**spec, "training": _without_seed_names(spec["training"])})


def object_store(document: Body) -> ObjectStoreSpec:
    """The spec of an ObjectStore. Raises DecodeError."""
    directory = (document.get("metadata", {}).get("annotations") or {}).get(DIRECTORY_ANNOTATION)
    store = _decoded(ObjectStoreSpec, document["spec"])
    return replace(store, directory=Path(directory)) if directory else store


def training_profile(document: Body) -> TrainingProfileSpec:
    """The spec of a TrainingProfile. Raises DecodeError."""
    return _decoded(TrainingProfileSpec, document["spec"])


def plain_digest(digest: str) -> str:
    """`sha256:<hex>` as the API writes it without its prefix, as documents and keys do."""
    return digest.removeprefix("sha256:")


def violation(run: TrainingRunSpec, profile: TrainingProfileSpec, *, profile_name: str) -> str | None:
    """The first limit of `profile` that `run` exceeds, as a sentence; None where it keeps within all."""
    limits = profile.limits
    if run.training.steps > limits.max_steps:
        return (
            f"{run.training.steps} training steps exceed the {limits.max_steps} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxSteps"
        )
    deadline = run.run_policy.active_deadline_seconds
    if deadline is not None and deadline > limits.active_deadline_seconds:
        return (
            f"a deadline of {deadline} s exceeds the {limits.active_deadline_seconds} s of TrainingProfile "
            f"{profile_name}; copy the run with a shorter one, or ask the cluster's administrator to raise "
            "limits.activeDeadlineSeconds"
        )
    return None


def _decoded(cls: type[T], spec: Body) -> T:
    try:
        # Not strict: decimals are strings in the API.
        return msgspec.convert(spec, cls, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"spec: {error}") from None


def _without_seed_names(training: Body) -> dict[str, Any]:
    """`training` with the fields that its hyperparameters give by the seed's names, and the rest of them."""
    given: Mapping[str, str] = training["hyperparameters"]
    named = {field: _first(given, names, maximum) for field, (names, maximum) in SEED_NAMES.items()}
    known = {name for names, _ in SEED_NAMES.values() for name in names}
    rest = {name: value for name, value in given.items() if name not in known}
    return {**{field: number for field, number in named.items() if number}, **training, "hyperparameters": rest}


def _first(values: Mapping[str, str], names: tuple[str, ...], maximum: int) -> int | None:
    """The number under the first of `names` that is given."""
    name = next((name for name in names if name in values), None)
    if name is None:
        return None
    text = values[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= maximum):
        raise SpecError(
            f'spec.training.hyperparameters["{name}"] is {text[:40]!r}; it must be a whole number from 1 to {maximum}'
        )
    return int(text)
