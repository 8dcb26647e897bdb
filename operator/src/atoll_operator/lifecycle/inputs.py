"""From objects of the API to the inputs of `decide`, and the ModelRelease of a run. Pure; both engines use it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from atoll_contract.document import rfc3339, to_dict
from atoll_contract.errors import Reason
from atoll_contract.stage import Stage
from atoll_operator.api import API_VERSION
from atoll_operator.api.status import parse_time
from atoll_operator.api.status_codec import read_status
from atoll_operator.api.types import Body, Quality, TrainingProfileSpec, TrainingRunSpec
from atoll_operator.lifecycle.model import CompileChoice, ProfileView, ReleaseView, RunView
from atoll_operator.lifecycle.plan import ReleaseReport, Reservation

RETRY_ANNOTATION = "atoll.dev/retry"
# Why a run is suspended, by whoever suspended it.
SUSPEND_REASON_ANNOTATION = "atoll.dev/suspend-reason"
MODEL_LABEL = "atoll.dev/model"
RUN_LABEL = "atoll.dev/run"


def run_view(document: Body, spec: TrainingRunSpec) -> RunView:
    """The run from its own object. The engine adds (`replace`) `profile`, `missing`, `invalid`, `queue`, `release`,
    `highest_version` and `estimate`.

    Raises:
        DecodeError: the status has a field of the wrong type.
    """
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    policy = spec.run_policy
    return RunView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        created=parse_time(metadata["creationTimestamp"]),
        model=spec.publish.model,
        channel=spec.publish.channel,
        status=read_status(document.get("status")),
        suspend=spec.suspend,
        cancel=spec.cancel,
        hold_publish=spec.hold_publish,
        retry=annotations.get(RETRY_ANNOTATION),
        suspend_reason=annotations.get(SUSPEND_REASON_ANNOTATION, ""),
        compile=tuple(CompileChoice(item.target, item.policy) for item in spec.compile),
        accelerator=spec.training.accelerator,
        gpus=spec.training.gpus,
        workers=spec.training.workers,
        quality_gated=spec.quality != Quality(),
        backoff_limit=policy.backoff_limit,
        active_deadline_seconds=policy.active_deadline_seconds,
        ttl_seconds=policy.ttl_seconds_after_finished,
        job_ttl_seconds=policy.job_ttl_seconds_after_finished,
        profile_name=spec.profile,
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
        compilers=frozenset(spec.images.of_targets),
        has_publish_service_account=spec.service_accounts.publish != spec.service_accounts.stage,
        gpu_offered=gpu_offered,
        cpus={
            stage: cpus(str(spec.resources[stage].requests.get("cpu", 0))) for stage in Stage if stage in spec.resources
        },
    )


def cpus(quantity: str) -> float:
    """A CPU quantity (`2`, `500m`, `0.5`) as a number; 0 where it is not one."""
    number, unit = (quantity[:-1], 0.001) if quantity.endswith("m") else (quantity, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        return 0.0


def release_manifest(run: Body, reservation: Reservation) -> dict[str, Any]:
    """The ModelRelease whose creation reserves the version. It has no owner, so that it outlives its run."""
    metadata = run["metadata"]
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelRelease",
        "metadata": {
            "name": reservation.name,
            "namespace": metadata["namespace"],
            "labels": {MODEL_LABEL: reservation.model, RUN_LABEL: metadata["name"]},
        },
        "spec": {
            "model": reservation.model,
            "version": reservation.version,
            "channel": reservation.channel,
            "runRef": {"name": metadata["name"], "uid": metadata["uid"]},
            "objectStoreRef": {"name": run["spec"]["objectStoreRef"]["name"]},
            "modelDigest": reservation.model_digest,
        },
    }


def published_status(report: ReleaseReport, *, now: datetime) -> dict[str, Any]:
    """The status of a ModelRelease whose manifest is in the store."""
    condition = {
        "type": "Published",
        "status": "True",
        "reason": str(Reason.COMPLETED),
        "message": f"the manifest lies under {report.manifest.key}",
        "lastTransitionTime": rfc3339(now),
        "observedGeneration": 1,
    }
    return {
        "published": True,
        "manifest": to_dict(report.manifest),
        "ap50": report.ap50,
        "tpu": report.tpu,
        **({"targets": report.targets} if report.targets else {}),
        "conditions": [condition],
    }


def own_release(releases: Iterable[Body], *, model: str, run_uid: str) -> ReleaseView | None:
    """The highest version of `model` that the run with this UID has reserved."""
    own = [item for item in releases if _is_of(item, model) and item["spec"]["runRef"]["uid"] == run_uid]
    highest = max(own, key=lambda item: int(item["spec"]["version"]), default=None)
    if highest is None:
        return None
    published = bool((highest.get("status") or {}).get("published"))
    return ReleaseView(highest["metadata"]["name"], int(highest["spec"]["version"]), published)


def highest_version(releases: Iterable[Body], *, model: str) -> int:
    """The highest version of `model` that any run has reserved; 0 if there is none."""
    return max((int(item["spec"]["version"]) for item in releases if _is_of(item, model)), default=0)


def _is_of(release: Body, model: str) -> bool:
    # A user can change labels; the spec is immutable.
    return bool(release["spec"]["model"] == model)
