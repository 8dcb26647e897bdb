"""ModelReleases as objects of the API: the lock on a version number, and what became of it. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from atoll_contract.codec import to_dict
from atoll_contract.reasons import Reason
from atoll_operator.api import API_VERSION
from atoll_operator.plan import ReleaseReport, Reservation
from atoll_operator.status import rfc3339
from atoll_operator.views import ReleaseView

Body = Mapping[str, Any]

MODEL_LABEL = "atoll.dev/model"
RUN_LABEL = "atoll.dev/run"


def release_manifest(run: Body, reservation: Reservation) -> dict[str, Any]:
    """The ModelRelease whose creation takes the version. It has no owner: it outlives its run."""
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
    """The status of a ModelRelease whose manifest lies in the store."""
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
    """The highest version of `model` that anybody has reserved; 0 if there is none."""
    return max((int(item["spec"]["version"]) for item in releases if _is_of(item, model)), default=0)


def _is_of(release: Body, model: str) -> bool:
    # Labels can be changed by whoever may edit the object; the spec is immutable.
    return bool(release["spec"]["model"] == model)
