"""A cluster as the place of a run: its profile, the runs of its namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atoll_contract.errors import SpecError
from atoll_contract.manifest import release_parts
from atoll_contract.reasons import Reason
from atoll_contract.stage import InitFrom
from atoll_operator.api.parse import training_profile
from atoll_operator.api.types import TrainingProfileSpec
from atoll_operator.draft.local_place import release_start
from atoll_operator.draft.place import DEFAULT_REF, Place
from atoll_operator.draft.settings import MOST_STEPS, Start
from atoll_operator.kube.errors import Forbidden

if TYPE_CHECKING:
    from atoll_operator.kube.cluster import Cluster

# Of the ImageNet weights that a train image can be built with (images/external.lock).
IMAGE_WIDTH = 1.0


def cluster_place(
    cluster: Cluster,
    namespace: str,
    *,
    release: str | None,
    profile: str = DEFAULT_REF,
    object_store: str = DEFAULT_REF,
) -> Place:
    """The cluster as its user sees it; what this user may not read is taken as not there.

    Raises:
        SpecError: there is no such release, or the run that made it is gone.
        ClusterError: the API server does not answer, or refuses to list the namespace's runs.
    """
    from atoll_operator.kube.resources import RUNS

    runs = tuple(cluster.list_all(RUNS, namespace))
    found, unknown = _profile(cluster, profile)
    resource = _gpu(cluster, found)
    offer = f"which offers {resource}" if resource else unknown or "on CPUs"
    start, start_words, model = _start(cluster, namespace, runs, release)
    return Place(
        f"TrainingProfile {profile}, {offer}",
        namespace,
        cluster=True,
        start=start,
        start_words=start_words,
        runs=runs,
        taken=frozenset(str(run["metadata"]["name"]) for run in runs),
        gpu=resource is not None,
        most_steps=min(MOST_STEPS, found.limits.max_steps) if found else MOST_STEPS,
        model=model,
        profile=profile,
        estimate=found.estimate if found else None,
        object_store=object_store,
    )


def _profile(cluster: Cluster, name: str) -> tuple[TrainingProfileSpec | None, str]:
    """The profile, or words on why it is not known."""
    from atoll_operator.kube.resources import PROFILES

    try:
        body = cluster.read(PROFILES, None, name)
    except Forbidden:
        return None, "which you may not read, so it is taken for one with CPUs"
    return (training_profile(body), "") if body is not None else (None, "which does not exist yet")


def _gpu(cluster: Cluster, profile: TrainingProfileSpec | None) -> str | None:
    """The profile's GPU resource, where it has an image for it and a node offers one. A user who may not list nodes
    takes the profile's word."""
    from atoll_operator.kube.resources import NODES

    if profile is None or profile.images.train_gpu is None:
        return None
    try:
        nodes = cluster.list_all(NODES)
    except Forbidden:
        return profile.gpu_resource
    amounts = [((node.get("status") or {}).get("allocatable") or {}).get(profile.gpu_resource, "0") for node in nodes]
    return profile.gpu_resource if any(amount not in ("", "0") for amount in amounts) else None


def _start(
    cluster: Cluster, namespace: str, runs: tuple[Mapping[str, Any], ...], release: str | None
) -> tuple[Start, str, str | None]:
    if release is None:
        if _lacks_weights(runs):
            return Start(InitFrom.RANDOM), "the last run from imagenet ended with WeightsNotFound", None
        words = 'if a run ends with WeightsNotFound: atoll push --weights FILE, or "random" and twice the steps'
        return Start(InitFrom.IMAGENET, width=IMAGE_WIDTH), words, None
    from atoll_operator.kube.resources import RELEASES

    model, _ = release_parts(release)
    found = cluster.read(RELEASES, namespace, release)
    if found is None:
        raise SpecError(f"there is no ModelRelease {release} in namespace {namespace} (see atoll releases)")
    made_by = next((run for run in runs if run["metadata"]["uid"] == found["spec"]["runRef"].get("uid")), None)
    return release_start(release, made_by), f"goes on from {release}; its architecture and width must stay", model


def _lacks_weights(runs: tuple[Mapping[str, Any], ...]) -> bool:
    """Whether the newest run that said anything of ImageNet weights missed them."""
    told = []
    for run in runs:
        if run["spec"].get("training", {}).get("initFrom", {}).get("type", "imagenet") != InitFrom.IMAGENET:
            continue
        status = run.get("status") or {}
        stages = {item.get("name"): item for item in status.get("stages") or ()}
        if status.get("reason") == Reason.WEIGHTS_NOT_FOUND:
            told.append((run["metadata"]["creationTimestamp"], True))
        elif stages.get("train", {}).get("phase") == "Succeeded":
            told.append((run["metadata"]["creationTimestamp"], False))
    return max(told)[1] if told else False
