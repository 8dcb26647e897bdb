"""What the provenance of a run's release says of its making: settings, profile, images and start weights. Pure."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from atoll_contract.document import to_json
from atoll_contract.stage import BuildInputs, CompilePolicy, Stage
from atoll_contract.train_spec import StartWeights
from atoll_operator.api.types import TrainingProfileSpec, TrainingRunSpec

# What may change on a run, and so is no part of its identity.
MUTABLE = ("suspend", "cancel", "holdPublish", "runPolicy")


def build_inputs(
    spec: TrainingRunSpec, profile: TrainingProfileSpec, start: StartWeights, *, gpu: bool, local: bool
) -> BuildInputs:
    """`gpu`: the run trained on one. With `local` no image ran, whatever the profile says."""
    fixed = {name: value for name, value in _plain(spec).items() if name not in MUTABLE}
    return BuildInputs(
        spec=fixed,
        start_weights=start,
        images={} if local else dict(_images(spec, profile, gpu=gpu)),
        profile_sha256=hashlib.sha256(to_json(_plain(profile))).hexdigest(),
    )


def _images(spec: TrainingRunSpec, profile: TrainingProfileSpec, *, gpu: bool) -> Iterator[tuple[str, str]]:
    for stage in (Stage.CONVERT, Stage.TRAIN, Stage.EXPORT, Stage.PUBLISH):
        image = profile.images.of(stage, gpu=gpu)
        if image is not None:
            yield str(stage), image
    for wanted in spec.compile:
        image = profile.images.of(Stage.COMPILE, target=wanted.target)
        if image is not None and wanted.policy is not CompilePolicy.DISABLED:
            yield f"{Stage.COMPILE}-{wanted.target}", image


def _plain(spec: msgspec.Struct) -> Any:
    """A typed spec as JSON has it, without what is not set; a decimal is a string, as in the API."""
    return _set_fields(msgspec.json.decode(msgspec.json.encode(spec, enc_hook=str)))


def _set_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _set_fields(item) for name, item in value.items() if item is not None}
    return [_set_fields(item) for item in value] if isinstance(value, list) else value
