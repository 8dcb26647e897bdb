"""Functions that decode TrainingRun, ObjectStore and TrainingProfile into their types.

They take a whole object as the API server stores it: validated and with its defaults (`validation.check` does both to
a document from a file).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from atoll_contract.document import DecodeError, learn, replace
from atoll_contract.errors import SpecError
from atoll_contract.stage import Stage
from atoll_contract.train_spec import SEED_NAMES
from atoll_operator.api.object_store import DIRECTORY_ANNOTATION, ObjectStoreSpec
from atoll_operator.api.types import Body, TrainingProfileSpec, TrainingRunSpec

T = TypeVar("T")


def training_run(document: Body) -> TrainingRunSpec:
    """The spec of a TrainingRun.

    Raises:
        SpecError: a hyperparameter's number is out of its range.
        DecodeError: the object is not validated and defaulted.
    """
    return decoded(TrainingRunSpec, document["spec"], kind="TrainingRun", prepare=_with_named_hyperparameters)


def object_store(document: Body) -> ObjectStoreSpec:
    """The spec of an ObjectStore. Raises DecodeError."""
    directory = (document.get("metadata", {}).get("annotations") or {}).get(DIRECTORY_ANNOTATION)
    store = decoded(ObjectStoreSpec, document["spec"], kind="ObjectStore")
    return replace(store, directory=Path(directory)) if directory else store


def training_profile(document: Body) -> TrainingProfileSpec:
    """The spec of a TrainingProfile, also of a snapshot that another version has kept. Raises DecodeError."""
    return decoded(TrainingProfileSpec, document["spec"], kind="TrainingProfile", prepare=_with_known_stages)


def decoded(cls: type[T], spec: Body, *, kind: str, prepare: Callable[[Body], Body] = lambda spec: spec) -> T:
    """A spec of this kind as its type; what `prepare` makes of it is decoded. Raises DecodeError."""
    try:
        return _converted(cls, prepare(spec))
    except (KeyError, msgspec.ValidationError):
        # An object that was stored under an older CRD lacks the fields that came later.
        spec = _defaulted(kind, spec)
    try:
        return _converted(cls, prepare(spec))
    except msgspec.ValidationError as error:
        raise DecodeError(f"spec: {error}") from None
    except KeyError as error:
        raise DecodeError(f"spec: Object missing required field `{error.args[0]}`") from None


def _converted(cls: type[T], spec: Body) -> T:
    learn(cls)
    # Not strict, as 1.0 is an integer to the API.
    return msgspec.convert(spec, cls, strict=False, dec_hook=_custom)


def _defaulted(kind: str, spec: Body) -> Body:
    """`spec` with the defaults of this version's CRD. The libraries for that are loaded only where they are needed."""
    from atoll_operator.api.crds import definitions
    from atoll_operator.api.defaults import defaulted

    filled: Body = defaulted({"spec": dict(spec)}, definitions()[kind].schema)["spec"]
    return filled


def _custom(kind: type[T], value: Any) -> T:
    """`value` as a type that msgspec does not know."""
    return kind(value)  # type: ignore[call-arg]


def _with_known_stages(spec: Body) -> Body:
    """A profile's `spec` without resources for stages of a newer version."""
    resources = spec["resources"]
    return {**spec, "resources": {name: value for name, value in resources.items() if name in tuple(Stage)}}


def _with_named_hyperparameters(spec: Body) -> Body:
    return {**spec, "training": _without_seed_names(spec["training"])}


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
