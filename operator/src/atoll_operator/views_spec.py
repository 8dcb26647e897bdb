"""The parts of `RunView` and `ProfileView` that the API's own objects hold. Pure; both engines use it."""

from collections.abc import Mapping
from typing import Any

from atoll_contract.stage import QualityGates, Stage
from atoll_operator.api.types import TrainingProfileSpec, TrainingRunSpec
from atoll_operator.status import parse_time
from atoll_operator.status_document import read_status
from atoll_operator.views import CompileChoice, ProfileView, RunView

RETRY_ANNOTATION = "atoll.dev/retry"


def run_view(document: Mapping[str, Any], spec: TrainingRunSpec) -> RunView:
    """The run as its own object shows it. The engine adds what lies around it (`dataclasses.replace`): `profile`,
    `missing`, `invalid`, `queue`, `release`, `highest_version`, `estimate`.

    Raises:
        DecodeError: the status has a field of the wrong type.
    """
    metadata = document["metadata"]
    policy = spec.run_policy
    return RunView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        created=parse_time(metadata["creationTimestamp"]),
        model=spec.model,
        channel=spec.channel,
        status=read_status(document.get("status")),
        suspend=spec.suspend,
        cancel=spec.cancel,
        retry=(metadata.get("annotations") or {}).get(RETRY_ANNOTATION),
        compile=tuple(CompileChoice(item.target, item.policy) for item in spec.compile),
        accelerator=spec.training.accelerator,
        gpus=spec.training.gpus,
        quality_gated=spec.quality != QualityGates(),
        backoff_limit=policy.backoff_limit,
        active_deadline_seconds=policy.active_deadline_seconds,
        ttl_seconds=policy.ttl_seconds_after_finished,
        job_ttl_seconds=policy.job_ttl_seconds_after_finished,
    )


def profile_view(
    name: str, spec: TrainingProfileSpec, *, revision: str, digest: str, gpu_offered: bool | None
) -> ProfileView:
    """The resolved profile. `revision` names its snapshot, `digest` is the snapshot's `sha256:<hex>`."""
    return ProfileView(
        name=name,
        revision=revision,
        digest=digest,
        max_concurrent_runs=spec.max_concurrent_runs,
        pending_seconds=spec.limits.pending_deadline_seconds,
        active_seconds=spec.limits.active_deadline_seconds,
        has_compiler=spec.images.compile is not None,
        gpu_offered=gpu_offered,
        cpus={
            stage: cpus(spec.resources[stage].requests.get("cpu", "0")) for stage in Stage if stage in spec.resources
        },
    )


def cpus(quantity: str) -> float:
    """A CPU quantity (`2`, `500m`, `0.5`) as a number; one that is none counts as 0."""
    number, unit = (quantity[:-1], 0.001) if quantity.endswith("m") else (quantity, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        return 0.0
